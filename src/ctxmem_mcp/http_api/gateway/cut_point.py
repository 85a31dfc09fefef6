"""Where a long conversation is cut: what was said before is told in a view, what follows goes as it came. Pure.

    m0 m1 m2 m3 m4 m5 m6 │ m7 m8 m9
    └──── the view ────┘   └ as they came ┘

The cut is decided from the messages alone, by going through them from the first: when they no longer fit, as much is
folded as leaves a small rest, and then nothing until they don't fit again. So every request between two folds begins
with the same bytes, after a restart too, and an edit folds anew only from where it was made. A call and its results are
never on two sides of a cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Of the budget: for the view; what is left of the rest when it is folded; what a request may take that is kept beside
# the view in its own words.
VIEW_SHARE, REST_SHARE, PINNED_SHARE = 0.35, 0.12, 0.125


@dataclass(frozen=True, slots=True)
class Block:
    """What a cut needs to know of a message. calls: ids of those it makes; results: ids of those it answers.

    asks: a person's own words, or whoever gives the agent its task. is_result: it holds results, with an id or without.
    """

    tokens: int
    calls: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()
    asks: bool = False
    is_result: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """start: the first message that goes as it came. asked: the request at the time of folding, whose words the view
    is opened for. pinned: the request that the rest works on, where the rest doesn't begin with it and it is short."""

    start: int
    asked: int | None
    pinned: int | None

    @property
    def kept(self) -> tuple[int, ...]:
        return () if self.pinned is None else (self.pinned,)


def view_budget(budget: int) -> int:
    return round(budget * VIEW_SHARE)


def cut_of(blocks: Sequence[Block], budget: int) -> Cut | None:
    """The cut for a request with these messages; None while they fit."""
    cut, size = None, 0
    for i, block in enumerate(blocks):
        size += block.tokens
        room = budget if cut is None else budget - view_budget(budget) - _tokens(blocks, cut.kept)
        if size <= room:
            continue
        start = _start(blocks[: i + 1], cut.start if cut else 0, round(budget * REST_SHARE))
        if start and (cut is None or start > cut.start):
            cut = _cut_at(blocks, start, i, budget)
            size = _tokens(blocks, range(start, i + 1))
    if cut is None or splits_nothing(blocks, cut.start):
        return cut
    # A result came late, after its call had been folded.
    start = next(start for start in range(cut.start, -1, -1) if splits_nothing(blocks, start))
    return _cut_at(blocks, start, cut.asked or 0, budget) if start else None


def splits_nothing(blocks: Sequence[Block], start: int) -> bool:
    """Whether every result from `start` on has its call there too."""
    if start and start < len(blocks) and blocks[start].is_result:
        return False
    open_calls: set[str] = set()
    for block in blocks[:start]:
        open_calls |= block.calls
    made: set[str] = set()
    for block in blocks[start:]:
        if (block.results - made) & open_calls:
            return False
        made |= block.calls
    return True


def _start(blocks: Sequence[Block], low: int, rest: int) -> int:
    """Where to cut so that about `rest` tokens are left: the first place there that is clean, else the last one."""
    size, clean = 0, low
    needed: set[str] = set()
    for start in range(len(blocks) - 1, low, -1):
        block = blocks[start]
        size += block.tokens
        needed = (needed | block.results) - block.calls
        # A result without an id answers the message before it.
        if needed or block.is_result:
            continue
        if size > rest and clean > low:
            break
        clean = start
        if size > rest:
            break
    return clean


def _cut_at(blocks: Sequence[Block], start: int, at: int, budget: int) -> Cut:
    asked = next((i for i in range(max(at, start - 1), -1, -1) if blocks[i].asks), None)
    before = next((i for i in range(start - 1, -1, -1) if blocks[i].asks), None)
    wanted = before is not None and not blocks[start].asks and blocks[before].tokens <= budget * PINNED_SHARE
    return Cut(start, asked, before if wanted else None)


def _tokens(blocks: Sequence[Block], which: Sequence[int] | range) -> int:
    return sum(blocks[i].tokens for i in which)
