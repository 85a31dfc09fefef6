"""Notifies the processes on one database of each other's commits, by LISTEN and NOTIFY.

Each process has one connection that listens, while somebody watches. A commit is announced after its transaction:
inside, PostgreSQL would let only one transaction at a time commit, and wait for the disk, on the whole server. If the
process ends in between, that one announcement is lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from ctxmem_mcp.results import Change

if TYPE_CHECKING:
    from ctxmem_mcp.stores.postgres.database import Connection

Listener = Callable[[Change], Awaitable[None]]

CHANNEL = "ctxmem_changes"
NOTIFY = f"SELECT pg_notify('{CHANNEL}', %(payload)s)"
# PostgreSQL refuses payloads of 8,000 bytes.
PAYLOAD_BYTES_MAX = 7_999
# A lost connection is opened again after pauses up to this.
PAUSE_SECONDS_MAX = 5.0

_log = logging.getLogger(__name__)


async def announce(connection: Connection, principal: str, change: Change) -> None:
    """Notifies all listening processes. If that fails, only logs it: the change itself is stored."""
    payload = json.dumps([_key(principal), change.conversation_id, change.list_changed])
    if len(payload) > PAYLOAD_BYTES_MAX:
        payload = json.dumps([_key(principal), None, True])
    try:
        await connection.execute(NOTIFY, {"payload": payload})
    except psycopg.Error as error:
        _log.info("Other servers were not notified of a change: %s", error)


def _key(principal: str) -> str:
    """Short, and no name: every role that may connect to the database may listen."""
    return hashlib.blake2b(principal.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class ChangeFeed:
    """The process's listening connection. It is open while there are listeners, and opened again when it is lost."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        """connect: opens a connection of its own, in autocommit mode."""
        self._connect = connect
        self._listeners: dict[object, tuple[str, Listener]] = {}
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()

    async def watch(self, principal: str, listener: Listener) -> Callable[[], None]:
        """Calls a listener with each change of the principal's conversations, until the returned function is called.

        It returns once the process listens. If the server can't be reached, it returns as well, and listens later: the
        listener is then called with a change of no single conversation, as after every gap.
        """
        token = object()

        def stop() -> None:
            self._listeners.pop(token, None)
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

        self._listeners[token] = (_key(principal), listener)
        if self._task is None:
            self._tried = asyncio.Event()
            self._task = asyncio.create_task(self._run(self._tried), name="ctxmem changes")
        try:
            await self._tried.wait()
        except asyncio.CancelledError:
            stop()
            raise
        return stop

    async def close(self) -> None:
        """Ends all watching."""
        self._listeners.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self, tried: asyncio.Event) -> None:
        try:
            await self._listen(tried)
        finally:
            tried.set()

    async def _listen(self, tried: asyncio.Event) -> None:
        pause, may_have_missed = 0.0, False
        while True:
            try:
                async with await self._connect() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    tried.set()
                    if may_have_missed:
                        await self._dispatch(None, Change(None, True))
                    pause = 0.0
                    async for notification in connection.notifies():
                        key, conversation_id, list_changed = json.loads(notification.payload)
                        await self._dispatch(key, Change(conversation_id, list_changed))
            except (psycopg.Error, OSError) as error:
                if not pause:
                    _log.warning("Changes by other servers are not noticed until the database is back: %s", error)
            tried.set()
            may_have_missed = True
            await asyncio.sleep(pause)
            pause = min(PAUSE_SECONDS_MAX, 2 * pause + 0.1)

    async def _dispatch(self, key: str | None, change: Change) -> None:
        """Calls the listeners of a principal; key None: all."""
        for principal, listener in list(self._listeners.values()):
            if key in (None, principal):
                try:
                    await listener(change)
                except Exception:  # one listener does not end the others' notifications
                    _log.exception("A listener failed.")
