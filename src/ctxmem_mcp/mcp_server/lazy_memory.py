"""The memory of a server, opened by the first call that needs it: `initialize` is responded to before that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory

Opener = Callable[[], "AbstractAsyncContextManager[Memory]"]

# A server that is never called opens its memory after this long, so that expired conversations are removed even then.
IDLE_OPEN_SECONDS = 5.0

_log = logging.getLogger(__name__)


class LazyMemory:
    """A memory, or an opener that is entered by the first `get` and left when this is."""

    def __init__(self, memory: Memory | Opener, idle_seconds: float = IDLE_OPEN_SECONDS) -> None:
        """Creates a memory that is opened later.

        Args:
            memory: The memory, or its opener.
            idle_seconds: The opener is entered after this long, even if nobody calls `get`.
        """
        self._opener: Opener | None = memory if callable(memory) else None
        self._memory: Memory | None = None if callable(memory) else memory
        self._exits = AsyncExitStack()
        self._idle_seconds = idle_seconds
        self._lock = asyncio.Lock()
        self._idle_open: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._memory is not None

    async def get(self) -> Memory:
        """The memory. An error raised while opening is raised here, and the next call tries again."""
        if self._memory is None:
            async with self._lock:
                if self._memory is None and self._opener is not None:
                    self._memory = await self._exits.enter_async_context(self._opener())
        assert self._memory is not None
        return self._memory

    async def __aenter__(self) -> Self:
        if self._memory is None:
            self._idle_open = asyncio.create_task(self._open_when_idle(), name="ctxmem opening")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._idle_open is not None:
            self._idle_open.cancel()
            with suppress(asyncio.CancelledError):
                await self._idle_open
        await self._exits.aclose()

    async def _open_when_idle(self) -> None:
        await asyncio.sleep(self._idle_seconds)
        try:
            await self.get()
        except Exception as error:
            _log.warning("The memory can't be opened: %s", error)


def unrestricted(memory: Memory, _: object) -> Memory:
    """Returns the memory itself: a client over stdio may use all of it."""
    return memory


class RequestMemory:
    """The memory of a server, as the HTTP request that a message came with may use it."""

    def __init__(self, memory: LazyMemory, restrict: Callable[[Memory, object], Memory]) -> None:
        self._memory, self._restrict = memory, restrict

    async def of(self, request: object) -> Memory:
        """Returns the memory for a request; None over stdio."""
        return self._restrict(await self._memory.get(), request)
