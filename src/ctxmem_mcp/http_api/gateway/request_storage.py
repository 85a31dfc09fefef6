"""Stores the messages of requests and the answers to them.

A conversation is identified by the agent's session, if the request names it, and otherwise by its messages. Concurrent
requests of one conversation are stored one after the other, so that only the first creates it. A long new history is
stored in steps, so that other requests are not blocked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ctxmem_mcp.errors import Forgotten, InvalidArgument, UnknownConversation, UnknownTurn
from ctxmem_mcp.http_api.gateway.alignment import align
from ctxmem_mcp.http_api.gateway.conversation import ParsedRequest
from ctxmem_mcp.http_api.gateway.session_line import SessionLines
from ctxmem_mcp.http_api.gateway.stored_lines import Continuation, Key, StoredLine, StoredLines
from ctxmem_mcp.models import NewTurn

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory

# Turns stored per step; system prompts that are remembered.
STEP_TURNS, SYSTEM_PROMPTS_MAX = 200, 2_000


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """The stored conversation of a request.

    Attributes:
        conversation_id: its id.
        turn_ids: the ids of the system prompt's turns and of all messages' turns, in order, with the reasoning that the
            client dropped.
        positions: the index in `turn_ids` of each turn of the request; below 0 for one that is not stored.
        key: identifies it in the storage.
        turns: the stored turns.
        since: the memory's `count_tombstones` when the request arrived.
        session: the request's turns, if it is a session's.
        days: the days to keep the conversation.
    """

    conversation_id: str
    turn_ids: tuple[str, ...]
    positions: tuple[int, ...] = ()
    key: Key = ("", b"")
    turns: tuple[NewTurn, ...] = ()
    since: int = 0
    session: tuple[NewTurn, ...] = ()
    days: int | None = None

    def ends(self, turns: int) -> tuple[str, str]:
        """Returns the first and the last stored turn of the request's last `turns`; empty texts if there is none."""
        last = self.positions[len(self.positions) - turns :]
        first = next((at for at in last if at >= 0), None)
        if first is None:
            return "", ""
        return self.turn_ids[first], self.turn_ids[next(at for at in reversed(last) if at >= 0)]

    def turn_before(self, turns: int) -> str:
        """Returns the turn before the request's last `turns`; an empty text if it is not stored."""
        at = self.positions[len(self.positions) - turns - 1]
        return self.turn_ids[at] if at >= 0 else ""

    def last_before(self, turns: int) -> str | None:
        """Returns the last stored turn before the request's last `turns`; None if there is none."""
        before = reversed(self.positions[: len(self.positions) - turns])
        return next((self.turn_ids[at] for at in before if at >= 0), None)


class RequestStorage:
    """Stores requests. What it remembers between them can be lost without harm."""

    def __init__(self) -> None:
        self._system_prompts: OrderedDict[Key, tuple[NewTurn, ...]] = OrderedDict()
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._lines = StoredLines()
        self._sessions = SessionLines()

    def in_order(self, principal: str, sessions: Sequence[str], turns: Sequence[NewTurn]) -> list[str]:
        """Returns the conversations of sessions in the order in which a request is compared with them."""
        return self._sessions.in_order(principal, sessions, turns)

    async def store_session(
        self,
        memory: Memory,
        principal: str,
        sessions: Sequence[str],
        turns: Sequence[NewTurn],
        days: int | None,
        since: int,
        has_tools: bool,
        *,
        moves_head: bool = True,
    ) -> StoredConversation | None:
        """Stores what its session's conversation lacks; returns None if the request is no session's own.

        Of several sessions, only the latest may begin with it. moves_head: the session goes on after its last turn.
        """
        for session in self._sessions.in_order(principal, sessions, turns):
            key = (principal, session.encode())
            may_begin = has_tools and session == sessions[0]
            async with self._lock(key):
                stored = await self._sessions.store(
                    memory, principal, session, turns, days, since, may_begin=may_begin, moves_head=moves_head
                )
            if stored is not None:
                line, positions = stored
                ids, line_turns = tuple(map(attrgetter("id"), line)), tuple(map(attrgetter("turn"), line))
                return StoredConversation(session, ids, positions, key, line_turns, since, tuple(turns), days)
        return None

    async def store(
        self, memory: Memory, principal: str, request: ParsedRequest, days: int | None, since: int
    ) -> StoredConversation:
        """Stores what the conversation lacks that begins like the request."""
        key = (principal, request.fingerprint())
        async with self._lock(key):
            # A system prompt with the time in it differs in every request; the first one is stored.
            system = self._system_prompts.setdefault(key, request.system)
            self._system_prompts.move_to_end(key)
            while len(self._system_prompts) > SYSTEM_PROMPTS_MAX:
                self._system_prompts.popitem(last=False)
            turns = request.all_turns(system)
            try:
                return await self._store_line(memory, key, turns, days, since)
            except Forgotten:
                self._lines.remove(key)
                raise

    async def store_answer(self, memory: Memory, conversation: StoredConversation, answer: Sequence[NewTurn]) -> None:
        """Stores the model's answer to a request. If the conversation was forgotten since, the answer is too."""
        stored = conversation.conversation_id
        try:
            if conversation.session:
                await self._store_session_answer(memory, conversation, answer)
                return
            last = conversation.turn_ids[-1]
            done = await memory.sync(answer, conversation_id=stored, after=last, since=conversation.since)
        except Forgotten:
            await memory.forget_also(stored, [*conversation.turns, *answer])
            raise
        self._lines.extend(conversation.key, last, answer, done.turn_ids)

    async def _store_session_answer(
        self, memory: Memory, conversation: StoredConversation, answer: Sequence[NewTurn]
    ) -> None:
        """Stores an answer where the session is now: hooks may have added to it since the request."""
        turns = [*conversation.session, *answer]
        async with self._lock(conversation.key):
            await self._sessions.store(
                memory,
                conversation.key[0],
                conversation.conversation_id,
                turns,
                conversation.days,
                conversation.since,
                may_begin=True,
            )

    async def _store_line(
        self, memory: Memory, key: Key, turns: list[NewTurn], days: int | None, since: int
    ) -> StoredConversation:
        """Stores what a known branch lacks, or all turns if none is known."""
        found = self._lines.continuation(key, turns)
        if found is not None:
            try:
                line = await _sync_continuation(memory, found, turns, days, since)
            except (UnknownConversation, UnknownTurn, InvalidArgument):  # expired or forgotten: to find out which
                self._lines.remove(key)
            else:
                is_longer = found.known == len(found.line.turns) or not found.new
                self._lines.add(key, line, found.line if is_longer else None)
                return _stored(line, key, found.turns, since)
        aligned = align(turns, await _read_history(memory, turns, since))
        conversation_id, ids = await _sync_in_steps(memory, aligned.turns, days, since)
        line = StoredLine(conversation_id, list(aligned.turns), ids, turns, list(aligned.positions))
        self._lines.add(key, line)
        return _stored(line, key, line.turns, since)

    def _lock(self, key: Key) -> asyncio.Lock:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock


