"""Lets a process commit to a busy conversation although another process writes faster.

A commit is computed from the version before it. The process that committed last has that version at hand and reads
nothing, so it is ready again before the others and could win for as long as it writes. So a process that has failed
some times leaves a note in the conversation, and a process that finds the note of another one pauses until it is gone.
"""

from __future__ import annotations

import secrets
import time
from contextlib import suppress

import anyio

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.memory.expiry import ANY_TIME
from ctxmem_mcp.stores.base import Store

# The key of the extra that holds the note.
WAITING = "commit_waiter"
# A writer leaves a note after every so many failures.
FAILURES = 3
# A writer looks for a note once in so many seconds, so that appends in a row cost no read each.
LOOK_SECONDS = 0.1
# A writer pauses for a note at most so long. Then it removes the note: its author may have been killed.
PAUSE_SECONDS, POLL_SECONDS = 2.0, 0.01
_CACHED = 1_000


class WaitingNotes:
    """The notes of one store's conversations. A note is a hint: a commit is right with and without it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looked: LRU[str, float] = LRU(_CACHED)
        self._own: LRU[str, bytes] = LRU(_CACHED)

    async def leave(self, conversation_id: str, failures: int) -> None:
        """Leaves a note if a writer has failed so often that it is time."""
        if failures % FAILURES:
            return
        note = secrets.token_bytes(8)
        with suppress(CtxmemError):  # the conversation does not exist yet, or not any more
            await self._store.set_extra(conversation_id, WAITING, note, ANY_TIME)
            self._own[conversation_id] = note

    async def remove_own(self, conversation_id: str) -> None:
        """Removes the note that this process has left, unless another one replaced it."""
        note = self._own.pop(conversation_id, None)
        if note is not None:
            await self._remove(conversation_id, note)

    async def give_way(self, conversation_id: str) -> None:
        """Pauses while another process waits to commit to the conversation."""
        now = time.monotonic()
        if now - self._looked.get(conversation_id, float("-inf")) < LOOK_SECONDS:
            return
        self._looked[conversation_id] = now
        with suppress(CtxmemError):
            note = await self._store.extra(conversation_id, WAITING)
            if note is None or note == self._own.get(conversation_id):
                return
            while await self._store.extra(conversation_id, WAITING) == note:
                if time.monotonic() - now > PAUSE_SECONDS:
                    await self._remove(conversation_id, note)
                    return
                await anyio.sleep(POLL_SECONDS)

    async def _remove(self, conversation_id: str, note: bytes) -> None:
        with suppress(CtxmemError):
            if await self._store.extra(conversation_id, WAITING) == note:
                await self._store.set_extra(conversation_id, WAITING, None, ANY_TIME)
