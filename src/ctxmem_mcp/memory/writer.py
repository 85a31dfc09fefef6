"""Appends, syncs, reverts and changes of retention, each one optimistic commit.

A commit is computed from the state that this process knows, and the store accepts it only if that state is still the
current one; otherwise it is read and computed again. Nothing is locked across processes, and a retry stores nothing
twice.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import anyio
import anyio.to_thread

from ctxmem_mcp import tree
from ctxmem_mcp.errors import HeadMoved, InvalidArgument, StoreUnavailable, UnknownConversation, UnknownTurn
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.memory.append_target import AppendOutcome, AppendTarget
from ctxmem_mcp.memory.branches import Lineage, branch_tips
from ctxmem_mcp.memory.commit_builder import (
    Built,
    CommitBuilder,
    Edge,
    build_in_steps,
    chain_digests,
    count_in_steps,
    encode_frontier,
    language_of,
    turn_facts,
)
from ctxmem_mcp.memory.edge_loader import known_prefix, load_edge, load_spine
from ctxmem_mcp.memory.expiry import ANY_TIME, DAY, extended, with_retention
from ctxmem_mcp.memory.id_resolver import IdResolver
from ctxmem_mcp.memory.keyed_lock import KeyedLock
from ctxmem_mcp.memory.turn_indexer import TurnIndexer
from ctxmem_mcp.memory.vector_queue import VectorQueue
from ctxmem_mcp.models import REDACTED, NewTurn, Redaction, Turn, id_digits, iso, redacted_text
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import Commit, Run, State, children_of
from ctxmem_mcp.stores.tombstones import ForgetGuard
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text.embeddings import DeferredEmbedder
from ctxmem_mcp.worker_pool import LARGE_CHARS, WorkerPool, finish

# Edges cached between appends; each holds the text of one open leaf.
EDGES_CACHED = 64
# Other writers may commit first again and again; each try costs a millisecond or two.
TRIES = 200
# A turn costs as much as so many characters, however short it is.
TURN_CHARS = 500
# How many conversations with the same first turn are compared to find the one that a transcript belongs to.
CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Defaults:
    """The settings of a new conversation."""

    salt: bytes
    encoding: str
    retention_days: int


@dataclass(frozen=True, slots=True)
class _Addition:
    """New turns with their digests.

    Attributes:
        after: seq of the turn that they follow.
        index: of the first of them.
        days: the retention to set; None: that of before.
        head: seq of the turn that stays the head; 0: the last of them becomes it.
    """

    turns: Sequence[NewTurn]
    digests: Sequence[bytes]
    after: int
    index: int
    stored_at: float
    days: int | None
    guard: ForgetGuard
    head: int


class Writer:
    """Changes conversations, each by one caller at a time within this process."""

    def __init__(
        self,
        store: Store,
        summarizer: Summarizer,
        defaults: Defaults,
        clock: Callable[[], float],
        vectors: VectorQueue | None = None,
        workers: WorkerPool | None = None,
        index_later_chars: int | None = None,
    ) -> None:
        self._workers, self._index_later_chars = workers, index_later_chars
        self.indexer = TurnIndexer(store, summarizer, clock, vectors, workers)
        self._store, self._summarizer, self._defaults, self._clock = store, summarizer, defaults, clock
        self._vectors, self._embedder = vectors, DeferredEmbedder() if vectors else None
        self._edges: LRU[str, tuple[State, Edge]] = LRU(EDGES_CACHED)
        self._locks: dict[str, tuple[anyio.Lock, int]] = {}

    def locked(self, conversation_id: str) -> KeyedLock:
        return KeyedLock(self._locks, conversation_id)

    def drop(self, conversation_id: str) -> None:
        self._edges.pop(conversation_id, None)

    def clear(self) -> None:
        self._edges.clear()

    async def extend(self, turns: Sequence[NewTurn], target: AppendTarget) -> AppendOutcome:
        """Appends those of `turns` that are not stored yet, in one commit."""
        async with self.locked(target.conversation_id):
            for _ in range(TRIES):
                try:
                    return await self._extend_once(turns, target)
                except (HeadMoved, UnknownConversation):  # unknown: forgotten between two reads, now created again
                    self.drop(target.conversation_id)
                    await _pause_before_retry()
                except UnknownTurn:
                    # Another process may have stored the turn after this one cached its state.
                    if target.conversation_id not in self._edges:
                        raise
                    self.drop(target.conversation_id)
                except BaseException:
                    self.drop(target.conversation_id)
                    raise
        raise _too_busy(target.conversation_id)

    async def _extend_once(self, turns: Sequence[NewTurn], target: AppendTarget) -> AppendOutcome:
        now = self._clock()
        is_cached = target.conversation_id in self._edges
        state, edge = await self._state_and_edge(target, now)
        if state.unindexed and target.source is None:  # what one turn closes is known once all before it are indexed
            await self.indexer.wait(target.conversation_id)
            raise HeadMoved(target.conversation_id)
        start = await self._start(state, target)
        if edge is not None and start == edge.seq:
            digest, length = edge.digest, edge.length
        else:
            digest = await self._digest(state.conversation_id, start)
            length = Lineage.of(state.runs, start).length
        digests = await self._digests_of(turns, digest, state.salt)
        turns = await self._without_redacted(turns, digests, digest, at_start=not start)
        last_stored = state.next_seq - 1
        known = await known_prefix(self._store, state, start, digests) if start < last_stored else []
        start_id = f"t{length - 1}-{id_digits(digest)}" if length else None
        if len(known) == len(turns):
            if await self._store.load(target.conversation_id, ANY_TIME) != state:  # no commit checks it
                raise HeadMoved(target.conversation_id)
            days = _days_allowed(state, known[-1], target)
            at = known[-1] if target.moves_head else state.head
            after = await self._move_head_to_known(state, at, days, now)
            return AppendOutcome(state, after, start_id, known)
        guard = target.guard(turns, start, len(known), digests)
        # A commit that follows a cached state replaces it or fails, so an append is checked only without one. It is
        # checked after the state was loaded: whoever sees that a conversation is gone also sees its tombstone.
        if target.source is not None or not is_cached:
            await self._store.check_forgotten(target.conversation_id, guard)
        last_known = known[-1] if known else start
        forked = bool(children_of(state.runs, state.next_seq, last_known)) and bool(state.head)
        new = _Addition(
            turns[len(known) :], digests[len(known) :], last_known, length + len(known),
            # A clock that is behind counts as what is stored.
            stored_at=max(now if target.stored_at is None else target.stored_at, state.updated),
            days=_days_allowed(state, last_known, target),
            guard=guard,
            head=0 if target.moves_head else state.head,
        )  # fmt: skip
        store = self._store_first if state.unindexed or self._is_indexed_later(new.turns) else self._store_indexed
        stored, after, closed = await store(state, edge, new, now)
        return AppendOutcome(state, after, start_id, known, stored, closed, forked)

    async def _store_indexed(
        self, state: State, edge: Edge | None, new: _Addition, now: float
    ) -> tuple[Sequence[Turn], State, list[str]]:
        """Stores turns with all that is computed from them, in one commit."""
        if edge is None or new.after != edge.seq:
            edge = await load_edge(self._store, state, new.after)
        built = await self._build(state, edge, new.turns, new.digests, new.stored_at, new.days)
        after = built.commit.state
        if new.head:
            after = replace(after, head=new.head, frontier=state.frontier, title=state.title or after.title)
        await self._store.commit(replace(built.commit, state=after, guard=new.guard), now)
        if new.head:
            self.drop(after.conversation_id)
        else:
            self._edges[after.conversation_id] = (after, built.edge)
        if self._vectors:
            self._vectors.add(built.commit)
        return built.turns, after, [closing.node.id for closing in built.commit.closings]

    async def _store_first(
        self, state: State, edge: Edge | None, new: _Addition, now: float
    ) -> tuple[Sequence[Turn], State, list[str]]:
        """Stores turns and nothing that is computed from them but their hashes and tokens; the rest follows."""
        if len(new.turns) == 1 and (edge is None or new.after != edge.seq) and not state.unindexed:
            edge = await load_edge(self._store, state, new.after)
        sizes = await self._count(new.turns, state.encoding)
        turns = [
            Turn(
                state.next_seq + i, new.index + i, digest, turn.role, turn.content, turn.name, turn.said_at,
                turn.call_id, size, new.stored_at, flags=REDACTED if turn.is_redacted else 0,
            )
            for i, (turn, digest, size) in enumerate(zip(new.turns, new.digests, sizes, strict=True))
        ]  # fmt: skip
        closed: list[str] = []
        if len(turns) == 1 and edge is not None and not state.unindexed:
            facts = turn_facts(replace(turns[0], language=language_of(new.turns[0])))
            closed = [node.id for node in tree.grow(edge.frontier, facts, state.salt).closed]
        commit = _commit_of_turns(state, turns, new)
        self.drop(state.conversation_id)
        await self._store.commit(commit, now)
        if edge is not None and edge.seq == new.after:
            self.indexer.add_edge(state, edge)
        self.indexer.start(state.conversation_id)
        return turns, commit.state, closed

    def _is_indexed_later(self, turns: Sequence[NewTurn]) -> bool:
        if self._index_later_chars is not None:
            return sum(len(turn.content) for turn in turns) > self._index_later_chars
        return self._workers is not None and _is_large(turns)

    async def _count(self, turns: Sequence[NewTurn], encoding: str) -> list[int]:
        # Sending many short turns to a worker takes longer than counting them.
        if self._workers and sum(len(turn.content) for turn in turns) > LARGE_CHARS:
            return await self._workers.run(count_in_steps, turns, encoding)
        return finish(count_in_steps(turns, encoding))

    async def _build(
        self, state: State, edge: Edge, turns: Sequence[NewTurn], digests: Sequence[bytes], now: float, days: int | None
    ) -> Built:
        """Builds the commit: here, or in a worker process if the new turns or the open leaf, which they may close, are
        large."""
        arguments = (state, edge, turns, digests, self._summarizer, self._embedder)
        if self._workers and (_is_large(turns) or _is_large(edge.open)):
            return await self._workers.run(partial(build_in_steps, now=now, retention_days=days), *arguments)
        builder = CommitBuilder(state, edge, self._summarizer, self._embedder, now=now)
        builder.add(turns, digests)
        return builder.build(days)

    async def _without_redacted(
        self, turns: Sequence[NewTurn], digests: Sequence[bytes], previous: bytes, *, at_start: bool
    ) -> Sequence[NewTurn]:
        """Returns the turns without the contents of those that were redacted and are sent again. They keep their ids.

        previous: the digest of the turn before the first one.
        """
        found = await self._store.find_redacted(turns, digests, at_start=at_start)
        if not found:
            return turns
        text, kept = redacted_text(iso(self._clock())[: len("2026-01-01")]), list(turns)
        for i in found:
            kept[i] = replace(
                turns[i], content=text, redaction=Redaction(digests[i], digests[i - 1] if i else previous)
            )
        return kept

    async def _digests_of(self, turns: Sequence[NewTurn], previous: bytes, salt: bytes) -> list[bytes]:
        if self._workers and _is_large(turns):
            return await anyio.to_thread.run_sync(chain_digests, turns, previous, salt)
        return chain_digests(turns, previous, salt)

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
                    await _pause_before_retry()
        raise _too_busy(conversation_id)

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

    async def set_space(self, conversation_id: str, space: str | None) -> State:
        def change(state: State) -> Awaitable[State]:
            return self._move_head(replace(state, space=space), state.head)

        return await self._retry_on_conflict(conversation_id, change)

    async def set_title(self, conversation_id: str, title: str) -> State:
        async def change(state: State) -> State:
            await self._require_index(state, state.next_seq - 1)  # turns that were stored before may name it again
            return state if state.title == title else await self._move_head(replace(state, title=title), state.head)

        return await self._retry_on_conflict(conversation_id, change)

    async def _retry_on_conflict(self, conversation_id: str, change: Callable[[State], Awaitable[State]]) -> State:
        async with self.locked(conversation_id):
            for _ in range(TRIES):
                state = await self._load(conversation_id)
                try:
                    return await change(state)
                except HeadMoved:
                    await _pause_before_retry()
        raise _too_busy(conversation_id)

    def locked_by_opening(self, turns: Sequence[NewTurn]) -> KeyedLock:
        """Locks while a conversation is found by these turns, or created: two callers at once create one."""
        opening = chain_digests(turns[: _opening_length(turns)], b"", self._defaults.salt)[-1]
        return self.locked(f"opening {opening.hex()}")

    async def find(self, turns: Sequence[NewTurn]) -> str | None:
        """Finds the conversation that these turns belong to: of several, the one with the longest common prefix."""
        digests = await self._digests_of(turns, b"", self._defaults.salt)
        now = self._clock()
        longest, found = 0, None
        for conversation in (await self._store.find(digests[0], now))[:CANDIDATES]:
            state = await self._store.load(conversation, now)
            if state is None:
                continue
            try:
                known = await known_prefix(self._store, state, 0, digests)
                if state.unindexed and known and known[-1] not in branch_tips(state) and len(known) < len(turns):
                    await self.indexer.wait(conversation)  # whether it belongs to it depends on the tree
                    state = await self._store.load(conversation, now) or state
                if len(known) > longest and await self._belongs_to(state, turns, known):
                    longest, found = len(known), conversation
            except (HeadMoved, UnknownConversation):  # forgotten in between
                continue
        return found

    async def _belongs_to(self, state: State, turns: Sequence[NewTurn], known: Sequence[int]) -> bool:
        """Whether a conversation of which these turns are known is that of `turns`.

        It is if `turns` is a beginning of it, or continues a branch to its end. If it departs from all branches, it is
        one only after the first closed leaf that holds a user's turn: chats that merely begin alike would share one
        retention, and forgetting one would remove the other.
        """
        if len(known) == len(turns) or known[-1] in branch_tips(state):
            return True
        opening = _opening_length(turns)
        if len(known) < opening:
            return False
        spine = await load_spine(self._store, state, Lineage.of(state.runs, known[-1]))
        return bool(spine) and spine[0 if spine[0] else -1][-1].last >= opening - 1

    async def _start(self, state: State, target: AppendTarget) -> int:
        """Returns the seq of the turn before the new ones."""
        if target.after is None:
            return state.head if target.on_head else 0
        if not state.head:
            await self._store.check_forgotten(state.conversation_id, target.guard((), 0, 0, ()))
            raise InvalidArgument(
                "parent_id" if target.on_head else "after",
                f"names a turn, but conversation {state.conversation_id!r} has none",
                "Leave it out for the first turn.",
            )
        return await IdResolver(self._store, state).turn_seq(target.after)

    async def _move_head_to_known(self, state: State, at: int, days: int | None, now: float) -> State:
        """Moves the head to the known turn `at`, unless the head follows it; sets the retention, if given.

        A conversation that has expired but is still stored is kept as if the turns had been appended now: the caller
        learns that they are stored.
        """
        is_passed = at in Lineage.of(state.runs, state.head)
        after = with_retention(state, days) if now < state.expires else extended(state, now, days)
        if is_passed and after == state:
            return state
        return await self._move_head(after, state.head if is_passed else at)

    async def _require_index(self, state: State, seq: int) -> None:
        """Waits until a turn is indexed; then raises HeadMoved, for the state has changed."""
        if seq >= state.next_unindexed:
            await self.indexer.wait(state.conversation_id)
            raise HeadMoved(state.conversation_id)

    async def _move_head(self, state: State, seq: int) -> State:
        frontier = state.frontier
        if seq != state.head:
            await self._require_index(state, seq)
            frontier = encode_frontier((await load_edge(self._store, state, seq)).frontier)
        moved = replace(state, version=state.version + 1, head=seq, frontier=frontier)
        self.drop(state.conversation_id)
        await self._store.commit(Commit(moved), self._clock())
        return moved

    async def _load(self, conversation_id: str) -> State:
        state = await self._store.load(conversation_id, self._clock())
        if state is None:
            raise UnknownConversation(conversation_id)
        return state

    async def _state_and_edge(self, target: AppendTarget, now: float) -> tuple[State, Edge | None]:
        """Returns the state to append to, and its edge; no edge if the head is not indexed yet.

        A conversation that has expired by this reading of the clock is continued as long as it is stored.
        """
        cached = self._edges.get(target.conversation_id)
        if cached is not None:
            return cached
        state = await self._store.load(target.conversation_id, ANY_TIME)
        if state is None:
            return self.new_state(target.conversation_id, target.space, target.stored_at), Edge()
        if state.unindexed:
            return state, None
        return state, await load_edge(self._store, state, state.head)

    def new_state(self, conversation_id: str, space: str | None = None, at: float | None = None) -> State:
        """Returns the state that a new conversation's first commit is computed from."""
        d, now = self._defaults, self._clock() if at is None else at
        return State(
            conversation_id, version=0, head=0, next_seq=1, next_piece=1, runs=(), turns=0, tokens=0,
            words=0, nodes=0, title="", space=space, salt=d.salt, encoding=d.encoding,
            retention_days=d.retention_days, created=now, updated=now, expires=now + d.retention_days * DAY,
        )  # fmt: skip

    async def _digest(self, conversation: str, seq: int) -> bytes:
        if not seq:
            return b""
        found = await self._store.digests(conversation, seq, seq)
        if not found:  # forgotten and restarted since the state was read
            raise HeadMoved(conversation)
        return found[0]


