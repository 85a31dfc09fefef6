"""Stores the messages of a request in memory, and compacts the request if it is long.

A conversation is identified by the agent's session, if the request names it, and otherwise by its messages. Concurrent
requests of one conversation are stored one after the other, so that only the first creates it. A long new history is
stored in steps, so that other requests are not blocked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ctxmem_mcp.errors import Forgotten, InvalidArgument, UnknownConversation, UnknownTurn
from ctxmem_mcp.http_api.gateway.agent_session import NOT_STORED
from ctxmem_mcp.http_api.gateway.alignment import align
from ctxmem_mcp.http_api.gateway.conversation import MEDIA_TOKENS, Added, Head, ParsedRequest, TokenCounter, is_media
from ctxmem_mcp.http_api.gateway.cut_point import Cut, CutState, Part, Pin, checked_cut, cut_states
from ctxmem_mcp.http_api.gateway.excerpt import excerpt
from ctxmem_mcp.http_api.gateway.long_outputs import OutputShortener
from ctxmem_mcp.http_api.gateway.prefix import PrefixCache
from ctxmem_mcp.http_api.gateway.sent_parts import ends, turn_before
from ctxmem_mcp.http_api.gateway.session_line import SessionLines
from ctxmem_mcp.http_api.gateway.stored_lines import Continuation, StoredLine, StoredLines
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.models import INJECTED, NewTurn
from ctxmem_mcp.sent_requests import NO_VIEW, SentView, digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
    from ctxmem_mcp.http_api.gateway.provider import Provider
    from ctxmem_mcp.memory import Memory

Key = tuple[str, bytes]
# Turns stored per step; system prompts and views that are remembered.
STEP_TURNS, SYSTEM_PROMPTS_MAX, VIEWS_MAX = 200, 2_000, 512
# Budgets for which cuts are remembered: clients state different windows of their models.
BUDGETS_MAX = 8
QUERY_CHARS_MAX = 2_000
# The work that a long text's excerpts are chosen for: this many messages before the cut and those after it, and this
# much of each turn.
WORK_MESSAGES, WORK_CHARS_MAX = 6, 2_000


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """The stored conversation of a request.

    Attributes:
        conversation_id: its id.
        turn_ids: the ids of the system prompt's turns and of all messages' turns, in order, with the reasoning that the
            client dropped.
        positions: the index in `turn_ids` of each turn of the request; below 0 for one that is not stored.
        key: identifies it in the tracker.
        turns: the stored turns.
        since: the memory's `count_tombstones` when the request arrived.
        session: the request's turns, if it is a session's.
        days: the days to keep the conversation.
    """

    conversation_id: str
    turn_ids: tuple[str, ...]
    positions: tuple[int, ...] = ()
    key: tuple[str, bytes] = ("", b"")
    turns: tuple[NewTurn, ...] = ()
    since: int = 0
    session: tuple[NewTurn, ...] = ()
    days: int | None = None


@dataclass(frozen=True, slots=True)
class Compacted:
    """A request to send upstream.

    Attributes:
        conversation: where its messages are stored.
        body: the compacted body, or that with long results shortened; None if the client's is sent unchanged.
        tokens_in: tokens of the client's messages.
        tokens_sent: tokens of the messages to send.
        cut: the index of the first message that is sent unchanged; None if all are.
        system_tokens: tokens of the system prompt, which is always sent unchanged.
        rest: the turns that are sent unchanged after it.
        rest_tokens: their tokens.
        view: the view before them.
    """

    conversation: StoredConversation
    body: dict[str, Any] | None
    tokens_in: int
    tokens_sent: int
    cut: int | None = None
    system_tokens: int = 0
    rest: tuple[str, str] = ("", "")
    rest_tokens: int = 0
    view: SentView = NO_VIEW


class ConversationTracker:
    """Stores and compacts requests. What it remembers between requests can be lost without harm."""

    def __init__(self, budget: int, encoding: str, output_tokens: int = 0) -> None:
        """budget: the configured tokens per request. output_tokens: those of a tool's result; 0: any."""
        self.tokens = TokenCounter(encoding)
        self._outputs = OutputShortener(output_tokens, self.tokens.count)
        self._budget = budget
        self._system_prompts: OrderedDict[tuple[str, bytes], tuple[NewTurn, ...]] = OrderedDict()
        self._locks: WeakValueDictionary[tuple[str, bytes], asyncio.Lock] = WeakValueDictionary()
        self._lines = StoredLines()
        self._cuts: LRU[int, PrefixCache[CutState]] = LRU(BUDGETS_MAX)
        self._sessions = SessionLines()
        # The tokens of what is sent in place of the messages before a cut: they are the same until it moves.
        self._head_tokens: LRU[tuple[str, str, Cut, str | None], int] = LRU(VIEWS_MAX)
        self._views: LRU[tuple[str, str, str | None, int, str], str] = LRU(VIEWS_MAX)

    async def compact(
        self,
        memory: Memory,
        principal: str,
        provider: Provider,
        body: Mapping[str, Any],
        options: MemoryOptions,
        session: str | None = None,
    ) -> Compacted:
        """Stores a request's messages, and compacts the request if they exceed the budget.

        Args:
            memory: where to store them.
            principal: whose memory it is.
            provider: the API of the request.
            body: the request.
            options: the request's options.
            session: the conversation of the agent's session that the request names.

        Raises:
            InvalidArgument: the messages are malformed.
            Forgotten: the conversation was forgotten.
        """
        since = await memory.count_tombstones()
        await asyncio.sleep(0)
        request = provider.parse_request(body, self.tokens)
        conversation = None
        if session is not None:
            tools = provider.has_tools(body)
            conversation = await self._store_session(memory, principal, session, request, options.days, since, tools)
        if conversation is None:
            conversation = await self._store(memory, principal, request, options.days, since)
        budget = options.token_budget(self._budget)
        tokens_in = request.tokens
        continues = provider.previous_response(body) is not None
        shortened = None if continues else self._shorten_outputs(provider, body, request, conversation)
        if shortened is not None:
            body, request = shortened, provider.parse_request(shortened, self.tokens)
        cut = self._find_cut(request, budget)
        tokens = request.tokens
        size = request.system_tokens
        counts = [len(message.turns) for message in request.messages]
        stored = conversation.turn_ids, conversation.positions
        whole = ends(*stored, sum(counts))
        unchanged = Compacted(conversation, shortened, tokens_in, tokens, None, size, whole, tokens - size)
        if cut is None or continues:
            return unchanged
        try:
            head = await self._head(memory, conversation, request, cut)
        except UnknownConversation as error:
            raise Forgotten(conversation.conversation_id, during_call=True) from error
        if head is None:  # the messages before the cut are empty
            return unchanged
        compacted = provider.compact_request(body, cut, head)
        rest_tokens = sum(fact.tokens for fact in request.facts[cut.start :])
        before = (
            conversation.conversation_id,
            type(provider).__name__,
            cut,
            _last_turn(conversation, request, cut.start),
        )
        head_tokens = self._head_tokens.get(before)
        if head_tokens is None:
            parsed = provider.parse_request(compacted, self.tokens.for_one_request())
            head_tokens = self._head_tokens[before] = parsed.tokens - size - rest_tokens
        sent = size + head_tokens + rest_tokens
        if sent >= tokens:
            return unchanged
        part = cut.parts[0]
        prompt = "" if part.prompt is None else turn_before(*stored, sum(counts[part.prompt + 1 :]))
        view = SentView(_last_turn(conversation, request, part.end) or "", prompt, part.tokens, digest_of(head.view))
        return Compacted(
            conversation,
            compacted,
            tokens_in,
            sent,
            cut.start,
            size,
            ends(*stored, sum(counts[cut.start :])),
            rest_tokens,
            view,
        )

    def _shorten_outputs(
        self, provider: Provider, body: Mapping[str, Any], request: ParsedRequest, conversation: StoredConversation
    ) -> dict[str, Any] | None:
        """Returns the request with long results of tools shortened; None if it has none."""

        def place_of(index: int) -> str | None:
            at = conversation.positions[index - len(turns)]
            turn = None if at < 0 else conversation.turn_ids[at]
            return turn and f"conversation {conversation.conversation_id} and id {turn}"

        turns = request.all_turns(())
        messages = self._outputs.shorten(provider.messages(body), turns, place_of)
        return None if messages is None else provider.with_messages(body, messages)

    def _find_cut(self, request: ParsedRequest, budget: int) -> Cut | None:
        """Returns the request's cut, from where it differs from an earlier request."""
        facts = request.facts
        cache = self._cuts.setdefault(budget, PrefixCache())
        _, known = cache.longest(facts)
        states = cache.keep(facts, cut_states(facts, budget, known))
        return checked_cut(facts, states[-1].cut if states else None, budget)

    async def _head(
        self, memory: Memory, conversation: StoredConversation, request: ParsedRequest, cut: Cut
    ) -> Head | None:
        """Returns the parts of what replaces the messages before the cut; None if nothing of them is stored."""
        before: str | None = None
        drawn: list[Head] = []
        for i, part in enumerate(cut.parts):
            last_turn = _last_turn(conversation, request, part.end)
            if last_turn is None:
                return None
            query = request.messages[part.prompt].prompt[:QUERY_CHARS_MAX] if part.prompt is not None else ""
            text = await self._view(memory, conversation, request, cut.parts[: i + 1], before, last_turn, query)
            drawn.append(self._with_pins(request, part, text, query, has_task=bool(drawn)))
            before = last_turn
        return replace(drawn[0], added=tuple(Added(one.view, one.prompts, one.media) for one in drawn[1:]))

    def _with_pins(self, request: ParsedRequest, part: Part, view: str, query: str, *, has_task: bool) -> Head:
        """Returns the pins of a part, in excerpts if they are long, and its view. has_task: an earlier part has it."""
        recent = request.messages[max(0, part.end - WORK_MESSAGES) : part.last + 1]
        work = "\n".join([query, *(turn.content[:WORK_CHARS_MAX] for message in recent for turn in message.turns)])
        opening: list[str] = []
        prompts: list[str] = []
        media: list[dict[str, Any]] = []
        for pin in part.pins:
            message = request.messages[pin.message]
            if pin.is_instructions:
                opening.append(excerpt(message.instructions, pin.tokens, work, self.tokens.count))
                continue
            left = pin.tokens - MEDIA_TOKENS * len(message.media)
            if left >= 0:
                media += message.media
            text = excerpt(message.prompt, left if left >= 0 else pin.tokens, work, self.tokens.count)
            (prompts if has_task else opening).append(text)
            has_task = True
        return Head(tuple(filter(None, opening)), tuple(media), view, tuple(filter(None, prompts)))

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

    async def forget_answer(
        self,
        memory: Memory,
        provider: Provider,
        body: Mapping[str, Any],
        conversation_id: str,
        answer: Sequence[NewTurn],
    ) -> None:
        """Keeps a request and its answer from being stored later: the conversation was forgotten during the request."""
        request = provider.parse_request(body, self.tokens)
        await memory.forget_also(conversation_id, [*request.all_turns(request.system), *answer])

    async def _store_session(
        self,
        memory: Memory,
        principal: str,
        session: str,
        request: ParsedRequest,
        days: int | None,
        since: int,
        has_tools: bool,
    ) -> StoredConversation | None:
        """Stores what its session's conversation lacks; returns None if the request is not the session's own."""
        key = (principal, session.encode())
        turns = request.all_turns(request.system)
        async with self._lock(key):
            stored = await self._sessions.store(memory, principal, session, turns, days, since, may_begin=has_tools)
        if stored is None:
            return None
        line, positions = stored
        ids, line_turns = tuple(map(attrgetter("id"), line)), tuple(map(attrgetter("turn"), line))
        return StoredConversation(session, ids, positions, key, line_turns, since, tuple(turns), days)

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

    def _lock(self, key: tuple[str, bytes]) -> asyncio.Lock:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    async def _store(
        self, memory: Memory, principal: str, request: ParsedRequest, days: int | None, since: int
    ) -> StoredConversation:
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

    async def _view(
        self,
        memory: Memory,
        conversation: StoredConversation,
        request: ParsedRequest,
        parts: Sequence[Part],
        before: str | None,
        turn_id: str,
        query: str,
    ) -> str:
        """Returns the text of the last of these parts: the view up to a turn, or what follows the turn `before`."""
        conversation_id, part = conversation.conversation_id, parts[-1]
        key = (conversation_id, turn_id, before, part.tokens, query)
        found = self._views.get(key)
        if found is None:
            pins = [pin for one in parts for pin in one.pins]
            omitted = _turns_sent_otherwise(request, part.end, pins, conversation.positions)
            if before is None:
                view = await memory.view(
                    conversation_id,
                    query=query or None,
                    token_budget=part.tokens,
                    turn_id=turn_id,
                    layout="stable",
                    omitted_turns=omitted,
                )
                found = view.text
            else:
                found = await memory.continue_view(
                    conversation_id,
                    after=before,
                    query=query or None,
                    token_budget=part.tokens,
                    turn_id=turn_id,
                    omitted_turns=omitted,
                    looks_back=part.looks_back,
                )
            self._views[key] = found
        return found


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


def _last_turn(conversation: StoredConversation, request: ParsedRequest, end: int) -> str | None:
    """Returns the id of the last stored turn before a message; None if there is none."""
    positions = conversation.positions
    at = len(positions) - sum(len(message.turns) for message in request.messages[end:])
    last = next((positions[i] for i in range(at - 1, -1, -1) if positions[i] >= 0), None)
    return None if last is None else conversation.turn_ids[last]


def _turns_sent_otherwise(
    request: ParsedRequest, end: int, pins: Sequence[Pin], positions: Sequence[int]
) -> frozenset[int]:
    """Returns the indexes of the turns before a message that a view leaves out.

    They are the system prompt, which is sent unchanged, the pins, the host's text, and images and files, which are no
    text.
    """
    pinned = {pin.message for pin in pins if not pin.is_instructions}
    at = len(positions) - sum(len(message.turns) for message in request.messages)
    omitted = set(positions[:at])
    for i, message in enumerate(request.messages[:end]):
        for turn in message.turns:
            if turn.name == INJECTED or is_media(turn.content) or (i in pinned and turn.role == "user"):
                omitted.add(positions[at])
            at += 1
    return frozenset(omitted - {NOT_STORED})


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
