"""Reverts and changes of a conversation's retention, space and title, each one optimistic commit."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from ctxmem_mcp.agents import session_of_output
from ctxmem_mcp.errors import HeadMoved
from ctxmem_mcp.memory.expiry import ANY_TIME, with_retention
from ctxmem_mcp.memory.id_resolver import IdResolver
from ctxmem_mcp.memory.writer_core import TRIES, WriterCore, pause_before_retry, too_busy
from ctxmem_mcp.stores.records import State


class StateChanges(WriterCore):
    """Changes a conversation's state, and stores no turns."""

    async def revert(self, conversation_id: str, turn_id: str) -> tuple[State, int]:
        """Moves the head; returns the state before, and the new head's seq."""
        async with self.locked(conversation_id):
            for _ in range(TRIES):
                state = await self._load(conversation_id)
                seq = await IdResolver(self._store, state).turn_seq(turn_id)
                try:
                    if seq != state.head:
                        await self._move_head(state, seq)
                    return state, seq
                except HeadMoved:
                    await pause_before_retry()
        raise too_busy(conversation_id)

    async def advance_head(self, conversation_id: str, before: str, turn_id: str) -> bool:
        """Moves the head from one turn to another; returns False, and moves nothing, if it is elsewhere."""

        async def change(state: State) -> State:
            ids = IdResolver(self._store, state)
            if await ids.turn_seq(before) != state.head:
                return state
            return await self._move_head(state, await ids.turn_seq(turn_id))

        moved = await self._retry_on_conflict(conversation_id, change)
        return moved.head == await IdResolver(self._store, moved).turn_seq(turn_id)

    async def extend_retention(self, conversation_id: str, days: int, updated: float, expires: float) -> State:
        """Keeps a conversation at least as long as another copy of it is kept."""

        async def change(state: State) -> State:
            longer = replace(
                state,
                retention_days=max(days, state.retention_days),
                updated=max(updated, state.updated),
                expires=max(expires, state.expires),
            )
            return state if longer == state else await self._move_head(longer, state.head)

        return await self._retry_on_conflict(conversation_id, change)

    async def set_retention(self, conversation_id: str, days: int) -> State:
        def change(state: State) -> Awaitable[State]:
            return self._move_head(with_retention(state, days), state.head)

        return await self._retry_on_conflict(conversation_id, change)

    async def follow_session(self, conversation_id: str) -> bool:
        """Gives the whole of an output the retention and the expiry of its session. Returns whether that is stored."""
        session_id = session_of_output(conversation_id)
        if session_id is None:
            return False
        async with self.locked(conversation_id):
            for _ in range(TRIES):
                session = await self._store.load(session_id, ANY_TIME)
                if session is None:
                    return False
                state = await self._store.load(conversation_id, ANY_TIME)
                if state is None:
                    return True
                days, updated, expires = session.retention_days, session.updated, session.expires
                followed = replace(state, retention_days=days, updated=updated, expires=expires)
                try:
                    if followed != state:
                        await self._move_head(followed, state.head)
                    return True
                except HeadMoved:
                    await pause_before_retry()
        raise too_busy(conversation_id)

    async def set_space(self, conversation_id: str, space: str | None) -> State:
        def change(state: State) -> Awaitable[State]:
            return self._move_head(replace(state, space=space), state.head)

        return await self._retry_on_conflict(conversation_id, change)

    async def set_title(self, conversation_id: str, title: str) -> State:
        async def change(state: State) -> State:
            await self._require_index(state, state.next_seq - 1)  # turns that were stored before may name it again
            return state if state.title == title else await self._move_head(replace(state, title=title), state.head)

        return await self._retry_on_conflict(conversation_id, change)