def _commit_of_turns(state: State, turns: Sequence[Turn], new: _Addition) -> Commit:
    """Returns the commit that stores turns without an index, and makes the last one the head."""
    first, last = turns[0], turns[-1]
    # The id of a run's first chunk is that of the next one to be stored, until the run is indexed.
    is_run = new.after != first.seq - 1 or not new.after
    runs = [Run(first.seq, new.after, first.index, state.next_piece)] if is_run else []
    after = replace(
        extended(state, new.stored_at, new.days),
        version=state.version + 1,
        head=new.head or last.seq,
        next_seq=last.seq + 1,
        runs=(*state.runs, *runs),
        turns=state.turns + len(turns),
        tokens=state.tokens + sum(turn.tokens for turn in turns),
        unindexed=(*state.unindexed, first.seq),
    )
    return Commit(after, turns, runs=runs, guard=new.guard)


def _is_large(turns: Iterable[NewTurn | Turn]) -> bool:
    left = LARGE_CHARS
    return any((left := left - TURN_CHARS - len(turn.content)) < 0 for turn in turns)


def _opening_length(turns: Sequence[NewTurn]) -> int:
    """Returns how many turns distinguish a conversation from others: those up to the first user turn."""
    return next((i + 1 for i, turn in enumerate(turns) if turn.role == "user"), 1)


def _days_allowed(state: State, after: int, target: AppendTarget) -> int | None:
    """Returns the retention to set when a branch is continued after the turn `after`, or None.

    A conversation is kept as long as its longest branch was promised, so fewer days are set only if no other branch has
    turns of its own, and by those who may delete what others have stored.
    """
    days = target.retention_days
    if days is None or days >= state.retention_days or not state.head:
        return days
    return days if target.may_shorten_retention and branch_tips(state) == [after] else None


def _too_busy(conversation: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"Other writers changed conversation {conversation!r} {TRIES} times during this call.",
        "Nothing was stored. Try again.",
    )


async def _pause_before_retry() -> None:
    await anyio.sleep(random.uniform(0, 0.01))
