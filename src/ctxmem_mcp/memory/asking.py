"""Asks a branch about a query: which of its pieces speak of it, best first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ctxmem_mcp import terms
from ctxmem_mcp.memory.grounding import Branch
from ctxmem_mcp.model import Piece

# Terms in more pieces than this are not read through.
TERM_CAP = 4_000
CANDIDATES = 400


@dataclass(frozen=True, slots=True)
class Ranked:
    """A piece and how well it answers; higher is better."""

    piece: Piece
    score: float


async def ranked(branch: Branch, query: str) -> list[Ranked]:
    words = list(dict.fromkeys(terms.analyse(query)))
    hits = await branch.store.term_hits(branch.id, words, TERM_CAP)
    total = branch.state.next_piece - 1
    scores: dict[int, float] = {}
    for hit in hits.values():
        idf = math.log(1 + (total - hit.df + 0.5) / (hit.df + 0.5))
        tf: dict[int, int] = {}
        for piece in hit.pieces:
            tf[piece] = tf.get(piece, 0) + 1
        for piece, n in tf.items():
            scores[piece] = scores.get(piece, 0.0) + idf * n * 2.2 / (n + 1.2)
    best = sorted(scores, key=lambda p: (-scores[p], p))[:CANDIDATES]
    pieces = await branch.store.pieces(branch.id, best)
    found = [Ranked(pieces[p], scores[p]) for p in best if p in pieces]
    return [r for r in found if r.piece.seq in branch.lineage]
