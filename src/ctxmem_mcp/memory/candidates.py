"""Takes ranked chunks as candidates for a view, few of them texts that an agent's program added to the talk."""

from __future__ import annotations

from collections.abc import Iterable

from ctxmem_mcp.memory.retrieve import RankedPiece
from ctxmem_mcp.models import Piece
from ctxmem_mcp.text.chunk_flags import Flag

# The best ranked chunks are considered, as many as fill this many budgets.
CANDIDATE_BUDGETS = 3
# Prompts, reminders and skills that an agent's program added to the talk take at most this share, unless they are what
# the query asks for. They took a fifth to a half of real views.
HOST_SHARE = 0.05


def take_candidates(ordered: Iterable[RankedPiece], best: Piece | None, budget: int) -> list[RankedPiece]:
    """Takes chunks until they fill a few budgets.

    Args:
        ordered: The chunks in the order in which the view takes them.
        best: The chunk with the best score. If a host wrote it, the query asks for such texts: they all count.
        budget: The view's tokens.
    """
    host_left = budget if best is not None and best.flags & Flag.HOST else budget * HOST_SHARE
    taken, left = list[RankedPiece](), budget * CANDIDATE_BUDGETS
    for found in ordered:
        tokens = found.piece.tokens
        if found.piece.flags & Flag.HOST:
            if tokens > host_left:
                continue
            host_left -= tokens
        taken.append(found)
        left -= tokens
        if left < 0:
            break
    return taken
