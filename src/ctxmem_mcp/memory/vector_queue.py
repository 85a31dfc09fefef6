"""Computes the vectors of new chunks after their turns are stored, so that no append waits for them.

A commit stores `VECTOR_DUE` in place of each vector. The queue replaces it: once nothing was appended for a moment,
once much is waiting, when a query needs the vectors, or when the memory is closed. What a killed process leaves due is
computed by the next query that compares it, in any process. So a view ranks as if all had been computed at once.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import anyio
import anyio.to_thread

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.models import Piece, Turn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import Commit
from ctxmem_mcp.text.embeddings import VECTOR_DUE, Embedder
from ctxmem_mcp.text.media import shown_text
from ctxmem_mcp.worker_pool import LARGE_CHARS, Steps, WorkerPool

# Without an append for this long, the vectors of what was appended are computed.
QUIET_SECONDS = 0.3
# With more characters waiting, they are computed without a pause in the appends.
WAITING_CHARS_MAX = 2_000_000
# Chunks whose vectors are stored in one transaction, and those computed in one step.
BATCH_CHUNKS, STEP_CHUNKS = 1_000, 64
# What takes longer when the memory is closed is left for the next query.
CLOSE_SECONDS = 2.0

_log = logging.getLogger(__name__)

Texts = dict[int, str]


class VectorQueue:
    """The chunks of this memory whose vectors are due. It is used in one event loop."""

    def __init__(self, store: Store, embedder: Embedder, workers: WorkerPool | None = None) -> None:
        self._store, self._embedder, self._workers = store, embedder, workers
        # By conversation and the time it was created, by chunk.
        self._waiting: dict[tuple[str, float], Texts] = {}
        self._chars, self._added = 0, 0
        self._lock = anyio.Lock()
        self._task: asyncio.Task[None] | None = None

    def add(self, commit: Commit) -> None:
        """Adds the chunks of a stored commit."""
        state = commit.state
        texts = self._waiting.setdefault((state.conversation_id, state.created), {})
        new = _texts_of(commit.turns, (stored.piece for stored in commit.pieces))
        texts.update(new)
        self._chars += sum(map(len, new.values()))
        self._added += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="ctxmem vectors")

    def drop(self, conversation_id: str) -> None:
        """Removes the chunks of a conversation that was forgotten or replaced."""
        for key in [key for key in self._waiting if key[0] == conversation_id]:
            self._take(key, len(self._waiting[key]))

    async def read(self, conversation_id: str, created: float, ids: Sequence[int]) -> dict[int, bytes]:
        """Returns the vectors of these chunks, as the store does; those that are due are computed and stored first.

        If they can't be stored, they are returned all the same.
        """
        read = await self._store.vectors(conversation_id, ids)
        if VECTOR_DUE not in read.values():
            return read
        key = conversation_id, created
        async with self._lock:
            while key in self._waiting:
                read |= await self._compute(key, self._take(key, BATCH_CHUNKS))
        # Those of other processes, and of a process that was killed.
        if VECTOR_DUE in (read := {i: read[i] for i in ids if i in read}).values():
            read |= {i: v for i, v in (await self._store.vectors(conversation_id, ids)).items() if v != VECTOR_DUE}
        due = [i for i, vector in read.items() if vector == VECTOR_DUE]
        for first in range(0, len(due), BATCH_CHUNKS):
            read |= await self._compute(key, await self._load_texts(conversation_id, due[first : first + BATCH_CHUNKS]))
        return read

    async def close(self) -> None:
        """Computes what is waiting, for at most CLOSE_SECONDS."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with anyio.move_on_after(CLOSE_SECONDS):
            await self._compute_waiting()
        self._waiting.clear()

    async def _run(self) -> None:
        while self._waiting:
            added = -1
            while added != self._added and self._chars < WAITING_CHARS_MAX:
                added = self._added
                await asyncio.sleep(QUIET_SECONDS)
            await self._compute_waiting()

    async def _compute_waiting(self) -> None:
        while self._waiting:
            async with self._lock:
                if key := next(iter(self._waiting), None):
                    await self._compute(key, self._take(key, BATCH_CHUNKS))

    def _take(self, key: tuple[str, float], count: int) -> Texts:
        waiting = self._waiting[key]
        taken = {i: waiting.pop(i) for i in list(islice(waiting, count))}
        self._chars -= sum(map(len, taken.values()))
        if not waiting:
            del self._waiting[key]
        return taken

    async def _compute(self, key: tuple[str, float], texts: Texts) -> dict[int, bytes]:
        """Computes the vectors of these chunks and stores them. An error leaves them due."""
        try:
            vectors = dict(zip(texts, await self._embed(list(texts.values())), strict=True))
        except CtxmemError as error:
            _log.warning("The vectors of %d chunks of %s can't be computed yet: %s", len(texts), key[0], error)
            return {}
        try:
            await self._store.replace_vectors(*key, VECTOR_DUE, vectors)
        except (CtxmemError, sqlite3.Error) as error:  # a full disk, a folder that is read only
            _log.debug("The vectors of %d chunks of %s can't be stored yet: %s", len(vectors), key[0], error)
        return vectors

    async def _embed(self, texts: Sequence[str]) -> list[bytes]:
        if self._workers and sum(map(len, texts)) > LARGE_CHARS:
            return await self._workers.run(embed_in_steps, self._embedder, texts)
        return await anyio.to_thread.run_sync(self._embedder.embed, texts)

    async def _load_texts(self, conversation_id: str, ids: Sequence[int]) -> Texts:
        pieces = await self._store.pieces(conversation_id, ids)
        turns = await self._store.turns(conversation_id, sorted({piece.seq for piece in pieces.values()}))
        return _texts_of(turns, pieces.values())


def embed_in_steps(embedder: Embedder, texts: Sequence[str]) -> Steps[list[bytes]]:
    """Returns the vectors of texts, computed in steps for a worker process."""
    vectors: list[bytes] = []
    for first in range(0, len(texts), STEP_CHUNKS):
        vectors += embedder.embed(texts[first : first + STEP_CHUNKS])
        yield
    return vectors


def _texts_of(turns: Iterable[Turn], pieces: Iterable[Piece]) -> Texts:
    contents: Mapping[int, str] = {turn.seq: turn.content for turn in turns}
    return {piece.id: shown_text(contents[piece.seq], piece.start, piece.stop) for piece in pieces}
