"""Computes dense vectors of what both sides wrote, in the background, and keeps them beside the conversation.

A conversation is worked on once nothing was appended for a moment, and after a view that missed some of them: the
newest chunks first, up to limits of chunks and of seconds. No append waits for it, and a view compares the question
with the vectors that are there. If the model can't be used, views are as without it, and it is tried again later.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.memory.expiry import ANY_TIME
from ctxmem_mcp.models import Piece
from ctxmem_mcp.retrieval.piece_table import is_agent_speech, is_user_speech
from ctxmem_mcp.stores.extensions import DenseVectorStore
from ctxmem_mcp.text.chunk_flags import Flag
from ctxmem_mcp.text.dense import DenseEmbedder
from ctxmem_mcp.text.media import shown_text

# Without an append for this long, a conversation is worked on.
QUIET_SECONDS = 1.0
# After a failure, questions are ranked without the model for this long, and chunks are tried again; twice as long after
# each further failure, up to the maximum.
FAILURE_SECONDS, FAILURE_SECONDS_MAX = 30.0, 600.0
# Chunks looked through at a time.
_SCANNED_CHUNKS = 512
_QUESTIONS_CACHED = 64

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Progress:
    """What is done of a conversation in this process.

    Attributes:
        generation: That of its vectors in the store.
        first_new: The first chunk that was not looked at yet.
        seconds: Spent on computing them.
    """

    generation: bytes = b""
    first_new: int = 1
    seconds: float = 0.0


class DenseQueue:
    """The conversations of this memory whose dense vectors are to be computed. It is used in one event loop."""

    def __init__(
        self, store: DenseVectorStore, embedder: DenseEmbedder, *, chunks_max: int, seconds_max: float
    ) -> None:
        """Creates the queue.

        Args:
            store: Keeps the vectors.
            embedder: Closed with the queue.
            chunks_max: Of what is stored when a conversation is first worked on, so many chunks get a vector at most,
                the newest. What is appended later gets one too.
            seconds_max: Seconds spent on a conversation at most, until the process ends.
        """
        self._store, self._embedder = store, embedder
        self._chunks_max, self._seconds_max = chunks_max, seconds_max
        self._waiting: dict[str, None] = {}
        self._progress: LRU[str, _Progress] = LRU(256)
        self._questions: LRU[str, bytes] = LRU(_QUESTIONS_CACHED)
        self._task: asyncio.Task[None] | None = None
        self._added, self._pause, self._usable_from = 0, 0.0, 0.0

    @property
    def embedder(self) -> DenseEmbedder:
        return self._embedder

    def add(self, conversation_id: str) -> None:
        """Has a conversation worked on soon."""
        self._waiting[conversation_id] = None
        self._added += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="ctxmem dense vectors")

    def drop(self, conversation_id: str) -> None:
        """Removes what is known of a conversation that was forgotten or replaced."""
        self._waiting.pop(conversation_id, None)
        self._progress.pop(conversation_id, None)

    async def read(self, conversation_id: str, ids: Sequence[int]) -> dict[int, bytes]:
        """Returns those vectors of these chunks that are stored. If some are missing, they are computed soon."""
        found = await self._store.dense_vectors(conversation_id, self._embedder.tag, ids)
        if len(found) < len(ids) and not self._is_exhausted(conversation_id):
            self.add(conversation_id)
        return found

    async def embed_question(self, text: str, language: str | None) -> bytes | None:
        """Returns a question's vector; None if that takes too long, or the model can't be used for it."""
        if (known := self._questions.get(text)) is not None:
            return known
        languages = self._embedder.languages
        if (languages is not None and language not in languages) or time.monotonic() < self._usable_from:
            return None
        try:
            with anyio.fail_after(self._embedder.question_seconds):
                found = self._questions[text] = await self._embedder.embed_question(text)
                return found
        except TimeoutError:
            _log.info("%s took more than %g s for a question.", self._embedder.model, self._embedder.question_seconds)
        except CtxmemError as error:
            self._note_failure(error)
        return None

    async def close(self) -> None:
        """Ends the background task and closes the model's connections. What is missing is computed another time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._waiting.clear()
        await self._embedder.close()

    async def _run(self) -> None:
        while self._waiting:
            added = -1
            while added != self._added:
                added = self._added
                await asyncio.sleep(QUIET_SECONDS)
            await asyncio.sleep(max(0.0, self._usable_from - time.monotonic()))
            conversation_id = next(iter(self._waiting), None)
            if conversation_id is not None:
                await self._try(conversation_id)

    async def _try(self, conversation_id: str) -> None:
        added = self._added
        try:
            await self._work_on(conversation_id)
        except (CtxmemError, sqlite3.Error) as error:
            if await self._is_gone(conversation_id):
                self.drop(conversation_id)
            else:
                self._note_failure(error)
            return
        self._pause = 0.0
        if added == self._added:
            self._waiting.pop(conversation_id, None)

    async def _is_gone(self, conversation_id: str) -> bool:
        try:
            return await self._store.load(conversation_id, ANY_TIME) is None
        except (CtxmemError, sqlite3.Error):
            return True

    def _note_failure(self, error: Exception) -> None:
        level = logging.DEBUG if self._pause else logging.WARNING
        _log.log(level, "Questions are ranked without %s for now: %s", self._embedder.model, error)
        self._pause = min(FAILURE_SECONDS_MAX, 2 * self._pause or FAILURE_SECONDS)
        self._usable_from = time.monotonic() + self._pause

    def _is_exhausted(self, conversation_id: str) -> bool:
        progress = self._progress.get(conversation_id)
        return progress is not None and progress.seconds >= self._seconds_max

    async def _work_on(self, conversation_id: str) -> None:
        """Computes the vectors of the chunks that were not looked at yet, and after these the older ones'."""
        state = await self._store.load(conversation_id, ANY_TIME)
        if state is None:
            return
        generation = await self._store.dense_generation(conversation_id)
        progress = self._progress.get(conversation_id)
        if progress is None or progress.generation != generation:
            progress = self._progress[conversation_id] = _Progress(generation)
        last, left = state.next_piece - 1, self._chunks_max
        for end in range(last, progress.first_new - 1, -_SCANNED_CHUNKS):
            ids = range(max(progress.first_new, end - _SCANNED_CHUNKS + 1), end + 1)
            pieces = await self._store.pieces(conversation_id, ids)
            spoken = [piece for _, piece in sorted(pieces.items(), reverse=True) if is_embedded(piece)][:left]
            left -= len(spoken)
            stored = await self._store.dense_vectors(
                conversation_id, self._embedder.tag, [piece.id for piece in spoken]
            )
            due = [piece for piece in spoken if piece.id not in stored]
            for first in range(0, len(due), self._embedder.batch):
                if progress.seconds >= self._seconds_max:
                    return
                await self._embed(conversation_id, progress, due[first : first + self._embedder.batch])
            if not left:
                break
        progress.first_new = last + 1

    async def _embed(self, conversation_id: str, progress: _Progress, pieces: Sequence[Piece]) -> None:
        turns = await self._store.turns(conversation_id, sorted({piece.seq for piece in pieces}))
        contents = {turn.seq: turn.content for turn in turns}
        pieces = [piece for piece in pieces if piece.seq in contents]  # the others' branch was forgotten since
        texts = [shown_text(contents[piece.seq], piece.start, piece.stop) for piece in pieces]
        began = time.monotonic()
        vectors = await self._embedder.embed_chunks(texts)
        progress.seconds += time.monotonic() - began
        rows = dict(zip([piece.id for piece in pieces], vectors, strict=True))
        await self._store.add_dense_vectors(conversation_id, progress.generation, rows)


def is_embedded(piece: Piece) -> bool:
    """Returns whether a chunk gets a dense vector: it was written or thought by the user or the agent."""
    spoken = is_user_speech(piece.role, piece.flags) or is_agent_speech(piece.role, piece.name, piece.flags)
    return spoken and not piece.flags & Flag.HOST
