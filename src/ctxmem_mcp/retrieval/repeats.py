"""Finds chunks of output that say the same as others, such as a build that fails three times in the same way. Pure.

A view that quotes each of them spends its budget on one text. In a real session of 658 turns, a question about its
build spent 40% of 4,000 tokens on four runs of one check. In a project, sessions read the same files and are given the
same rules: a tenth of what views of 2,000 and 8,000 tokens quoted was in another of their quotes too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ctxmem_mcp.models import Piece
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.chunk_flags import Flag

# A shorter chunk costs too little to be worth reading its text.
TOKENS_MIN = 80
# How much the lengths of two equal outputs may differ: times and counts in them have fewer or more digits.
LENGTH_DIFFERENCE_MAX = 0.1
# Share of a chunk's lines that another one must have.
SHARED_LINES_MIN = 0.9

# Of several sessions: this share of the text of a chunk must be in lines of others, and shorter chunks are not read.
COVERED_SHARE_MIN, COVERED_TOKENS_MIN = 0.8, 40
# A shorter line ("}", "yes") says nothing about what it is part of.
LINE_CHARS_MIN = 12

_PROSE = int(Flag.PROSE)
_NUMBER = lazy_regex(r"\d+")


def similar_in_size(pieces: Sequence[Piece]) -> list[list[int]]:
    """Groups chunks of output that could be repeats, without their text: same speaker, nearly the same length.

    Args:
        pieces: Chunks in the order in which a view takes them.

    Returns:
        Groups of two or more positions in `pieces`, each in ascending order. A position is in one group at most.
    """
    by_speaker: dict[tuple[str, str | None], list[int]] = {}
    for position, piece in enumerate(pieces):
        if piece.tokens >= TOKENS_MIN and not piece.flags & _PROSE:
            by_speaker.setdefault((piece.role, piece.name), []).append(position)
    groups: list[list[int]] = []
    for positions in by_speaker.values():
        positions.sort(key=lambda position: pieces[position].tokens)
        group: list[int] = []
        for position in positions:
            if group and not _near(pieces[group[0]].tokens, pieces[position].tokens):
                groups.append(group)
                group = []
            group.append(position)
        groups.append(group)
    return [sorted(group) for group in groups if len(group) > 1]


def repeats(groups: Iterable[Sequence[int]], texts: Mapping[int, str]) -> set[int]:
    """Returns the positions whose text an earlier one of the same group has, but for numbers.

    Args:
        groups: Positions, as `similar_in_size` returns them.
        texts: The text of each position.
    """
    found: set[int] = set()
    for group in groups:
        first: list[frozenset[str]] = []
        for position in group:
            lines = _lines(texts[position])
            if any(len(lines & other) >= SHARED_LINES_MIN * len(lines) for other in first):
                found.add(position)
            else:
                first.append(lines)
    return found


def covered(chunks: Iterable[tuple[Piece, str]]) -> set[int]:
    """Returns the positions of chunks whose lines nearly all are in chunks before them; in output, but for numbers.

    Chunks that are covered themselves do not count.
    """
    found: set[int] = set()
    known: set[str] = set()
    for position, (piece, text) in enumerate(chunks):
        lines = [line for line in _lines(text, numbers=bool(piece.flags & _PROSE)) if len(line) >= LINE_CHARS_MIN]
        if lines and sum(len(line) for line in lines if line in known) >= COVERED_SHARE_MIN * sum(map(len, lines)):
            found.add(position)
        else:
            known.update(lines)
    return found


def _near(shorter: int, longer: int) -> bool:
    return longer - shorter <= LENGTH_DIFFERENCE_MAX * longer


def _lines(text: str, *, numbers: bool = False) -> frozenset[str]:
    """The distinct lines of a text, without indentation and, unless they matter, without numbers."""
    return frozenset(map(str.strip, (text if numbers else _NUMBER.sub("#", text)).splitlines()))
