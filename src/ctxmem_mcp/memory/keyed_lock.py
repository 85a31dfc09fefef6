"""Locks by key, for conversations that are written by this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from types import TracebackType


class KeyedLock:
    """A lock per key, which exists only while a caller holds it or waits for it."""

    def __init__(self, locks: dict[str, tuple[anyio.Lock, int]], key: str) -> None:
        self._locks, self._key = locks, key

    async def __aenter__(self) -> None:
        # fast_acquire: one round of the event loop costs as much as hashing a turn.
        lock, users = self._locks.get(self._key) or (anyio.Lock(fast_acquire=True), 0)
        self._locks[self._key] = (lock, users + 1)
        try:
            await lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._locks[self._key][0].release()
        self._leave()

    def _leave(self) -> None:
        lock, users = self._locks[self._key]
        if users == 1:
            del self._locks[self._key]
        else:
            self._locks[self._key] = (lock, users - 1)
