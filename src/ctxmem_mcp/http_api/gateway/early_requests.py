"""Remembers requests of a `wrap` run that arrived before a hook named their session, and moves them to the session's
conversation later.

An agent that names no session in its requests may send one before its hooks have run: a hook took longer than the agent
waits, or has not started yet. Such a request is stored in a conversation of its own. If a later request of a session
repeats it, or the session's transcript has it at the end of the run, its turns are stored in the session's conversation
and its own conversation is removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxmem_mcp.errors import CtxmemError, Forgotten
from ctxmem_mcp.http_api.gateway.agent_session import LineTurn, SessionAlignment, align_session
from ctxmem_mcp.http_api.gateway.provider import Provider
from ctxmem_mcp.http_api.gateway.request_storage import RequestStorage, StoredConversation
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.models import NewTurn

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.models import Turn

_log = logging.getLogger(__name__)

# Conversations that are remembered.
CONVERSATIONS_MAX = 64

# Called when a session has all words of another conversation, with the memory, that conversation, the session's, and
# the ids of the last turns of the branches that were moved. Returns False if the conversation was added to since.
OnMoved = Callable[["Memory", str, str, Sequence[str]], Awaitable[bool]]
# Whether the turns of a branch are a session's that has this line.
_IsSessions = Callable[[Sequence[NewTurn], Sequence[LineTurn]], bool]


@dataclass(slots=True)
class _Early:
    """A conversation.

    Attributes:
        conversation_id: its id.
        provider: the API of its requests.
        opening: its first words, as in a transcript.
        in_progress: how many of its requests have not ended yet. Their answers will be stored in it.
    """

    conversation_id: str
    provider: Provider
    opening: NewTurn
    in_progress: int = 0


@dataclass(frozen=True, slots=True)
class _Branches:
    """The turns of each branch as in a transcript, the head's first, and the ids of their last turns.

    since and in_progress: the memory's `count_tombstones` and the requests in progress before they were read.
    """

    turns: list[list[NewTurn]]
    tips: list[str]
    since: int
    in_progress: int


class EarlyRequests:
    """The conversations of one run and principal that no session has. Losing them costs nothing but their removal."""

    def __init__(self, on_moved: OnMoved) -> None:
        self._on_moved = on_moved
        self._conversations: LRU[str, _Early] = LRU(CONVERSATIONS_MAX)
        self._lock = asyncio.Lock()

    def __len__(self) -> int:
        """Returns the number of conversations."""
        return len(self._conversations)

    def add(self, conversation: StoredConversation, provider: Provider) -> None:
        """Adds the conversation of a request that belongs to no session so far."""
        opening = _opening([provider.as_in_transcript(turn) for turn in conversation.turns])
        if opening is not None:
            early = _Early(conversation.conversation_id, provider, opening)
            self._conversations.setdefault(early.conversation_id, early).in_progress += 1

    def end_request(self, conversation_id: str) -> None:
        """Notes that a request of a conversation has ended, and that its answer is stored if it has one."""
        if early := self._conversations.get(conversation_id):
            early.in_progress -= 1

    async def move(
        self,
        memory: Memory,
        principal: str,
        sessions: Sequence[str],
        turns: Sequence[NewTurn],
        days: int | None,
        storage: RequestStorage,
    ) -> None:
        """Stores the conversations that a session's request repeats in the session's. A failure is only logged.

        One with a request that has not ended is left to a later request, or to the end of the run.

        Args:
            memory: where they are stored.
            principal: whose memory it is.
            sessions: the conversations of the run's sessions, the latest first.
            turns: the turns of the request, as in a transcript.
            days: the days to keep a session that begins with them.
            storage: stores them.
        """
        opening = _opening(turns)
        async with self._lock:
            for early in [one for one in self._conversations.values() if one.opening == opening]:
                if not early.in_progress:
                    line = [LineTurn(turn, "") for turn in turns]
                    ordered = storage.in_order(principal, sessions, turns)
                    await self._try_to_move(memory, principal, early, ordered, line, _is_in, days, storage)

    async def move_stored(
        self, memory: Memory, principal: str, sessions: Sequence[str], storage: RequestStorage
    ) -> None:
        """Stores the conversations in the sessions whose transcripts have their words, or begin them.

        A failure is only logged.
        """
        async with self._lock:
            for early in list(self._conversations.values()):
                for session in sessions:
                    line = await _line(memory, session)
                    if await self._try_to_move(memory, principal, early, [session], line, _continues, None, storage):
                        break

    async def _try_to_move(
        self,
        memory: Memory,
        principal: str,
        early: _Early,
        sessions: Sequence[str],
        line: Sequence[LineTurn],
        is_sessions: _IsSessions,
        days: int | None,
        storage: RequestStorage,
    ) -> bool:
        """Moves a conversation if one of its branches is the session's that has this line.

        Returns:
            Whether that is done, or failed and is not tried again.
        """
        try:
            branches = await _branches(memory, early)
            at = next((i for i, turns in enumerate(branches.turns) if is_sessions(turns, line)), None)
            if at is None:
                return False
            await self._move(memory, principal, early, branches, at, sessions, days, storage)
        except CtxmemError as error:
            self._conversations.pop(early.conversation_id, None)
            _log.warning("Conversation %s is not moved to a session's: %s", early.conversation_id, error)
        return True

    async def _move(
        self,
        memory: Memory,
        principal: str,
        early: _Early,
        branches: _Branches,
        at: int,
        sessions: Sequence[str],
        days: int | None,
        storage: RequestStorage,
    ) -> None:
        """Stores a conversation in a session's, which has the branch at this index, and removes it.

        The other branches don't move the session's head: it goes on with that one.
        """
        turns = [branches.turns[at], *branches.turns[:at], *branches.turns[at + 1 :]]
        for i, branch in enumerate(turns):
            if await memory.is_forgotten(early.conversation_id):
                raise Forgotten(early.conversation_id)
            stored = await storage.store_session(
                memory,
                principal,
                sessions,
                branch,
                None if i else days,
                branches.since,
                has_tools=True,
                moves_head=not i,
            )
            if stored is None:
                return
            sessions = [stored.conversation_id]
        if early.in_progress == branches.in_progress and await self._on_moved(
            memory, early.conversation_id, sessions[0], branches.tips
        ):
            self._conversations.pop(early.conversation_id, None)


def _opening(turns: Sequence[NewTurn]) -> NewTurn | None:
    return next((turn for turn in turns if turn.role == "user"), None)


async def _branches(memory: Memory, early: _Early) -> _Branches:
    """Raises UnknownConversation if the conversation is gone."""
    in_progress = early.in_progress
    since = await memory.count_tombstones()  # before reading: turns forgotten since are not stored
    head = await memory.head(early.conversation_id)
    tips = [head, *(tip for tip in await memory.branches(early.conversation_id) if tip.seq != head.seq)]
    found = [await memory.history(early.conversation_id, turn_id=tip.id) for tip in tips]
    turns = [[early.provider.as_in_transcript(_new_turn(turn)) for turn in one] for one in found]
    return _Branches(turns, [tip.id for tip in tips], since, in_progress)


async def _line(memory: Memory, conversation_id: str) -> list[LineTurn]:
    try:
        return [LineTurn(_new_turn(turn), turn.id) for turn in await memory.turns(conversation_id)]
    except CtxmemError:  # it can't be read, or is not there yet
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
