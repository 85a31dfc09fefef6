"""Why a turn was chosen: the features that contributed most to the scores of the chunks that are shown."""

from __future__ import annotations

from collections.abc import Sequence

from ctxmem_mcp.memory.retrieve import RankedPiece, Ranking
from ctxmem_mcp.results import Reason
from ctxmem_mcp.views.budget import FitResult
from ctxmem_mcp.views.layout import Quote

REASONS_MAX = 4


def explain_piece(ranking: Ranking, piece: RankedPiece) -> list[str]:
    """Returns the features that contributed most to a chunk's score, such as 'rel +3.48'."""
    contributions = ranking.result.why(piece.ordinal, REASONS_MAX) if ranking.result else []
    return [f"{name} {value:+.2f}" for name, value in contributions]


def view_reasons(ranking: Ranking, pieces: Sequence[RankedPiece], result: FitResult) -> tuple[Reason, ...]:
    """Returns why each chunk that a view shows was chosen, best first."""
    quoted = {item.turn.index: item for item in result.items if isinstance(item, Quote)}
    return tuple(
        Reason(shown.turn.id, piece.piece.tokens, round(piece.score, 3), explain_piece(ranking, piece))
        for piece in pieces
        if (shown := quoted.get(piece.piece.index)) and shown.spans[0].start <= piece.piece.start
    )
