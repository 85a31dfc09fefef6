"""Appends and syncs, each one optimistic commit."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from ctxmem_mcp import tree
from ctxmem_mcp.agents import session_of_output
from ctxmem_mcp.errors import Corrupt, HeadMoved, InvalidArgument, Unavailable, UnknownConversation, UnknownTurn
from ctxmem_mcp.memory.append_target import AppendOutcome, AppendTarget
from ctxmem_mcp.memory.branches import Lineage, branch_tips
from ctxmem_mcp.memory.commit_builder import (
    Built,
    CommitBuilder,
    Edge,
    build_in_steps,
    chain_digests,
    count_in_steps,
    language_of,
    turn_facts,
)
from ctxmem_mcp.memory.conversation_finder import find_conversation, opening_length
from ctxmem_mcp.memory.edge_loader import known_prefix, load_edge
from ctxmem_mcp.memory.expiry import ANY_TIME, extended, with_retention
from ctxmem_mcp.memory.id_resolver import IdResolver
from ctxmem_mcp.memory.keyed_lock import KeyedLock
from ctxmem_mcp.memory.state_changes import StateChanges
from ctxmem_mcp.memory.writer_core import TRIES, is_large, pause_before_retry, too_busy
from ctxmem_mcp.models import REDACTED, NewTurn, Redaction, Turn, id_digits, iso, redacted_text
from ctxmem_mcp.stores.records import Commit, Run, State, children_of
from ctxmem_mcp.stores.tombstones import ForgetGuard
from ctxmem_mcp.worker_pool import LARGE_CHARS, finish


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


class Writer(StateChanges):
    """Changes conversations, each by one caller at a time within this process."""

    async def extend(self, turns: Sequence[NewTurn], target: AppendTarget) -> AppendOutcome:
        """Appends those of `turns` that are not stored yet, in one commit."""
        async with self.locked(target.conversation_id):
            if target.conversation_id in self._edges:
                await self._notes.give_way(target.conversation_id)
            for failures in range(1, TRIES + 1):
                try:
                    outcome = await self._extend_once(turns, target)
                    await self._notes.remove_own(target.conversation_id)
                    return outcome
                except (HeadMoved, UnknownConversation):  # unknown: forgotten between two reads, now created again
                    self.drop(target.conversation_id)
                    await self._notes.leave(target.conversation_id, failures)
                    await pause_before_retry()
                except UnknownTurn:
                    # Another process may have stored the turn after this one cached its state.
                    if target.conversation_id not in self._edges:
                        raise
                    self.drop(target.conversation_id)
                except BaseException:
                    self.drop(target.conversation_id)
                    raise
        raise too_busy(target.conversation_id)

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
        # checked after the state was loaded: a reader that finds a conversation gone also finds its tombstone.
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
        return self._workers is not None and is_large(turns)

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
        if self._workers and (is_large(turns) or is_large(edge.open)):
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

    def locked_by_opening(self, turns: Sequence[NewTurn]) -> KeyedLock:
        """Locks while a conversation is found by these turns, or created: two callers at once create one."""
        opening = chain_digests(turns[: opening_length(turns)], b"", self._defaults.salt)[-1]
        return self.locked(f"opening {opening.hex()}")

    async def find(self, turns: Sequence[NewTurn]) -> str | None:
        """Finds the conversation that these turns belong to: of several, the one with the longest common prefix."""
        digests = await self._digests_of(turns, b"", self._defaults.salt)
        return await find_conversation(self._store, self.indexer, turns, digests, self._clock())

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

    async def _with_retention_of_session(self, state: State) -> State:
        session_id = session_of_output(state.conversation_id)
        session = None
        if session_id is not None:
            with suppress(Corrupt, Unavailable):  # a sweep sets the retention once the session can be read
                session = await self._store.load(session_id, ANY_TIME)
        return with_retention(state, session.retention_days) if session else state

    async def _state_and_edge(self, target: AppendTarget, now: float) -> tuple[State, Edge | None]:
        """Returns the state to append to, and its edge; no edge if the head is not indexed yet.

        A conversation that has expired by this reading of the clock is continued as long as it is stored.
        """
        cached = self._edges.get(target.conversation_id)
        if cached is not None:
            return cached
        state = await self._store.load(target.conversation_id, ANY_TIME)
        if state is None:
            state = self.new_state(target.conversation_id, target.space, target.stored_at)
            return await self._with_retention_of_session(state), Edge()
        if state.unindexed:
            return state, None
        return state, await load_edge(self._store, state, state.head)


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


def _days_allowed(state: State, after: int, target: AppendTarget) -> int | None:
    """Returns the retention to set when a branch is continued after the turn `after`, or None.

    A conversation is kept as long as its longest branch was promised, so fewer days are set only if no other branch has
    turns of its own, and by those who may delete what others have stored.
    """
    days = target.retention_days
    if days is None or days >= state.retention_days or not state.head:
        return days
    return days if target.may_shorten_retention and branch_tips(state) == [after] else None
