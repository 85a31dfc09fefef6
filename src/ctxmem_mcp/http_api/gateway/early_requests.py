"""Requests of a run of `wrap` that came before any hook had named their session, until the session has them.

An agent that names no session in its requests may send one before its hooks have run: a hook took longer than the agent
waits, or has not started yet. Such a request is stored in a conversation of its own. Once a later request repeats its
words as a session's, or at the end of the run the session has them from its transcript, they are stored in the
session's conversation, and the other conversation is removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctxmem_mcp.errors import Forgotten, UnknownConversation
from ctxmem_mcp.http_api.gateway.agent_session import LineTurn, SessionAlignment, align_session
from ctxmem_mcp.http_api.gateway.provider import Provider
from ctxmem_mcp.http_api.gateway.request_storage import RequestStorage, StoredConversation
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.models import NewTurn

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.models import Turn

# Conversations that are remembered.
CONVERSATIONS_MAX = 64
# How long the request that repeats an answer may wait until the answer is stored. One that broke off never is.
ANSWER_SECONDS = 1.0

# Called when a session has all words of another conversation, with the memory, that conversation and the session's.
OnMoved = Callable[["Memory", str, str], Awaitable[None]]


@dataclass(slots=True)
class _Early:
    """A conversation. opening: its first words, as in a transcript; is_answered: no answer to a request is missing."""

    conversation_id: str
    provider: Provider
    opening: NewTurn
    is_answered: asyncio.Event = field(default_factory=asyncio.Event)


class EarlyRequests:
    """The conversations of one run and principal that no session has. Losing them costs nothing but their removal."""

    def __init__(self, on_moved: OnMoved) -> None:
        self._on_moved = on_moved
        self._conversations: LRU[str, _Early] = LRU(CONVERSATIONS_MAX)
        self._lock = asyncio.Lock()

    def add(self, conversation: StoredConversation, provider: Provider) -> None:
        """Adds the conversation of a request that belongs to no session so far."""
        opening = _opening([provider.as_in_transcript(turn) for turn in conversation.turns])
        if opening is not None:
            early = _Early(conversation.conversation_id, provider, opening)
            self._conversations.setdefault(early.conversation_id, early).is_answered.clear()

    def add_answer(self, conversation_id: str) -> None:
        """Notes that the answer to the last request of a conversation is stored."""
        if early := self._conversations.get(conversation_id):
            early.is_answered.set()

    async def move(
        self, memory: Memory, principal: str, sessions: Sequence[str], turns: Sequence[NewTurn], storage: RequestStorage
    ) -> None:
        """Stores the conversations that a session's request repeats in the session's.

        Args:
            memory: where they are stored.
            principal: whose memory it is.
            sessions: the conversations of the run's sessions, the latest first.
            turns: the turns of the request, as in a transcript.
            storage: stores them.
        """
        opening = _opening(turns)
        async with self._lock:
            for early in [one for one in self._conversations.values() if one.opening == opening]:
                with suppress(TimeoutError):
                    await asyncio.wait_for(early.is_answered.wait(), ANSWER_SECONDS)
                branches = await _branches(memory, early)
                if branches and _is_in(branches[-1], [LineTurn(turn, "") for turn in turns]):
                    await self._move(memory, principal, early, branches, sessions, storage)

    async def move_stored(
        self, memory: Memory, principal: str, sessions: Sequence[str], storage: RequestStorage
    ) -> None:
        """Stores the conversations in the sessions whose transcripts have their words, or begin them."""
        for early in list(self._conversations.values()):
            branches = await _branches(memory, early)
            for session in sessions if branches else ():
                if _continues(branches[-1], await _line(memory, session)):
                    await self._move(memory, principal, early, branches, [session], storage)
                    break

    async def _move(
        self,
        memory: Memory,
        principal: str,
        early: _Early,
        branches: Sequence[Sequence[NewTurn]],
        sessions: Sequence[str],
        storage: RequestStorage,
    ) -> None:
        since, session = await memory.count_tombstones(), ""
        for turns in branches:
            stored = await storage.store_session(memory, principal, sessions, turns, None, since, has_tools=True)
            if stored is None:
                return
            session = stored.conversation_id
        await self._on_moved(memory, early.conversation_id, session)
        del self._conversations[early.conversation_id]


def _opening(turns: Sequence[NewTurn]) -> NewTurn | None:
    return next((turn for turn in turns if turn.role == "user"), None)


async def _branches(memory: Memory, early: _Early) -> list[list[NewTurn]]:
    """Returns the turns of each branch as in a transcript, those of the head last; none if it is gone."""
    try:
        head = await memory.head(early.conversation_id)
        tips = [tip for tip in await memory.branches(early.conversation_id) if tip.seq != head.seq]
        found = [await memory.history(early.conversation_id, turn_id=tip.id) for tip in [*tips, head]]
    except (UnknownConversation, Forgotten):
        return []
    return [[early.provider.as_in_transcript(_new_turn(turn)) for turn in turns] for turns in found]


async def _line(memory: Memory, conversation_id: str) -> list[LineTurn]:
    try:
        return [LineTurn(_new_turn(turn), turn.id) for turn in await memory.turns(conversation_id)]
    except UnknownConversation:
        return []


def _new_turn(turn: Turn) -> NewTurn:
    return NewTurn(turn.role, turn.content, turn.name, call_id=turn.call_id)


def _is_in(turns: Sequence[NewTurn], line: Sequence[LineTurn]) -> bool:
    """Returns whether a session has all words of these turns."""
    found = _align(turns, line)
    return found is not None and not found.new


def _continues(turns: Sequence[NewTurn], line: Sequence[LineTurn]) -> bool:
    """Returns whether a session has all words of these turns, or these turns all words of the session."""
    found = _align(turns, line)
    return found is not None and (not found.new or found.known == len(line))


def _align(turns: Sequence[NewTurn], line: Sequence[LineTurn]) -> SessionAlignment | None:
    return align_session(turns, line) if any(one.turn.role != "system" for one in line) else None
