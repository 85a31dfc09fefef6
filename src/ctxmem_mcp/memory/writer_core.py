"""What all changes of conversations share: the store, the locks, and the edges of recent appends.

A commit is computed from the state that this process knows, and the store accepts it only if that state is still the
current one; otherwise it is read and computed again. Nothing is locked across processes, and a retry stores nothing
twice.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import anyio
import anyio.to_thread

from ctxmem_mcp.errors import HeadMoved, StoreUnavailable, UnknownConversation
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.memory.commit_builder import Edge, chain_digests, encode_frontier
from ctxmem_mcp.memory.edge_loader import load_edge
from ctxmem_mcp.memory.expiry import DAY
from ctxmem_mcp.memory.keyed_lock import KeyedLock
from ctxmem_mcp.memory.turn_indexer import TurnIndexer
from ctxmem_mcp.memory.vector_queue import VectorQueue
from ctxmem_mcp.memory.waiting_notes import WaitingNotes
from ctxmem_mcp.models import NewTurn, Turn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import Commit, State
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text.embeddings import DeferredEmbedder
from ctxmem_mcp.worker_pool import LARGE_CHARS, WorkerPool

# Edges cached between appends; each holds the text of one open leaf.
EDGES_CACHED = 64
# Other writers may commit first again and again; each try costs a millisecond or two.
TRIES = 200
# A turn costs as much as so many characters, however short it is.
TURN_CHARS = 500


@dataclass(frozen=True, slots=True)
class Defaults:
    """The settings of a new conversation."""

    salt: bytes
    encoding: str
    retention_days: int


class WriterCore:
    """Reads the state that a commit is computed from, and moves the head."""

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
        self._notes = WaitingNotes(store)
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

    async def _retry_on_conflict(self, conversation_id: str, change: Callable[[State], Awaitable[State]]) -> State:
        async with self.locked(conversation_id):
            for _ in range(TRIES):
                state = await self._load(conversation_id)
                try:
                    return await change(state)
                except HeadMoved:
                    await pause_before_retry()
        raise too_busy(conversation_id)

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

    async def _digests_of(self, turns: Sequence[NewTurn], previous: bytes, salt: bytes) -> list[bytes]:
        if self._workers and is_large(turns):
            return await anyio.to_thread.run_sync(chain_digests, turns, previous, salt)
        return chain_digests(turns, previous, salt)

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


def is_large(turns: Iterable[NewTurn | Turn]) -> bool:
    """Returns whether these turns are worth a thread or a worker process."""
    left = LARGE_CHARS
    return any((left := left - TURN_CHARS - len(turn.content)) < 0 for turn in turns)


def too_busy(conversation: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"Other writers changed conversation {conversation!r} {TRIES} times during this call.",
        "Nothing was stored. Try again.",
    )


async def pause_before_retry() -> None:
    await anyio.sleep(random.uniform(0, 0.01))
