"""Finds, among the chunks ranked for a view, the user's short turns that a later one replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.models import Piece, Turn
from ctxmem_mcp.text.chunk_flags import Flag
from ctxmem_mcp.text.replacements import CHARS_MAX
from ctxmem_mcp.views.replaced import replaced_turns

# This many of the best ranked are read and compared, in one to two milliseconds. Both statements of a pair are about
# the same thing, so a query that finds one finds the other.
TURNS_MAX = 24
# As a plain int: a Flag's own operators are many times slower.
_HOST = int(Flag.HOST)


class Replacement(NamedTuple):
    """The turn that replaced another, and its chunk, which is all of it."""

    turn: Turn
    piece: Piece


async def find_replacements(branch: BranchReader, ranked: Iterable[Piece]) -> dict[int, Replacement]:
    """Finds the user's statements that a later one replaced.

    Args:
        branch: The branch.
        ranked: Chunks of the branch, best first. Only short turns of the user among the best are compared.

    Returns:
        By the index of each replaced turn, the turn that holds at the end.
    """
    pieces = {piece.index: piece for piece in islice(filter(may_state, ranked), TURNS_MAX)}
    if len(pieces) < 2:
        return {}
    turns = await branch.turns(pieces)
    whole = [turn for turn in turns.values() if len(turn.content) == pieces[turn.index].stop]
    return {index: Replacement(turns[later], pieces[later]) for index, later in replaced_turns(whole).items()}


def replaced_by(found: Mapping[int, Replacement]) -> dict[int, str]:
    """Returns the ids of the turns that replaced others, as a view shows them, by the index of the replaced turn."""
    return {index: replacement.turn.short for index, replacement in found.items()}


def may_state(piece: Piece) -> bool:
    """Whether a chunk may be a short turn of the user."""
    return piece.role == "user" and piece.stop <= CHARS_MAX and piece.start == 0 and not piece.flags & _HOST
