"""Memory: what can be done with conversations. The one deep module: faces call it; it asks tree, recall and a store."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio.to_thread

from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.errors import Corrupt, HeadMoved, InvalidArgument, NotConfirmed, Unavailable, UnknownConversation
from ctxmem_mcp.memory import expand, handoff, outline, recent, search, usage, verify, view
from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.branches import Lineage, branch_tips
from ctxmem_mcp.memory.consistent_read import retry_if_replaced
from ctxmem_mcp.memory.id_resolver import IdResolver
from ctxmem_mcp.memory.read_cache import ReadCache, ReadCaches
from ctxmem_mcp.memory.redactor import redact_summary, redact_turns
from ctxmem_mcp.memory.search import Filter
from ctxmem_mcp.memory.validation import (
    check_retention_days,
    check_role,
    check_turn,
    conversation_id_or_new,
    parse_time,
)
from ctxmem_mcp.memory.view import ViewRequest
from ctxmem_mcp.memory.writer import AppendTarget, Defaults, Writer
from ctxmem_mcp.models import (
    OF_AGENT,
    RETENTION_DAYS_DEFAULT,
    Appended,
    Conversation,
    ConversationInfo,
    ConversationPage,
    Highlight,
    Hit,
    ModelUsage,
    NewTurn,
    Node,
    OutlineNode,
    Receipt,
    Reverted,
    Summary,
    Synced,
    Turn,
    View,
    iso,
)
from ctxmem_mcp.stores.base import SpendLimits, State, Store
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.embeddings import Embedder
from ctxmem_mcp.views.layout import Quote
from ctxmem_mcp.views.render import TimestampPrinter, quote_text

__all__ = ["Memory"]

# A search over everything looks into this many of the conversations last active.
SEARCHED_CONVERSATIONS = 100
# The last user turns are looked for among this many turns; one of so many words is a query on its own.
QUERY_WITHIN_TURNS, QUERY_WORDS = 64, 4

_log = logging.getLogger(__name__)


class Memory:
    """An open memory. All verbs are coroutines, safe to call concurrently in the event loop that it was opened in.

    salt keys every hash (one per principal, so that nobody can probe another's turns). clock gives seconds since 1970.
    on_forgotten is called with the ids of conversations that were forgotten or have expired. caps: spending limits of
    the configured summary model, reported by `model_usage`; Memory itself never calls a model.
    redact takes what is not to be kept out of turns, before these are hashed, and out of written summaries.
    request_summaries: readers who can write summaries may be asked for better ones.
    usage_of gives what a gateway sent for a conversation, and what it cost; it may block.
    """

    def __init__(
        self,
        store: Store,
        summarizer: Summarizer,
        *,
        encoding: str = tokenizer.DEFAULT_ENCODING,
        retention_days: int = RETENTION_DAYS_DEFAULT,
        salt: bytes = b"",
        clock: Callable[[], float] = time.time,
        on_forgotten: Callable[[list[str]], None] = lambda _: None,
        redact: Callable[[str], str] | None = None,
        caps: SpendLimits | None = None,
        embedder: Embedder | None = None,
        request_summaries: bool = False,
        usage_of: Callable[[str], Mapping[str, Any] | None] = lambda _: None,
    ) -> None:
        self._store, self._summarizer, self._clock, self._on_forgotten = store, summarizer, clock, on_forgotten
        self._redact, self._request_summaries = redact, request_summaries
        self._caps, self._embedder, self._usage_of = caps, embedder, usage_of
        defaults = Defaults(salt, encoding, check_retention_days(retention_days) or RETENTION_DAYS_DEFAULT)
        self._caches = ReadCaches()
        self._writer = Writer(store, summarizer, defaults, clock, embedder)

    # ------------------------------------------------------------ writing

    async def append(
        self,
        turn: NewTurn,
        *,
        conversation_id: str | None = None,
        parent_id: str | None = None,
        retention_days: int | None = None,
        space: str | None = None,
    ) -> Appended:
        """One turn. Makes the conversation when the id is absent or unknown. Durable when it returns.

        With `parent_id` a retry gives the same turn and stores nothing; a parent that is not the head forks.
        """
        check_turn(turn, "")
        conversation = conversation_id_or_new(conversation_id)
        target = AppendTarget(conversation, parent_id, True, check_retention_days(retention_days), space)
        done = await self._writer.extend(redact_turns([turn], self._redact), target)
        built = done.built
        new = built.turns[0] if built else await self._turn_at(conversation, done.known[0])
        head = new if new.seq == done.after.head else await self._turn_at(conversation, done.after.head)
        closed = [closing.node.id for closing in built.commit.closings] if built else []
        return Appended(
            conversation, new.id, done.start, new.index, new.tokens, head.id, done.forked, closed,
            iso(done.after.expires),
        )  # fmt: skip

    async def sync(
        self,
        turns: Sequence[NewTurn],
        *,
        conversation_id: str | None = None,
        after: str | None = None,
        retention_days: int | None = None,
        space: str | None = None,
    ) -> Synced:
        """Finds the longest prefix of `turns` that is already known, appends the rest in one transaction, forks
        where it departs. They follow the turn `after`, or begin the conversation. Without an id the conversation is
        found by its messages. `head` is the turn the messages end at."""
        if not turns:
            raise InvalidArgument("messages", "takes at least one message", "Send the transcript so far.")
        for i, turn in enumerate(turns):
            check_turn(turn, f"messages[{i}].")
        turns = redact_turns(turns, self._redact)
        days = check_retention_days(retention_days)
        if conversation_id is None and after is not None:
            raise InvalidArgument("after", "needs a conversation_id", "Say which conversation it is a turn of.")
        if conversation_id is not None:
            return await self._synced(
                turns, AppendTarget(conversation_id_or_new(conversation_id), after, False, days, space)
            )
        async with self._writer.locked_by_opening(turns):
            found = await self._writer.find(turns)
            return await self._synced(turns, AppendTarget(conversation_id_or_new(found), None, False, days, space))

    async def _synced(self, turns: Sequence[NewTurn], target: AppendTarget) -> Synced:
        conversation = target.conversation_id
        done = await self._writer.extend(turns, target)
        ids = [turn.id for turn in await self._turns_at(conversation, done.known)]
        new = done.built.turns if done.built else []
        ids += [turn.id for turn in new]
        return Synced(conversation, ids[-1], len(done.known), len(new), done.forked, ids)

    async def revert(self, conversation_id: str, turn_id: str) -> Reverted:
        """Moves the head to a turn; deletes nothing. The way back is to revert to `previous_head`."""
        before, seq = await self._writer.revert(conversation_id, turn_id)
        now_at = await self._turn_at(conversation_id, seq)
        was_at = await self._turn_at(conversation_id, before.head)
        left = before.head not in Lineage.of(before.runs, seq)
        return Reverted(conversation_id, now_at.id, was_at.id, was_at.id if left else None)

    async def forget(self, conversation_id: str, confirm: str) -> Receipt:
        """Removes every byte of a conversation; `confirm` repeats its id."""
        if confirm != conversation_id:
            raise NotConfirmed(conversation_id)
        # Asked before: afterwards an error would keep the receipt back.
        others = [one.conversation_id for one in await self.all_conversations()]
        others = [one for one in others if one.startswith(conversation_id + OF_AGENT)]
        async with self._writer.locked(conversation_id):
            self._writer.drop(conversation_id)
            self._caches.drop(conversation_id)
            return replace(await run_to_completion(self._forgotten(conversation_id)), others=others)

    async def _forgotten(self, conversation_id: str) -> Receipt:
        """All that lies beside it goes along, also what a process left that was killed while it forgot."""
        try:
            receipt = await self._store.forget(conversation_id)
        except UnknownConversation:
            self._on_forgotten([conversation_id])
            raise
        self._on_forgotten([conversation_id])
        return receipt

    async def set_retention(self, conversation_id: str, retention_days: int) -> Conversation:
        """Keeps the conversation this many days (1..365) after its last append."""
        check_retention_days(retention_days)
        return _conversation_of(await self._writer.set_retention(conversation_id, retention_days))

    async def set_space(self, conversation_id: str, space: str | None) -> Conversation:
        """Moves the conversation to a space, or out of all."""
        return _conversation_of(await self._writer.set_space(conversation_id, space))

    @retry_if_replaced
    async def add_summary(self, conversation_id: str, node_id: str, summary: Summary) -> str:
        """Joins a better summary to a closed node; gives the node's id."""
        node, _ = await (await self._ids(conversation_id)).node(node_id)
        return await self._join_summary(conversation_id, node, summary)

    @retry_if_replaced
    async def write_summary(
        self, conversation_id: str, node_id: str, title: str, summary: str, author: str = "agent"
    ) -> str:
        """Joins a summary in plain words to a closed node, a highlight for each line; gives the node's id."""
        title, lines = " ".join(title.split()), [" ".join(line.split()) for line in summary.splitlines()]
        if not title or not any(lines):
            raise InvalidArgument("summary", "takes some words", "Say what happened, a line per point.")
        node, _ = await (await self._ids(conversation_id)).node(node_id)
        highlights = tuple(Highlight("fact", node.first, "assistant", line) for line in lines if line)
        first = (await self._store.summaries(conversation_id, [node.digest]))[node.digest][0]
        written = Summary(author, title, highlights, first.identifiers, first.open_for)
        return await self._join_summary(conversation_id, node, written)

    async def _join_summary(self, conversation_id: str, node: Node, summary: Summary) -> str:
        redacted = redact_summary(summary, self._redact)
        await self._store.add_summary(conversation_id, node.digest, redacted, self._clock())
        return node.id

    async def sweep(self) -> list[str]:
        """Forgets what has expired; gives the ids."""
        return await run_to_completion(self._swept())

    async def _swept(self) -> list[str]:
        gone = await self._store.sweep(self._clock())
        for conversation_id in gone:
            self._caches.drop(conversation_id)
        if gone:
            self._on_forgotten(gone)
        return gone

    # ------------------------------------------------------------ reading

    @retry_if_replaced
    async def view(
        self,
        conversation_id: str,
        *,
        query: str | None = None,
        token_budget: int = 8_000,
        turn_id: str | None = None,
        layout: str = "tree",
        explain: bool = False,
        reader_can_write: bool = False,
    ) -> View:
        """What happened, within a budget: everything in outline, what matters to the query opened.

        explain: the view also says why each quoted stretch was chosen (tree layout only).
        reader_can_write: the reader can write summaries; if this memory requests better ones, the header names the
        nodes (tree layout only).
        """
        branch = await self._reader(conversation_id, turn_id, cached=True)
        request = ViewRequest(query, token_budget, layout, explain, reader_can_write and self._request_summaries)
        return await view.view(branch, self._summarizer, request)

    @retry_if_replaced
    async def expand(
        self, conversation_id: str, node_id: str, *, token_budget: int = 4_000, cursor: str | None = None
    ) -> View:
        """A node's outline and children, a span's turns, or one turn's content in pages."""
        state = await self._state(conversation_id)
        named, lineage = await IdResolver(self._store, state).resolve(node_id)
        return await expand.expand(BranchReader(self._store, state, lineage), named, token_budget, cursor)

    @retry_if_replaced
    async def hand_off(self, conversation_id: str, *, token_budget: int = 4_000, note: str | None = None) -> View:
        """A brief for the next run: goal, terms, decisions, changes, errors and endings, what is open, where to
        look."""
        branch = await self._reader(conversation_id)
        return await handoff.hand_off(branch, self._summarizer, token_budget, note)

    async def search(
        self,
        query: str,
        *,
        conversation_id: str | None = None,
        limit: int = 10,
        role: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Hit]:
        """At most `limit` turns that speak of the query, best first; over the conversations last active when none is
        named. since, until: ISO 8601, both included."""
        if role is not None:
            check_role(role, "")
        wanted = Filter(role, parse_time("since", since), parse_time("until", until), limit)
        if conversation_id is not None:
            return await self._search(conversation_id, query, wanted, cached=True)
        found: list[Hit] = []
        for info in (await self.conversations(limit=SEARCHED_CONVERSATIONS)).conversations:
            try:
                found += await self._search(info.conversation_id, query, wanted)
            except (UnknownConversation, HeadMoved):
                continue
            except (Corrupt, Unavailable) as error:
                _log.warning("Conversation %s is not searched: %s", info.conversation_id, error)
        return sorted(found, key=lambda hit: -hit.score)[:limit]

    async def conversations(
        self, *, space: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> ConversationPage:
        """Living conversations, last active first."""
        return await self._store.conversations(self._clock(), space, limit, cursor)

    async def all_conversations(self) -> list[ConversationInfo]:
        """All living conversations, last active first."""
        return list((await self.conversations(limit=sys.maxsize)).conversations)

    async def info(self, conversation_id: str) -> Conversation:
        """The conversation as a whole: its title, counts, retention."""
        return _conversation_of(await self._state(conversation_id))

    @retry_if_replaced
    async def turn(self, conversation_id: str, turn_id: str) -> Turn:
        """One turn, its content byte for byte."""
        return await self._turn_at(conversation_id, await (await self._ids(conversation_id)).turn_seq(turn_id))

    @retry_if_replaced
    async def turns(
        self, conversation_id: str, *, first: int = 0, last: int | None = None, turn_id: str | None = None
    ) -> list[Turn]:
        """The turns at first..last (indexes, both included; None: to the end) of the head's branch, or of turn_id's."""
        lineage = (await self._reader(conversation_id, turn_id)).lineage
        seqs = lineage.seqs(max(0, first), lineage.length - 1 if last is None else last)
        return await self._store.turns(conversation_id, seqs) if seqs else []

    @retry_if_replaced
    async def head(self, conversation_id: str) -> Turn:
        """The turn that the next one would follow."""
        return await self._turn_at(conversation_id, (await self._state(conversation_id)).head)

    @retry_if_replaced
    async def history(self, conversation_id: str, *, turn_id: str | None = None) -> list[Turn]:
        """Every turn of a branch, from the first to `turn_id` (default: the head)."""
        lineage = (await self._reader(conversation_id, turn_id)).lineage
        return await self._store.turns(conversation_id, lineage.seqs(0, lineage.length - 1))

    @retry_if_replaced
    async def last_turns(
        self, conversation_id: str, *, token_budget: int, overhead: int = 0, turn_id: str | None = None
    ) -> list[Turn]:
        """The last turns of a branch that fit a budget, oldest first; each costs `overhead` tokens beside its content.
        All of the branch fits if the first of them has index 0."""
        branch = await self._reader(conversation_id, turn_id, cached=True)
        return await recent.last_turns(branch, token_budget, overhead)

    @retry_if_replaced
    async def last_user_query(self, conversation_id: str, *, turn_id: str | None = None) -> str | None:
        """What the user wrote last on a branch, as a query; None if the last turns are of others."""
        branch = await self._reader(conversation_id, turn_id, cached=True)
        query = await recent.last_user_query(branch, within=QUERY_WITHIN_TURNS, enough_words=QUERY_WORDS)
        return query.strip() or None

    @staticmethod
    def quote(turns: Sequence[Turn]) -> str:
        """These turns as a view quotes them: each under a line with its id, role, name and time."""
        timestamps = TimestampPrinter()
        return "".join(quote_text(Quote.all_of(turn), timestamps) for turn in turns)

    @retry_if_replaced
    async def branches(self, conversation_id: str) -> list[Turn]:
        """The last turn of every branch, oldest branch first."""
        return await self._store.turns(conversation_id, branch_tips(await self._state(conversation_id)))

    @retry_if_replaced
    async def outline(
        self, conversation_id: str, *, turn_id: str | None = None, depth: int | None = None
    ) -> list[OutlineNode]:
        """The tree for drawing: closed nodes and the open tail, with summaries, down to `depth` levels."""
        return await outline.outline(await self._reader(conversation_id, turn_id), self._summarizer, depth)

    async def model_usage(self, conversation_id: str) -> ModelUsage:
        """What summaries by a model have cost for this conversation."""
        await self._state(conversation_id)
        return await usage.usage(self._store, conversation_id, self._caps, self._clock())

    async def gateway_usage(self, conversation_id: str) -> Mapping[str, Any] | None:
        """What a gateway sent for this conversation, by day; None where there is no account of it."""
        await self._state(conversation_id)
        return await anyio.to_thread.run_sync(self._usage_of, conversation_id)

    @retry_if_replaced
    async def verify(self, conversation_id: str) -> list[str]:
        """Recomputes every hash on every branch; gives what is wrong, in words (empty: all is well)."""
        return await verify.verify(self._store, await self._state(conversation_id))

    async def close(self) -> None:
        self._writer.clear()
        self._caches.clear()
        await self._store.close()

    # ------------------------------------------------------------ inside

    @retry_if_replaced
    async def _search(self, conversation_id: str, query: str, wanted: Filter, *, cached: bool = False) -> list[Hit]:
        return await search.search(await self._reader(conversation_id, cached=cached), query, wanted)

    async def _state(self, conversation_id: str) -> State:
        state = await self._store.load(conversation_id, self._clock())
        if state is None:
            self._caches.drop(conversation_id)
            raise UnknownConversation(conversation_id)
        return state

    async def _ids(self, conversation_id: str) -> IdResolver:
        return IdResolver(self._store, await self._state(conversation_id))

    async def _reader(self, conversation_id: str, turn_id: str | None = None, *, cached: bool = False) -> BranchReader:
        """Reads the branch up to a turn (default: the head). cached: what it reads is kept for the next call, which a
        search over a hundred conversations must not do."""
        state = await self._state(conversation_id)
        seq = state.head if turn_id is None else await IdResolver(self._store, state).turn_seq(turn_id)
        cache = self._caches.at(state) if cached else ReadCache()
        return BranchReader(self._store, state, Lineage.of(state.runs, seq), self._embedder, cache)

    async def _turn_at(self, conversation_id: str, seq: int) -> Turn:
        return (await self._turns_at(conversation_id, [seq]))[0]

    async def _turns_at(self, conversation_id: str, seqs: Sequence[int]) -> list[Turn]:
        turns = await self._store.turns(conversation_id, seqs) if seqs else []
        if len(turns) < len(seqs):  # forgotten meanwhile, and begun anew
            raise HeadMoved(conversation_id)
        return turns


def _conversation_of(state: State) -> Conversation:
    return Conversation(
        state.conversation_id, state.title, state.space, state.turns, state.tokens, state.nodes, state.encoding,
        state.retention_days, state.created, state.updated, state.expires,
    )  # fmt: skip
