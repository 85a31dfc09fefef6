"""Stores the messages of a request in memory, and compacts the request if it is long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.errors import Forgotten, UnknownConversation
from ctxmem_mcp.http_api.gateway.agent_session import NOT_STORED
from ctxmem_mcp.http_api.gateway.conversation import MEDIA_TOKENS, Added, Head, ParsedRequest, TokenCounter, is_media
from ctxmem_mcp.http_api.gateway.cut_point import Cut, CutState, Part, Pin, checked_cut, cut_states
from ctxmem_mcp.http_api.gateway.early_requests import EarlyRequests
from ctxmem_mcp.http_api.gateway.excerpt import excerpt
from ctxmem_mcp.http_api.gateway.long_outputs import OutputShortener
from ctxmem_mcp.http_api.gateway.prefix import PrefixCache
from ctxmem_mcp.http_api.gateway.request_storage import RequestStorage, StoredConversation
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.models import INJECTED, NewTurn
from ctxmem_mcp.sent_requests import NO_VIEW, QUERY_CHARS_MAX, SentView, digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
    from ctxmem_mcp.http_api.gateway.provider import Provider
    from ctxmem_mcp.memory import Memory

# Views that are remembered.
VIEWS_MAX = 512
# Sessions whose system prompts are remembered.
SYSTEMS_MAX = 64
# Budgets for which cuts are remembered: clients state different windows of their models.
BUDGETS_MAX = 8
# The work that a long text's excerpts are chosen for: this many messages before the cut and those after it, and this
# much of each turn.
WORK_MESSAGES, WORK_CHARS_MAX = 6, 2_000


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
        self._storage = RequestStorage()
        self._cuts: LRU[int, PrefixCache[CutState]] = LRU(BUDGETS_MAX)
        self._transcribed: PrefixCache[NewTurn] = PrefixCache()
        # By principal and session.
        self._systems: LRU[tuple[str, str], tuple[NewTurn, ...]] = LRU(SYSTEMS_MAX)
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
        sessions: Sequence[str] = (),
        early: EarlyRequests | None = None,
    ) -> Compacted:
        """Stores a request's messages, and compacts the request if they exceed the budget.

        Args:
            memory: where to store them.
            principal: whose memory it is.
            provider: the API of the request.
            body: the request.
            options: the request's options.
            sessions: the conversation of the agent's session that the request names; if it names none, those of the
                sessions of the agent's run, the latest first.
            early: the run's conversations without a session, if the request is of a run and names none.

        Raises:
            InvalidArgument: the messages are malformed.
            Forgotten: the conversation was forgotten.
        """
        since = await memory.count_tombstones()
        await asyncio.sleep(0)
        request = provider.parse_request(body, self.tokens)
        conversation = await self._store(
            memory, principal, provider, body, request, options.days, since, sessions, early
        )
        if provider.previous_response(body) is not None:
            return _unchanged(conversation, request)
        shortened = self._shorten_outputs(provider, body, request, conversation)
        if shortened is None:
            unchanged = _unchanged(conversation, request)
        else:
            tokens_in = request.tokens
            body, request = shortened, provider.parse_request(shortened, self.tokens)
            unchanged = replace(_unchanged(conversation, request), body=shortened, tokens_in=tokens_in)
        cut = self._find_cut(request, options.token_budget(self._budget))
        if cut is None:
            return unchanged
        try:
            head = await self._head(memory, conversation, request, cut)
        except UnknownConversation as error:
            raise Forgotten(conversation.conversation_id, during_call=True) from error
        if head is None:  # the messages before the cut are empty
            return unchanged
        compacted = self._with_head(unchanged, provider, body, request, cut, head)
        return compacted if compacted.tokens_sent < unchanged.tokens_sent else unchanged

    async def _store(
        self,
        memory: Memory,
        principal: str,
        provider: Provider,
        body: Mapping[str, Any],
        request: ParsedRequest,
        days: int | None,
        since: int,
        sessions: Sequence[str],
        early: EarlyRequests | None,
    ) -> StoredConversation:
        """Stores a request in the conversation of its session, or else in the one that its messages identify."""
        if sessions:
            system = self._system_of((principal, sessions[0]), request)
            turns = self._as_in_transcript(provider, request.all_turns(system))
            tools = provider.has_tools(body)
            if early is not None:
                await early.move(memory, principal, sessions, turns, days, self._storage)
            found = await self._storage.store_session(memory, principal, sessions, turns, days, since, tools)
            if found is not None:
                return found
        stored = await self._storage.store(memory, principal, request, days, since)
        if early is not None:
            early.add(stored, provider)
        return stored

    async def move_early(self, memory: Memory, principal: str, sessions: Sequence[str], early: EarlyRequests) -> None:
        """Stores a run's conversations without a session in the sessions that have their words, at the run's end."""
        await early.move_stored(memory, principal, sessions, self._storage)

    def _with_head(
        self,
        unchanged: Compacted,
        provider: Provider,
        body: Mapping[str, Any],
        request: ParsedRequest,
        cut: Cut,
        head: Head,
    ) -> Compacted:
        """Returns the request with a head in place of the messages before the cut."""
        conversation = unchanged.conversation
        compacted = provider.compact_request(body, cut, head)
        rest, rest_tokens = request.turns_from(cut.start), sum(fact.tokens for fact in request.facts[cut.start :])
        before = (conversation.conversation_id, type(provider).__name__, cut, conversation.last_before(rest))
        head_tokens = self._head_tokens.get(before)
        if head_tokens is None:
            parsed = provider.parse_request(compacted, self.tokens.for_one_request())
            head_tokens = self._head_tokens[before] = parsed.tokens - request.system_tokens - rest_tokens
        return replace(
            unchanged,
            body=compacted,
            tokens_sent=request.system_tokens + head_tokens + rest_tokens,
            cut=cut.start,
            rest=conversation.ends(rest),
            rest_tokens=rest_tokens,
            view=_sent_view(conversation, request, cut.parts[0], head.view),
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
            last_turn = conversation.last_before(request.turns_from(part.end))
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
        await self._storage.store_answer(memory, conversation, answer)

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

    def _system_of(self, session: tuple[str, str], request: ParsedRequest) -> tuple[NewTurn, ...]:
        """Returns the system prompt of an earlier request of the session if it has as many turns, else this one's.

        A session's system prompt is not stored. Agents put times and digests in it, and the turns after it are
        recognised only if the objects before them are the same.
        """
        known = self._systems.setdefault(session, request.system)
        if list(map(_role_and_name, known)) != list(map(_role_and_name, request.system)):
            known = self._systems[session] = request.system
        return known

    def _as_in_transcript(self, provider: Provider, turns: Sequence[NewTurn]) -> list[NewTurn]:
        return self._transcribed.map(turns, lambda at: provider.as_in_transcript(turns[at]))

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


def _role_and_name(turn: NewTurn) -> tuple[str, str | None]:
    return turn.role, turn.name


def _unchanged(conversation: StoredConversation, request: ParsedRequest) -> Compacted:
    """Returns a request whose messages are all sent."""
    tokens, system = request.tokens, request.system_tokens
    whole = conversation.ends(request.turns_from(0))
    return Compacted(conversation, None, tokens, tokens, None, system, whole, tokens - system)


def _sent_view(conversation: StoredConversation, request: ParsedRequest, part: Part, text: str) -> SentView:
    """Returns the record of a view that is sent."""
    prompt = "" if part.prompt is None else conversation.turn_before(request.turns_from(part.prompt + 1))
    end = conversation.last_before(request.turns_from(part.end)) or ""
    return SentView(end, prompt, part.tokens, digest_of(text))


def _turns_sent_otherwise(
    request: ParsedRequest, end: int, pins: Sequence[Pin], positions: Sequence[int]
) -> frozenset[int]:
    """Returns the indexes of the turns before a message that a view leaves out.

    They are the system prompt, which is sent unchanged, the pins, the host's text, and images and files, which are no
    text.
    """
    pinned = {pin.message for pin in pins if not pin.is_instructions}
    at = len(positions) - request.turns_from(0)
    omitted = set(positions[:at])
    for i, message in enumerate(request.messages[:end]):
        for turn in message.turns:
            if turn.name == INJECTED or is_media(turn.content) or (i in pinned and turn.role == "user"):
                omitted.add(positions[at])
            at += 1
    return frozenset(omitted - {NOT_STORED})
