"""Takes ranked chunks as candidates for a view.

Few of them are texts that an agent's program added to the talk, and of equal outputs only the best ranked is early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.retrieve import RankedPiece
from ctxmem_mcp.models import Piece
from ctxmem_mcp.retrieval.repeats import COVERED_TOKENS_MIN, covered, repeats, similar_in_size
from ctxmem_mcp.text.chunk_flags import Flag

# The best ranked chunks are considered, as many as fill this many budgets.
CANDIDATE_BUDGETS = 3
# Prompts, reminders and skills that an agent's program added to the talk take at most this share, unless they are what
# the query asks for. They took a fifth to a half of real views.
HOST_SHARE = 0.05
# As a plain int: a Flag's own operators are many times slower.
_HOST = int(Flag.HOST)


def take_candidates(ordered: Iterable[RankedPiece], best: Piece | None, budget: int) -> list[RankedPiece]:
    """Takes chunks until they fill a few budgets.

    Args:
        ordered: The chunks in the order in which the view takes them.
        best: The chunk with the best score. If a host wrote it, the query asks for such texts: they all count.
        budget: The view's tokens.
    """
    host_left = budget if best is not None and best.flags & _HOST else budget * HOST_SHARE
    taken, left = list[RankedPiece](), budget * CANDIDATE_BUDGETS
    for found in ordered:
        tokens = found.piece.tokens
        if found.piece.flags & _HOST:
            if tokens > host_left:
                continue
            host_left -= tokens
        taken.append(found)
        left -= tokens
        if left < 0:
            break
    return taken


async def with_repeats_last(branch: BranchReader, ordered: list[RankedPiece]) -> list[RankedPiece]:
    """Moves outputs that repeat an earlier one, but for numbers, behind all other chunks.

    Args:
        branch: The branch of the chunks.
        ordered: The chunks in the order in which the view takes them.
    """
    pieces = [found.piece for found in ordered]
    groups = similar_in_size(pieces)
    if not groups:
        return ordered
    positions = [position for group in groups for position in group]
    turns = await branch.turns(pieces[position].index for position in positions)
    texts = {at: turns[pieces[at].index].content[pieces[at].start : pieces[at].stop] for at in positions}
    repeated = repeats(groups, texts)
    return [f for at, f in enumerate(ordered) if at not in repeated] + [ordered[at] for at in sorted(repeated)]


async def with_copies_last(
    ordered: list[RankedPiece], branch_of: Callable[[RankedPiece], BranchReader]
) -> list[RankedPiece]:
    """Moves chunks of several sessions whose text others before them have behind all other chunks.

    Args:
        ordered: The chunks in the order in which the view takes them.
        branch_of: Returns the branch of a chunk.
    """
    read = [at for at, found in enumerate(ordered) if found.piece.tokens >= COVERED_TOKENS_MIN]
    branches: dict[str, BranchReader] = {}
    indexes: dict[str, set[int]] = {}
    for found in (ordered[at] for at in read):
        branch = branch_of(found)
        branches[branch.id] = branch
        indexes.setdefault(branch.id, set()).add(found.piece.index)
    turns = {one: await branch.turns(indexes[one]) for one, branch in branches.items()}

    def text_of(found: RankedPiece) -> str:
        piece = found.piece
        return turns[branch_of(found).id][piece.index].content[piece.start : piece.stop]

    repeated = {read[at] for at in covered((ordered[at].piece, text_of(ordered[at])) for at in read)}
    return [f for at, f in enumerate(ordered) if at not in repeated] + [ordered[at] for at in sorted(repeated)]
