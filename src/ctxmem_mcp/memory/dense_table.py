"""Keeps the dense vectors of a branch's chunks between its views, and compares questions with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ctxmem_mcp.memory.dense_queue import DenseQueue, is_embedded
from ctxmem_mcp.models import Piece
from ctxmem_mcp.retrieval.dense_features import VECTORS_MIN
from ctxmem_mcp.text.dense import TAG_BYTES, unpack


@dataclass(slots=True)
class DenseTable:
    """The vectors of some chunks.

    Attributes:
        rows: The chunks that are to have a vector, and their places among all.
        packed: The vectors that were read, by chunk.
        matrix: The same, a row each, and the places of these chunks; None until it is needed.
    """

    rows: dict[int, int]
    packed: dict[int, bytes] = field(default_factory=dict)
    matrix: tuple[Any, Any] | None = None

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> DenseTable:
        return cls({piece.id: row for row, piece in enumerate(pieces) if is_embedded(piece)})

    async def load(self, queue: DenseQueue, conversation_id: str) -> None:
        """Reads the vectors that are not read yet."""
        missing = [i for i in self.rows if i not in self.packed]
        if missing and (found := await queue.read(conversation_id, missing)):
            self.packed |= found
            self.matrix = None

    def cosines(self, question: bytes, count: int) -> Any:
        """Returns the cosine similarity of each of `count` chunks to a question; NaN for those without a vector.

        None if fewer than VECTORS_MIN have one.
        """
        import numpy as np

        tag, found = question[:TAG_BYTES], np.full(count, np.nan)
        if self.matrix is None:
            same = [i for i, vector in self.packed.items() if len(vector) == len(question)]
            places = np.array([self.rows[i] for i in same], dtype=np.int64)
            self.matrix = unpack(tag, [self.packed[i] for i in same]), places
        vectors, places = self.matrix
        if len(places) < VECTORS_MIN:
            return None
        # Computed on one core, as the products of word vectors are.
        found[places] = np.einsum("ij,j->i", vectors, unpack(tag, [question])[0])
        return found
