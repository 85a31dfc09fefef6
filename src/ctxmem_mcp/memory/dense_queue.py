"""Computes dense vectors of what both sides wrote, in the background, and keeps them beside the conversation.

A conversation is worked on once nothing was appended for a moment, and after a view that missed some of them: the
newest chunks first, up to limits of chunks and of seconds. No append waits for it, and a view compares the question
with the vectors that are there. If the model can't be used, views are as without it, and it is tried again later.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from ctxmem_mcp.errors import ModelCallFailed, ModelMisconfigured
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
# After a question that took too long, the next ones are ranked without the model for this long.
SLOW_SECONDS = 10.0
# Chunks looked through at a time.
_SCANNED_CHUNKS = 512
_QUESTIONS_CACHED = 64
# A model that refuses this sentence too refuses everything.
_PLAIN_SENTENCE = "The weather is lovely today."

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


class _ModelFailed(Exception):
    """The model can't be used now, whatever the conversation."""


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
        # By conversation, when it was last appended to.
        self._waiting: dict[str, float] = {}
        self._progress: LRU[str, _Progress] = LRU(256)
        # By a hash: a text that is forgotten must not stay in memory.
        self._questions: LRU[bytes, bytes] = LRU(_QUESTIONS_CACHED)
        self._failed: LRU[str, None] = LRU(256)
        self._task: asyncio.Task[None] | None = None
        self._pause, self._usable_from, self._questions_from = 0.0, 0.0, 0.0

    @property
    def embedder(self) -> DenseEmbedder:
        return self._embedder

    def add(self, conversation_id: str) -> None:
        """Has a conversation worked on once nothing was appended to it for a moment."""
        self._waiting[conversation_id] = time.monotonic()
        self._start()

    def _start(self) -> None:
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
            self._waiting.setdefault(conversation_id, time.monotonic())
            self._start()
        return found

    async def embed_question(self, text: str, language: str | None) -> bytes | None:
        """Returns a question's vector; None if that takes too long, or the model can't be used for it."""
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if (known := self._questions.get(key)) is not None:
            return known
        languages = self._embedder.languages
        usable_from = max(self._usable_from, self._questions_from)
        if (languages is not None and language not in languages) or time.monotonic() < usable_from:
            return None
        try:
            with anyio.fail_after(self._embedder.question_seconds):
                found = self._questions[key] = await self._embedder.embed_question(text)
                return found
        except TimeoutError:
            _log.info("%s took more than %g s for a question.", self._embedder.model, self._embedder.question_seconds)
            self._questions_from = time.monotonic() + SLOW_SECONDS
        except Exception as error:  # no view fails because of the model
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
            quiet_from = min(self._waiting.values()) + QUIET_SECONDS
            await asyncio.sleep(max(0.0, max(quiet_from, self._usable_from) - time.monotonic()))
            now = time.monotonic()
            if now < self._usable_from:
                continue
            quiet = (name for name, added in self._waiting.items() if added + QUIET_SECONDS <= now)
            if (conversation_id := next(quiet, None)) is not None:
                await self._try(conversation_id)

    async def _try(self, conversation_id: str) -> None:
        added = self._waiting[conversation_id]
        try:
            await self._work_on(conversation_id)
        except _ModelFailed as error:
            self._note_failure(error.__cause__ or error)
            if conversation_id in self._waiting:  # the others first
                self._waiting[conversation_id] = self._waiting.pop(conversation_id)
            return
        except Exception as error:  # damage, say: it concerns this conversation only
            if await self._is_gone(conversation_id):
                self.drop(conversation_id)
                return
            level = logging.DEBUG if conversation_id in self._failed else logging.WARNING
            _log.log(level, "Dense vectors of %s can't be computed: %s", conversation_id, error)
            self._failed[conversation_id] = None
        if self._waiting.get(conversation_id) == added:
            del self._waiting[conversation_id]

    async def _is_gone(self, conversation_id: str) -> bool:
        try:
            return await self._store.load(conversation_id, ANY_TIME) is None
        except Exception:
            return False

    def _note_failure(self, error: BaseException) -> None:
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
        if not pieces:
            return
        texts = [shown_text(contents[piece.seq], piece.start, piece.stop) for piece in pieces]
        began = time.monotonic()
        try:
            vectors = await self._embed_texts(texts)
        except Exception as error:
            raise _ModelFailed from error
        self._pause = 0.0
        progress.seconds += time.monotonic() - began
        rows = {piece.id: vector for piece, vector in zip(pieces, vectors, strict=True) if vector is not None}
        await self._store.add_dense_vectors(conversation_id, progress.generation, rows)

    async def _embed_texts(self, texts: Sequence[str]) -> Sequence[bytes | None]:
        """Returns the texts' vectors; None for a text that the model refuses, unless it refuses everything."""
        try:
            return await self._embedder.embed_chunks(texts)
        except (ModelMisconfigured, ModelCallFailed):
            await self._embedder.embed_chunks([_PLAIN_SENTENCE])
        return [await self._embed_or_skip(text) for text in texts]

    async def _embed_or_skip(self, text: str) -> bytes | None:
        try:
            return (await self._embedder.embed_chunks([text]))[0]
        except (ModelMisconfigured, ModelCallFailed) as error:
            _log.debug("%s refuses a chunk: %s", self._embedder.model, error)
            return None


def is_embedded(piece: Piece) -> bool:
    """Returns whether a chunk gets a dense vector: it was written or thought by the user or the agent."""
    spoken = is_user_speech(piece.role, piece.flags) or is_agent_speech(piece.role, piece.name, piece.flags)
    return spoken and not piece.flags & Flag.HOST
