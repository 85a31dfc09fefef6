"""Keeps what ranking needs of a branch between its views: its chunks as a table, and their vectors as a matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.memory.dense_queue import DenseQueue
from ctxmem_mcp.memory.dense_table import DenseTable
from ctxmem_mcp.models import Piece, parse_iso
from ctxmem_mcp.retrieval.piece_table import PieceFacts, PieceTable
from ctxmem_mcp.text.embeddings import Embedder, VectorTable

# The attributes of a chunk that are facts about it, by their names as facts.
_NAMES_OF_FACTS = {"turn": "index"}
_FACTS = [_NAMES_OF_FACTS.get(name, name) for name in PieceFacts._fields[1:-1]]


@dataclass(slots=True)
class BranchTable:
    """The chunks of a branch that are ranked.

    Attributes:
        pieces: The chunks, by ascending ordinal.
        rows: The same as a table.
        vectors: Their vectors; None until they are read, and while some are missing.
        dense: Those of a neural model; None until they are read.
    """

    pieces: Sequence[Piece]
    rows: PieceTable
    vectors: VectorTable | None = None
    dense: DenseTable | None = None

    @classmethod
    def of(cls, ordinals: Sequence[int], pieces: Sequence[Piece]) -> BranchTable:
        """Creates the table of these chunks."""
        columns = dict(zip(Piece._fields, zip(*pieces, strict=True), strict=True)) if pieces else {}
        facts = [ordinals, *(columns.get(name, ()) for name in _FACTS)]
        return cls(pieces, PieceTable.of_columns(facts, _times_of(pieces)))

    def extended(self, more: BranchTable) -> BranchTable:
        """Returns a table of these chunks and those of another table, whose ordinals follow."""
        pieces = [*self.pieces, *more.pieces]
        joined = BranchTable(pieces, self.rows.extended(more.rows, _times_of(pieces)))
        if self.vectors is not None and more.vectors is not None:
            joined.vectors = self.vectors.extended(more.vectors)
        return joined

    def take(self, rows: Any) -> BranchTable:
        """Returns a table of some rows, given by ascending number."""
        return BranchTable([self.pieces[row] for row in rows.tolist()], self.rows.take(rows))

    def load_vectors(self, embedder: Embedder, vectors: Sequence[bytes]) -> None:
        """Takes the chunks' vectors, unless they can't all be compared with those that the embedder returns."""
        if len(vectors) == len(self.pieces):
            self.vectors = embedder.table(vectors)

    def similarities(self, embedder: Embedder, query: str) -> Any:
        """Returns the similarity of each chunk to the query; empty without vectors."""
        return embedder.similarities(query, self.vectors) if self.vectors is not None else ()

    async def dense_cosines(self, queue: DenseQueue, conversation_id: str, question: bytes) -> Any:
        """Returns the cosine similarity of each chunk to a question; NaN for those without a dense vector, None if
        few have one."""
        if self.dense is None:
            self.dense = DenseTable.of(self.pieces)
        await self.dense.load(queue, conversation_id)
        return self.dense.cosines(question, len(self.pieces))


def _times_of(pieces: Sequence[Piece]) -> Callable[[], list[float | None]]:
    # Parsed only if a query names a time.
    return lambda: [parse_iso(piece.said_at) for piece in pieces]