def _stored(line: StoredLine, key: Key, turns: Sequence[NewTurn], since: int) -> StoredConversation:
    """Returns the conversation of a request, which has these turns of the line."""
    ids = tuple(line.ids[: len(turns)])
    return StoredConversation(line.conversation_id, ids, tuple(line.positions), key, tuple(turns), since)


async def _sync_continuation(
    memory: Memory, found: Continuation, sent: list[NewTurn], days: int | None, since: int
) -> StoredLine:
    """Stores the new turns, and returns the branch that the request is on now.

    The last known turn is stored once more, so that an expired or forgotten conversation is noticed.
    """
    line, known = found.line, found.known
    again = [line.turns[known - 1], *found.new]
    ids = await _sync_after(memory, line.conversation_id, line.ids[: known - 1], again, days, since)
    if not found.new:  # what follows the request's turns on the branch stays known
        return StoredLine(line.conversation_id, line.turns, line.ids, sent, found.positions)
    return StoredLine(line.conversation_id, found.turns, ids, sent, found.positions)


async def _read_history(memory: Memory, turns: Sequence[NewTurn], since: int) -> Sequence[NewTurn]:
    """Reads the stored conversation that begins like these turns; a new one begins with the first of them.

    A forgotten conversation may have begun with the same words. Then there is no history: storing all of the turns
    decides whether they are that conversation's or new.
    """
    opening = next((i + 1 for i, turn in enumerate(turns) if turn.role == "user"), len(turns))
    try:
        found = await memory.sync(turns[: min(opening, STEP_TURNS)], since=since)
        stored = await memory.turns(found.conversation_id)
    except UnknownConversation:  # forgotten since
        return ()
    except Forgotten as error:
        if error.during_call:
            raise
        return ()
    return [NewTurn(turn.role, turn.content, turn.name, call_id=turn.call_id) for turn in stored]


async def _sync_in_steps(
    memory: Memory, turns: Sequence[NewTurn], days: int | None, since: int
) -> tuple[str, list[str]]:
    """Stores all turns of a conversation, from the first on. Returns its id and theirs."""
    synced = await memory.sync(turns[:STEP_TURNS], retention_days=days, since=since)
    return synced.conversation_id, await _sync_after(
        memory, synced.conversation_id, list(synced.turn_ids), turns[STEP_TURNS:], days, since
    )


async def _sync_after(
    memory: Memory, conversation_id: str, ids: list[str], turns: Sequence[NewTurn], days: int | None, since: int
) -> list[str]:
    """Stores turns after the last of these ids, in steps. Returns all ids."""
    for at in range(0, len(turns), STEP_TURNS):
        await asyncio.sleep(0)
        step = turns[at : at + STEP_TURNS]
        synced = await memory.sync(
            step, conversation_id=conversation_id, after=ids[-1], retention_days=days, since=since
        )
        ids += synced.turn_ids
    return ids
