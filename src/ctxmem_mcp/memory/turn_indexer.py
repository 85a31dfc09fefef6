"""Indexes stored turns after the durable answer: chunks, nodes, summaries, languages and flags, in a second commit.

What it stores is what an append in one commit would have stored, and it is computed from the stored turns alone. So a
killed process loses nothing: the next reader, in any process, computes it again. Nobody holds a lock
meanwhile: the commit is applied to whatever the state is by then, if the same batch of turns is still the next.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import anyio
import anyio.to_thread

from ctxmem_mcp import progress
from ctxmem_mcp.errors import CtxmemError, HeadMoved, StoreUnavailable, UnknownConversation
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.commit_builder import Built, Edge, index_in_steps
from ctxmem_mcp.memory.edge_loader import load_edge
from ctxmem_mcp.memory.expiry import ANY_TIME
from ctxmem_mcp.memory.vector_queue import VectorQueue
from ctxmem_mcp.models import Turn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import Commit, State
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text.embeddings import DeferredEmbedder
from ctxmem_mcp.worker_pool import WorkerPool, finish

# Conversations that are indexed at the same time; the worker processes interleave their steps.
CONVERSATIONS_AT_ONCE = 4
# Others may commit first again and again.
TRIES = 200
# What takes longer when the memory is closed is left for the next reader.
CLOSE_SECONDS = 2.0

_log = logging.getLogger(__name__)


class TurnIndexer:
    """Indexes the conversations of one store. It is used in one event loop."""

    def __init__(
        self,
        store: Store,
        summarizer: Summarizer,
        clock: Callable[[], float],
        vectors: VectorQueue | None,
        workers: WorkerPool | None,
    ) -> None:
        self._store, self._summarizer, self._clock, self._workers = store, summarizer, clock, workers
        self._vectors, self._embedder = vectors, DeferredEmbedder() if vectors else None
        # The edges that the next batches of turns follow, each with the time its conversation was created.
        self._edges: LRU[str, tuple[float, Edge]] = LRU(CONVERSATIONS_AT_ONCE)
        self._due: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._listeners: dict[str, list[progress.Listener]] = {}
        self._room = asyncio.Semaphore(CONVERSATIONS_AT_ONCE)

    def start(self, conversation_id: str) -> asyncio.Task[None]:
        """Indexes the conversation's turns in the background."""
        self._due.add(conversation_id)
        task = self._tasks.get(conversation_id)
        if task is None:
            task = asyncio.create_task(self._run(conversation_id), name=f"ctxmem index {conversation_id}")
            self._tasks[conversation_id] = task
            task.add_done_callback(partial(self._end, conversation_id))
        return task

    def add_edge(self, state: State, edge: Edge) -> None:
        """Caches the edge that the next batch follows: reading it takes longer than passing it on."""
        self._edges[state.conversation_id] = state.created, edge

    async def wait(self, conversation_id: str) -> None:
        """Returns once all turns are indexed that were stored when it was called.

        Raises:
            CtxmemError: They can't be indexed: the store is read only, say, or the conversation is damaged.
        """
        listener = progress.listener()
        listeners = self._listeners.setdefault(conversation_id, [])
        if listener is not None:
            listeners.append(listener)
        try:
            await asyncio.shield(self.start(conversation_id))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise StoreUnavailable("This memory is being closed.", "Open a new one.") from None
        finally:
            if listener is not None:
                listeners.remove(listener)
            if not listeners:
                self._listeners.pop(conversation_id, None)

    def drop(self, conversation_id: str) -> None:
        """Stops indexing a conversation that was forgotten or replaced."""
        self._edges.pop(conversation_id, None)
        if task := self._tasks.get(conversation_id):
            task.cancel()

    async def close(self) -> None:
        """Ends, after at most CLOSE_SECONDS."""
        if tasks := list(self._tasks.values()):
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, conversation_id: str) -> None:
        with progress.listen(partial(self._report, conversation_id)):
            async with self._room:
                while conversation_id in self._due:
                    self._due.discard(conversation_id)
                    while await self._index_next(conversation_id):
                        pass

    def _report(self, conversation_id: str, share: float) -> None:
        for listener in self._listeners.get(conversation_id, ()):
            listener(share)

    def _end(self, conversation_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(conversation_id, None)
        self._due.discard(conversation_id)
        if task.cancelled() or (error := task.exception()) is None:
            return
        level = logging.DEBUG if isinstance(error, CtxmemError) else logging.ERROR
        _log.log(level, "Turns of %s can't be indexed yet: %s", conversation_id, error, exc_info=level > logging.DEBUG)

    async def _index_next(self, conversation_id: str) -> bool:
        """Indexes the next batch of turns; returns False if there is none."""
        state = await self._store.load(conversation_id, ANY_TIME)
        if state is None or not state.unindexed:
            return False
        try:
            turns, edge = await self._read_batch(state)
            built = await self._build(state, edge, turns)
        except (HeadMoved, UnknownConversation):  # forgotten, and maybe begun again
            await _pause_before_retry()
            return True
        now: State | None = state
        for _ in range(TRIES):
            if now is None or now.created != state.created or now.unindexed[:1] != state.unindexed[:1]:
                return True  # somebody else has indexed or removed the batch
            commit = _rebased(now, state, built)
            try:
                await self._store.commit(commit, turns[0].stored_at)
            except HeadMoved:
                await _pause_before_retry()
                now = await self._store.load(conversation_id, ANY_TIME)
                continue
            self.add_edge(state, built.edge)
            if self._vectors:
                self._vectors.add(replace(commit, turns=commit.indexed))
            return True
        raise StoreUnavailable(f"Other writers change conversation {conversation_id!r} again and again.", "Try again.")

    async def _read_batch(self, state: State) -> tuple[list[Turn], Edge]:
        first, conversation = state.unindexed[0], state.conversation_id
        following = state.unindexed[1] if len(state.unindexed) > 1 else state.next_seq
        turns = await self._store.turns(conversation, range(first, following))
        if len(turns) < following - first:
            raise HeadMoved(conversation)
        parent = Lineage.of(state.runs, first).seq_at(turns[0].index - 1) or 0
        created, edge = self._edges.get(conversation) or (None, None)
        if edge is None or created != state.created or edge.seq != parent:
            edge = await load_edge(self._store, state, parent)
        return turns, edge

    async def _build(self, state: State, edge: Edge, turns: list[Turn]) -> Built:
        before = replace(state, head=edge.seq, next_seq=turns[0].seq)
        arguments = before, edge, turns, self._summarizer, self._embedder
        if self._workers:
            return await self._workers.run(index_in_steps, *arguments)
        return await anyio.to_thread.run_sync(lambda: finish(index_in_steps(*arguments)))


async def _pause_before_retry() -> None:
    await anyio.sleep(random.uniform(0, 0.01))


def _rebased(state: State, before: State, built: Built) -> Commit:
    """Returns the commit that adds to `state` what was computed from `before`, an earlier one.

    Only indexing changes the counts of chunks, words and nodes; all else is as the state has it.
    """
    index, last = built.commit.state, built.turns[-1].seq
    moved = [replace(run, first_piece=index.next_piece) for run in state.runs if run.first_seq > last]
    runs = (*state.runs[: len(state.runs) - len(moved)], *moved)
    after = replace(
        state,
        version=state.version + 1,
        next_piece=index.next_piece,
        words=index.words,
        nodes=index.nodes,
        title=state.title if index.title == before.title else index.title,
        frontier=index.frontier if state.head == last else state.frontier,
        unindexed=state.unindexed[1:],
        runs=runs,
    )
    return Commit(after, (), built.commit.pieces, built.commit.closings, moved, indexed=built.turns)
