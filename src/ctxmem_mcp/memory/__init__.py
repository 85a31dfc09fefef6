"""Memory: everything that can be done with conversations. Adapters call it; it uses the tree, retrieval and a store."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio.to_thread

from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.errors import (
    Corrupt,
    CtxmemError,
    DamagedConversation,
    HeadMoved,
    InvalidArgument,
    NotConfirmed,
    StoreUnavailable,
    Unavailable,
    UnknownConversation,
)
from ctxmem_mcp.memory import expand, handoff, outline, recent, repair, search, usage, verify, view
from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.branches import Lineage, branch_tips
from ctxmem_mcp.memory.consistent_read import retry_if_replaced
from ctxmem_mcp.memory.expiry import ANY_TIME, ExpiryWatch
from ctxmem_mcp.memory.id_resolver import IdResolver
from ctxmem_mcp.memory.read_cache import ReadCache, ReadCaches
from ctxmem_mcp.memory.redactor import redact_summary, redact_title, redact_turns
from ctxmem_mcp.memory.repair import Repaired
from ctxmem_mcp.memory.search import Filter
from ctxmem_mcp.memory.validation import (
    check_or_create_id,
    check_retention_days,
    check_role,
    check_turn,
    parse_time,
)
from ctxmem_mcp.memory.vector_queue import VectorQueue
from ctxmem_mcp.memory.view import ViewRequest
from ctxmem_mcp.memory.writer import AppendOutcome, AppendTarget, Defaults, Writer
from ctxmem_mcp.models import (
    OF_AGENT,
    RETENTION_DAYS_DEFAULT,
    TITLE_CHARS_MAX,
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
    Source,
    Summary,
    Synced,
    Turn,
    View,
    iso,
)
from ctxmem_mcp.stores.base import RepairableStore, Salvage, SpendLimits, State, Store
from ctxmem_mcp.summarizers.base import Summarizer, is_uninformative
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.embeddings import Embedder
from ctxmem_mcp.views.layout import Quote
from ctxmem_mcp.views.render import TimestampPrinter, quote_text
from ctxmem_mcp.worker_pool import WorkerPool

__all__ = ["Memory"]

# A search over all conversations reads this many of the most recently active.
SEARCHED_CONVERSATIONS = 100
# User turns among this many last turns make the query; a turn of this many words is one on its own.
QUERY_WITHIN_TURNS, QUERY_WORDS = 64, 4

_log = logging.getLogger(__name__)


class Memory:
    """An open memory. Its methods may be called concurrently, in the event loop that it was opened in.

    Times are ISO 8601 in arguments and seconds since 1970 in `Conversation`. Budgets are tokens of the conversation's
    encoding. Ids of turns and nodes may be shortened, as views show them.

    Beside what it lists, each method raises:
        Unavailable: The store can't be read or written, or a newer version of ctxmem-mcp wrote the file.
        Corrupt: Stored data is damaged.
        HeadMoved: The conversation was forgotten and restarted again and again during the call.
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
        monotonic: Callable[[], float] = time.monotonic,
        expiry_watch: ExpiryWatch | None = None,
        on_forgotten: Callable[[list[str]], None] = lambda _: None,
        redact: Callable[[str], str] | None = None,
        spend_limits: SpendLimits | None = None,
        embedder: Embedder | None = None,
        request_summaries: bool = False,
        usage_of: Callable[[str], Mapping[str, Any] | None] = lambda _: None,
        workers: WorkerPool | None = None,
    ) -> None:
        """Creates a memory over a store.

        Args:
            store: Closed with the memory.
            summarizer: Writes the first summary of each node.
            encoding: The token encoding of new conversations.
            retention_days: How long conversations are kept after their last append, unless the caller says otherwise.
            salt: Keys every hash of new conversations; one per principal, so that none can probe another's turns.
            clock: Returns seconds since 1970.
            monotonic: Returns seconds that only ever increase.
            expiry_watch: The expired conversations that sweeps of earlier memories over the same store have found.
            on_forgotten: Called with the ids of conversations that were forgotten or have expired.
            redact: Removes secrets from a text: from turns before they are hashed, and from written summaries.
            spend_limits: Those of the configured summary model, which `model_usage` reports. Memory itself never calls
                a model.
            embedder: Computes the vectors of new turns and of queries, if ranking uses meaning.
            request_summaries: Views may list nodes that need a better summary.
            usage_of: Returns the gateway's usage of a conversation. It may block: it runs in a thread.
            workers: Compute what is large, so that the event loop goes on. By default it is computed in the loop.
        """
        self._store, self._summarizer, self._clock, self._on_forgotten = store, summarizer, clock, on_forgotten
        self._redact, self._request_summaries = redact, request_summaries
        self._spend_limits, self._embedder, self._usage_of = spend_limits, embedder, usage_of
        defaults = Defaults(salt, encoding, check_retention_days(retention_days) or RETENTION_DAYS_DEFAULT)
        self._expiry_watch = expiry_watch or ExpiryWatch(monotonic)
        self._caches = ReadCaches()
        self._workers = workers
        self._vectors = VectorQueue(store, embedder, workers) if embedder else None
        self._writer = Writer(store, summarizer, defaults, clock, self._vectors, workers)

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
        """Appends one turn. It is stored durably when this returns.

        Args:
            turn: The turn.
            conversation_id: Created if unknown. By default a new conversation gets a new id.
            parent_id: The turn it follows (default: the head). With it a retry returns the same turn and stores
                nothing; a parent that is not the head forks.
            retention_days: Days to keep the conversation after its last append (1..365).
            space: The space of a new conversation.

        Raises:
            InvalidArgument: An argument breaks its rule.
            UnknownTurn: The conversation has no turn `parent_id`.
            AmbiguousId: `parent_id` fits several turns.
            Forgotten: The conversation was forgotten during the call.
        """
        since = await self._store.count_tombstones()
        check_turn(turn, "")
        conversation = check_or_create_id(conversation_id)
        target = AppendTarget(conversation, parent_id, True, check_retention_days(retention_days), space, since)
        done = await self._extend(await redact_turns([turn], self._redact, self._workers), target)
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
        source: Source = Source.MESSAGES,
    ) -> Synced:
        """Stores a transcript: finds its longest known prefix and appends the rest in one transaction.

        Turns that differ from the stored ones fork.

        Args:
            turns: The transcript so far, or the turns that follow `after`.
            conversation_id: Created if unknown. By default the conversation is found by its first turns.
            after: The turn that they follow; by default they start the conversation. Needs `conversation_id`.
            retention_days: Days to keep the conversation after its last append (1..365).
            space: The space of a new conversation.
            source: Where the turns come from.

        Raises:
            InvalidArgument: An argument breaks its rule.
            UnknownTurn: The conversation has no turn `after`.
            AmbiguousId: `after` fits several turns.
            Forgotten: The turns were forgotten with their conversation, or it was forgotten during the call.
        """
        since = await self._store.count_tombstones()
        if not turns:
            raise InvalidArgument("messages", "must contain at least one message", "Send the transcript so far.")
        for i, turn in enumerate(turns):
            check_turn(turn, f"messages[{i}].")
        turns = await redact_turns(turns, self._redact, self._workers)
        days = check_retention_days(retention_days)
        if conversation_id is None and after is not None:
            raise InvalidArgument(
                "after", "needs a conversation_id", "Pass the id of the conversation that the turn belongs to."
            )
        target = AppendTarget(conversation_id or "", after, False, days, space, since, source)
        if conversation_id is not None:
            return await self._sync(turns, replace(target, conversation_id=check_or_create_id(conversation_id)))
        async with self._writer.locked_by_opening(turns):
            found = check_or_create_id(await self._writer.find(turns))
            return await self._sync(turns, replace(target, conversation_id=found, is_found=True))

    async def _sync(self, turns: Sequence[NewTurn], target: AppendTarget) -> Synced:
        conversation = target.conversation_id
        done = await self._extend(turns, target)
        ids = [turn.id for turn in await self._turns_at(conversation, done.known, metadata_only=True)]
        new = done.built.turns if done.built else []
        ids += [turn.id for turn in new]
        return Synced(conversation, ids[-1], len(done.known), len(new), done.forked, ids)

    async def _extend(self, turns: Sequence[NewTurn], target: AppendTarget) -> AppendOutcome:
        try:
            return await self._writer.extend(turns, target)
        except CtxmemError:
            raise
        except Exception as error:
            await self._diagnose(target.conversation_id, error)
            raise

    async def revert(self, conversation_id: str, turn_id: str) -> Reverted:
        """Moves the head to a turn. Deletes nothing: reverting to `previous_head` undoes it.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no such turn.
            AmbiguousId: The id fits several turns.
        """
        before, seq = await self._writer.revert(conversation_id, turn_id)
        head = await self._turn_at(conversation_id, seq)
        previous = await self._turn_at(conversation_id, before.head)
        left_branch = before.head not in Lineage.of(before.runs, seq)
        return Reverted(conversation_id, head.id, previous.id, previous.id if left_branch else None)

    async def forget(self, conversation_id: str, confirm: str) -> Receipt:
        """Removes every byte of a conversation.

        Args:
            conversation_id: The conversation.
            confirm: Its id once more.

        Raises:
            NotConfirmed: `confirm` is not the id. Nothing was removed.
            UnknownConversation: There is no such conversation.
        """
        if confirm != conversation_id:
            raise NotConfirmed(conversation_id)
        # Read first: an error afterwards would withhold the receipt.
        others = [one.conversation_id for one in await self.all_conversations()]
        others = [one for one in others if one.startswith(conversation_id + OF_AGENT)]
        async with self._writer.locked(conversation_id):
            self._drop(conversation_id)
            return replace(await run_to_completion(self._forget(conversation_id)), others=others)

    async def _forget(self, conversation_id: str) -> Receipt:
        """Forgets it with all that is stored beside it, even if a process killed while forgetting left only that."""
        try:
            receipt = await self._store.forget(conversation_id)
        except UnknownConversation:
            self._on_forgotten([conversation_id])
            raise
        self._on_forgotten([conversation_id])
        return receipt

    async def allow_again(self, conversation_id: str | None, branches: Sequence[Sequence[NewTurn]]) -> None:
        """Allows what was forgotten to be stored again, because the user says so explicitly. Stores nothing itself.

        Args:
            conversation_id: The conversation that was forgotten, if it is named.
            branches: The turns of each of its branches, from the first.
        """
        redacted = [await redact_turns(turns, self._redact, self._workers) for turns in branches]
        await self._store.lift(conversation_id, redacted)

    async def set_retention(self, conversation_id: str, retention_days: int) -> Conversation:
        """Sets how many days (1..365) the conversation is kept after its last append.

        Raises:
            InvalidArgument: The number is out of range.
            UnknownConversation: There is no such conversation.
        """
        check_retention_days(retention_days)
        return _conversation_of(await self._writer.set_retention(conversation_id, retention_days))

    async def set_space(self, conversation_id: str, space: str | None) -> Conversation:
        """Moves the conversation to a space; None takes it out of any.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        return _conversation_of(await self._writer.set_space(conversation_id, space))

    async def set_title(self, conversation_id: str, title: str) -> Conversation:
        """Names the conversation, until turns appended later give it another topic.

        Args:
            conversation_id: The conversation.
            title: One line, at most 200 characters: more white space becomes one space, and the rest is cut. A title
                that says nothing is ignored.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        line = " ".join(title.encode("utf-8", "replace").decode().split())
        line = redact_title(line, self._redact)[:TITLE_CHARS_MAX].rstrip()
        if is_uninformative(line):
            return await self.info(conversation_id)
        return _conversation_of(await self._writer.set_title(conversation_id, line))

    @retry_if_replaced
    async def add_summary(self, conversation_id: str, node_id: str, summary: Summary) -> str:
        """Adds a summary to a closed node, beside those of other authors.

        Returns:
            The node's id, in full.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownNode: It has no such node.
            AmbiguousId: The id fits several nodes.
        """
        node, _ = await (await self._ids(conversation_id)).node(node_id)
        return await self._join_summary(conversation_id, node, summary)

    @retry_if_replaced
    async def write_summary(
        self, conversation_id: str, node_id: str, title: str, summary: str, author: str = "agent"
    ) -> str:
        """Adds a summary in plain text to a closed node; each line becomes a highlight.

        Returns:
            The node's id, in full.

        Raises:
            InvalidArgument: The title or the summary is empty.
            UnknownConversation: There is no such conversation.
            UnknownNode: It has no such node.
            AmbiguousId: The id fits several nodes.
        """
        title, lines = " ".join(title.split()), [" ".join(line.split()) for line in summary.splitlines()]
        if not title or not any(lines):
            raise InvalidArgument("summary", "needs a title and some text", "Write what happened, one point per line.")
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
        """Deletes conversations that have expired by this reading of the clock and by one a minute or more ago.

        Returns:
            Their ids.
        """
        return await run_to_completion(self._sweep())

    @property
    def has_unconfirmed_expiry(self) -> bool:
        """Whether a sweep in a minute may delete what the last one was the first to find expired."""
        return self._expiry_watch.is_waiting

    async def _sweep(self) -> list[str]:
        expired = self._expiry_watch.confirm(await self._store.expired(self._clock()))
        forgotten = await self._store.sweep(expired)
        for conversation_id in forgotten:
            _log.info("Deleted conversation %s, which expired at %s.", conversation_id, iso(expired[conversation_id]))
            self._drop(conversation_id)
        if forgotten:
            self._on_forgotten(forgotten)
        return forgotten

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
        omitted_turns: Collection[int] = (),
    ) -> View:
        """Returns the history within a token budget: all of it in outline, what matters to the query in full.

        Args:
            conversation_id: The conversation.
            query: What the reader wants to know. By default the last user turns.
            token_budget: The most that header and text take together.
            turn_id: The view as of that turn (default: the head).
            layout: `tree`, in conversation order, or `stable`, with a prefix that the next turns don't change.
            explain: Say why each excerpt was chosen (tree layout only).
            reader_can_write: The reader can write summaries, so the header may name nodes that need a better one, if
                this memory requests summaries (tree layout only).
            omitted_turns: Indexes of turns that the reader has already: they are not quoted (stable layout only).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
            InvalidArgument: `layout` is unknown.
            BudgetTooSmall: No view fits; its `floor` is the smallest budget that does.
        """
        branch = await self._reader(conversation_id, turn_id, cached=True)
        requests = reader_can_write and self._request_summaries
        request = ViewRequest(query, token_budget, layout, explain, requests, frozenset(omitted_turns))
        return await view.view(branch, self._summarizer, request)

    @retry_if_replaced
    async def expand(
        self, conversation_id: str, node_id: str, *, token_budget: int = 4_000, cursor: str | None = None
    ) -> View:
        """Returns a node's outline, the turns of a leaf or span, or the content of one turn, in pages.

        Args:
            conversation_id: The conversation.
            node_id: A node, a turn, or a span of turns.
            token_budget: The most that header and text of a page take together.
            cursor: `next_cursor` of the previous page.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownNode, UnknownTurn: It has no such node or turn.
            AmbiguousId: The id fits several.
            InvalidArgument: The cursor is none of this node.
            BudgetTooSmall: No page fits; its `floor` is the smallest budget that does.
        """
        state = await self._state(conversation_id)
        named, lineage = await IdResolver(self._store, state).resolve(node_id)
        return await expand.expand(BranchReader(self._store, state, lineage), named, token_budget, cursor)

    @retry_if_replaced
    async def hand_off(self, conversation_id: str, *, token_budget: int = 4_000, note: str | None = None) -> View:
        """Returns a brief for the next agent run: goal, terms, decisions, changes, errors and how they ended, open
        points, where to look.

        Args:
            conversation_id: The conversation.
            token_budget: The most that header and text take together.
            note: A text of the caller's to include, in full.

        Raises:
            UnknownConversation: There is no such conversation.
            InvalidArgument: The note is too long.
            BudgetTooSmall: No brief fits; its `floor` is the smallest budget that does.
        """
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
        """Finds turns that contain words of the query, best first.

        Args:
            query: The words.
            conversation_id: By default the most recently active conversations, of which unreadable ones are skipped.
            limit: The most hits to return.
            role: Only turns of this role.
            since: Only turns said at or after this time (ISO 8601).
            until: Only turns said at or before this time (ISO 8601).

        Raises:
            InvalidArgument: `role`, `since` or `until` breaks its rule.
            UnknownConversation: There is no such conversation.
        """
        if role is not None:
            check_role(role, "")
        filter_by = Filter(role, parse_time("since", since), parse_time("until", until), limit)
        if conversation_id is not None:
            return await self._search(conversation_id, query, filter_by, cached=True)
        found: list[Hit] = []
        for info in (await self.conversations(limit=SEARCHED_CONVERSATIONS)).conversations:
            try:
                found += await self._search(info.conversation_id, query, filter_by)
            except (UnknownConversation, HeadMoved):
                continue
            except (Corrupt, Unavailable) as error:
                _log.warning("Conversation %s was not searched: %s", info.conversation_id, error)
        return sorted(found, key=lambda hit: -hit.score)[:limit]

    async def conversations(
        self, *, space: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> ConversationPage:
        """Lists conversations, the most recently active first.

        Args:
            space: Only those in this space.
            limit: The most that a page holds.
            cursor: `next_cursor` of the previous page.

        Raises:
            InvalidArgument: The cursor is malformed.
        """
        return await self._store.conversations(self._clock(), space, limit, cursor)

    async def all_conversations(self) -> list[ConversationInfo]:
        """Lists all conversations, the most recently active first."""
        return list((await self.conversations(limit=sys.maxsize)).conversations)

    async def info(self, conversation_id: str) -> Conversation:
        """Returns a conversation's title, counts and retention.

        Raises:
            UnknownConversation: It never existed, has expired or was forgotten.
        """
        return _conversation_of(await self._state(conversation_id))

    @retry_if_replaced
    async def turn(self, conversation_id: str, turn_id: str) -> Turn:
        """Returns one turn, its content byte for byte.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no such turn.
            AmbiguousId: The id fits several turns.
        """
        return await self._turn_at(conversation_id, await (await self._ids(conversation_id)).turn_seq(turn_id))

    @retry_if_replaced
    async def turns(
        self, conversation_id: str, *, first: int = 0, last: int | None = None, turn_id: str | None = None
    ) -> list[Turn]:
        """Returns the turns at indexes first..last of a branch (inclusive; None: to its end).

        Args:
            conversation_id: The conversation.
            first: Index of the first turn.
            last: Index of the last turn; indexes outside the branch are ignored.
            turn_id: The last turn of the branch (default: the head).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        lineage = (await self._reader(conversation_id, turn_id)).lineage
        seqs = lineage.seqs(max(0, first), lineage.length - 1 if last is None else last)
        return await self._turns_at(conversation_id, seqs)

    @retry_if_replaced
    async def head(self, conversation_id: str) -> Turn:
        """Returns the turn that the next one would follow.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        return await self._turn_at(conversation_id, (await self._state(conversation_id)).head)

    async def stored_head(self, conversation_id: str) -> str | None:
        """Returns the head's turn id, also of a conversation that has expired but is not deleted yet; None without one.

        To decide on a conversation's absence, use this rather than `info`: the clock may be wrong for a moment.
        """
        state = await self._store.load(conversation_id, ANY_TIME)
        return None if state is None else (await self._turn_at(conversation_id, state.head)).id

    @retry_if_replaced
    async def history(self, conversation_id: str, *, turn_id: str | None = None) -> list[Turn]:
        """Returns all turns of a branch, up to `turn_id` (default: the head).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        lineage = (await self._reader(conversation_id, turn_id)).lineage
        return await self._turns_at(conversation_id, lineage.seqs(0, lineage.length - 1))

    @retry_if_replaced
    async def last_turns(
        self, conversation_id: str, *, token_budget: int, overhead: int = 0, turn_id: str | None = None
    ) -> list[Turn]:
        """Returns as many of the last turns of a branch as fit a budget, oldest first.

        Args:
            conversation_id: The conversation.
            token_budget: The most that they cost together.
            overhead: Tokens that each costs beside its content.
            turn_id: The last turn of the branch (default: the head).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        branch = await self._reader(conversation_id, turn_id, cached=True)
        return await recent.last_turns(branch, token_budget, overhead)

    @retry_if_replaced
    async def turn_sizes(self, conversation_id: str, *, turn_id: str | None = None) -> list[int]:
        """Returns the tokens of each turn of a branch, up to `turn_id` (default: the head).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        branch = await self._reader(conversation_id, turn_id, cached=True)
        return [turn.tokens for turn in await branch.metadata(0, branch.lineage.length - 1)]

    @retry_if_replaced
    async def last_user_query(self, conversation_id: str, *, turn_id: str | None = None) -> str | None:
        """Returns the user's last words on a branch (up to `turn_id`, by default the head) as a query.

        The turn before is part of it if the last one is only a few words ("go on").

        Returns:
            None if the last 64 turns hold no words of the user's.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        branch = await self._reader(conversation_id, turn_id, cached=True)
        query = await recent.last_user_query(branch, within=QUERY_WITHIN_TURNS, enough_words=QUERY_WORDS)
        return query.strip() or None

    @staticmethod
    def quote(turns: Sequence[Turn]) -> str:
        """Returns the text of these turns as views quote them: each under a line with its id, role, name and time."""
        timestamps = TimestampPrinter()
        return "".join(quote_text(Quote.all_of(turn), timestamps) for turn in turns)

    @retry_if_replaced
    async def branches(self, conversation_id: str) -> list[Turn]:
        """Returns the last turn of every branch, oldest branch first.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        return await self._turns_at(conversation_id, branch_tips(await self._state(conversation_id)))

    @retry_if_replaced
    async def outline(
        self, conversation_id: str, *, turn_id: str | None = None, depth: int | None = None
    ) -> list[OutlineNode]:
        """Returns the tree of a branch with its summaries: the topmost closed nodes, then the open tail.

        Args:
            conversation_id: The conversation.
            turn_id: The last turn of the branch (default: the head).
            depth: How many levels below the topmost nodes to include (default: all).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        return await outline.outline(await self._reader(conversation_id, turn_id), self._summarizer, depth)

    async def model_usage(self, conversation_id: str) -> ModelUsage:
        """Returns what summaries by the configured model have cost, and the limits.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        await self._state(conversation_id)
        return await usage.usage(self._store, conversation_id, self._spend_limits, self._clock())

    async def gateway_usage(self, conversation_id: str) -> Mapping[str, Any] | None:
        """Returns the gateway's usage for this conversation, by day; None if there is no record of it.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        await self._state(conversation_id)
        return await anyio.to_thread.run_sync(self._usage_of, conversation_id)

    async def verify(self, conversation_id: str) -> list[str]:
        """Reads everything that is stored and recomputes every hash on every branch.

        Returns:
            A sentence for each fault; empty if there is none.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        try:
            return await self._verify(conversation_id)
        except Corrupt as error:  # not even its state can be read
            return [error.message]

    async def damaged(self, *, seconds: float) -> dict[str, str]:
        """Looks for damaged conversations, for at most so many seconds. `verify` finds more.

        Returns:
            What is wrong with each, by its id.
        """
        return await self._store.damaged(seconds) if isinstance(self._store, RepairableStore) else {}

    async def repair(self, conversation_id: str) -> Repaired:
        """Rebuilds a conversation from all turns that can be read, and keeps the damaged files beside it.

        Tree, index, summaries and the catalog's entry are made anew; written summaries and branches are kept as far as
        they can be read. A turn that can't be read is replaced by a note.

        Raises:
            UnknownConversation: There is no such conversation.
            DamagedConversation: None of its turns can be read. Nothing was changed.
            StoreUnavailable: It was changed during the repair, or this store holds no files. Nothing was changed.
        """
        if not isinstance(self._store, RepairableStore):
            raise StoreUnavailable("This store holds no files that could be damaged.", "Use a store on disk.")
        empty = self._writer.new_state(conversation_id)

        async def build(store: Store, salvage: Salvage) -> tuple[int, tuple[tuple[int, str], ...]]:
            return await repair.rebuild(store, salvage, empty, self._summarizer, self._embedder)

        async with self._writer.locked(conversation_id):
            self._drop(conversation_id)
            (turns, lost), kept = await self._store.rebuild(conversation_id, build)
        return Repaired(conversation_id, turns, lost, kept)

    async def close(self) -> None:
        """Closes the store. Later calls raise StoreUnavailable."""
        if self._vectors:
            await self._vectors.close()
        self._writer.clear()
        self._caches.clear()
        await self._store.close()

    # ------------------------------------------------------------ inside

    def _drop(self, conversation_id: str) -> None:
        """Drops all that this process holds of a conversation that is forgotten or replaced."""
        self._writer.drop(conversation_id)
        self._caches.drop(conversation_id)
        if self._vectors:
            self._vectors.drop(conversation_id)

    @retry_if_replaced
    async def _search(self, conversation_id: str, query: str, filter_by: Filter, *, cached: bool = False) -> list[Hit]:
        return await search.search(await self._reader(conversation_id, cached=cached), query, filter_by)

    @retry_if_replaced
    async def _verify(self, conversation_id: str) -> list[str]:
        return await verify.verify(self._store, await self._state(conversation_id))

    async def _diagnose(self, conversation_id: str, error: Exception) -> None:
        """Raises DamagedConversation if the error has come from damage.

        Every row is checked when it is read, but a row that is missing, or one that leads elsewhere, may end in any
        error where it is used.
        """
        if isinstance(error, HeadMoved):  # less was read than was stored, and nobody has changed it
            raise DamagedConversation(conversation_id, "Rows that were stored are missing.") from error
        if isinstance(error, CtxmemError):
            return
        if faults := await self.verify(conversation_id):
            raise DamagedConversation(conversation_id, faults[0]) from error

    async def _state(self, conversation_id: str) -> State:
        state = await self._store.load(conversation_id, self._clock())
        if state is None:
            self._caches.drop(conversation_id)
            raise UnknownConversation(conversation_id)
        return state

    async def _ids(self, conversation_id: str) -> IdResolver:
        return IdResolver(self._store, await self._state(conversation_id))

    async def _reader(self, conversation_id: str, turn_id: str | None = None, *, cached: bool = False) -> BranchReader:
        """Opens the branch up to a turn (default: the head). cached: keep what is read for the next call, which a
        search over a hundred conversations must not do."""
        state = await self._state(conversation_id)
        seq = state.head if turn_id is None else await IdResolver(self._store, state).turn_seq(turn_id)
        cache = self._caches.at(state) if cached else ReadCache()
        return BranchReader(self._store, state, Lineage.of(state.runs, seq), self._embedder, cache, self._vectors)

    async def _turn_at(self, conversation_id: str, seq: int) -> Turn:
        return (await self._turns_at(conversation_id, [seq]))[0]

    async def _turns_at(self, conversation_id: str, seqs: Sequence[int], *, metadata_only: bool = False) -> list[Turn]:
        turns = await self._store.turns(conversation_id, seqs, metadata_only=metadata_only) if seqs else []
        if len(turns) < len(seqs):  # forgotten and restarted in between
            raise HeadMoved(conversation_id)
        return turns


def _conversation_of(state: State) -> Conversation:
    return Conversation(
        state.conversation_id, state.title, state.space, state.turns, state.tokens, state.nodes, state.encoding,
        state.retention_days, state.created, state.updated, state.expires,
    )  # fmt: skip
