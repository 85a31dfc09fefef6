"""What a view is made of, and the tiling: every turn of the branch exactly once, in order. Pure.

Opened   n0-21      a node whose children follow
Folded     n0-9     one or more neighbouring nodes, collapsed to a line
Opened     n10-21
Gap          t10-t12
Quoted       t13    a turn, whole or in excerpts
Gap          t14-t21
Folded   n22-30
Quoted   t31        the open tail: turns that no closed node holds yet
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import is_
from typing import NamedTuple

from ctxmem_mcp.models import Node, Turn


class CharSpan(NamedTuple):
    """Characters start..stop of a turn's content, and what they cost in tokens. A tuple, as what is made of it in
    hundreds for each view (Gap, Quoted, fitting.Quote) is: a frozen dataclass takes several times as long to make."""

    start: int
    stop: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Collapsed:
    """Neighbouring closed nodes, not opened."""

    nodes: tuple[Node, ...]
    depth: int

    @property
    def first(self) -> int:
        return self.nodes[0].first

    @property
    def last(self) -> int:
        return self.nodes[-1].last

    @property
    def tokens(self) -> int:
        return sum(node.tokens for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Expanded:
    """A closed node whose parts follow one level deeper. It stands for no turn itself."""

    node: Node
    depth: int


class Gap(NamedTuple):
    """Turns of an opened leaf, or of the open tail, that are not shown."""

    first: int
    last: int
    tokens: int


class Quote(NamedTuple):
    """A turn in its own words: stretches in order; one that covers all of it is the turn verbatim."""

    turn: Turn
    spans: tuple[CharSpan, ...]
    length: int

    @classmethod
    def all_of(cls, turn: Turn) -> Quote:
        return cls(turn, (CharSpan(0, len(turn.content), turn.tokens),), len(turn.content))

    @property
    def whole(self) -> bool:
        return self.spans[0].start == 0 and self.spans[-1].stop >= self.length and not self.gaps

    @property
    def gaps(self) -> int:
        return sum(a.stop < b.start for a, b in pairwise(self.spans))


Item = Collapsed | Expanded | Gap | Quote


@dataclass(frozen=True, slots=True)
class TreeSnapshot:
    """What is known of a branch when its view is laid out.

    roots: its closed nodes without a parent; nodes: by digest, at least those above every leaf in `leaves`.
    leaves: by index of their first turn, the turns (without content) of every leaf that may be opened; the open
    tail is among them, beginning at tail_first. length: of the branch, in turns. unfolded: inner nodes to open for
    the outline's sake, whether or not a turn under them is shown.
    """

    roots: tuple[Node, ...]
    nodes: Mapping[bytes, Node]
    leaves: Mapping[int, Sequence[Turn]]
    tail_first: int
    length: int
    expanded: frozenset[bytes] = frozenset()

    def leaf_first(self, index: int) -> int:
        """Where the leaf begins that this turn lies in; it must be one of `leaves`."""
        if index >= self.tail_first:
            return self.tail_first
        return self._starts()[bisect_right(self._starts(), index) - 1]

    def _starts(self) -> list[int]:
        return sorted(self.leaves)


# What a leaf was tiled to, by its first turn, and for which quotes in it.
TileCache = dict[int, tuple[list[Quote], list[Item]]]


def tile(snapshot: TreeSnapshot, shown: Mapping[int, Quote], tile_cache: TileCache | None = None) -> list[Item]:
    """The items of a view that shows these turns, in the branch's order.

    shown: by turn index; each of these turns lies in one of ground.leaves. tiled: leaves tiled before on the same
    ground, used where the very same quotes are shown in them; kept up to date.
    """
    items: list[Item] = []
    marks, tile_cache = sorted(shown), {} if tile_cache is None else tile_cache
    _tile_nodes(snapshot, snapshot.roots, _ShownTurns(shown, marks, tile_cache), 0, items)
    if snapshot.tail_first < snapshot.length:
        items += _tile_leaf(snapshot, snapshot.tail_first, snapshot.length - 1, _ShownTurns(shown, marks, tile_cache))
    return items


class _ShownTurns(NamedTuple):
    """The quotes by turn index, these indexes in order, and the leaves tiled before."""

    quotes: Mapping[int, Quote]
    marks: Sequence[int]
    tile_cache: TileCache


def _tile_nodes(
    snapshot: TreeSnapshot,
    siblings: Iterable[Node],
    shown: _ShownTurns,
    depth: int,
    items: list[Item],
) -> None:
    collapsed: list[Node] = []
    marks = shown.marks
    for node in siblings:
        at = bisect_left(marks, node.first)
        marked = at < len(marks) and marks[at] <= node.last
        if not marked and node.digest not in snapshot.expanded:
            collapsed.append(node)
            continue
        if collapsed:
            items.append(Collapsed(tuple(collapsed), depth))
            collapsed = []
        items.append(Expanded(node, depth))
        if node.level == 0:
            items += _tile_leaf(snapshot, node.first, node.last, shown)
        else:
            children = [snapshot.nodes[digest] for digest in node.children]
            _tile_nodes(snapshot, children, shown, depth + 1, items)
    if collapsed:
        items.append(Collapsed(tuple(collapsed), depth))


def _tile_leaf(snapshot: TreeSnapshot, first: int, last: int, shown: _ShownTurns) -> list[Item]:
    """The items of the leaf first..last."""
    marks = shown.marks
    within = [shown.quotes[at] for at in marks[bisect_left(marks, first) : bisect_right(marks, last)]]
    known = shown.tile_cache.get(first)
    if known is None or len(known[0]) != len(within) or not all(map(is_, known[0], within)):
        known = shown.tile_cache[first] = (within, _tile_turns(snapshot.leaves[first], shown.quotes))
    return known[1]


def _tile_turns(turns: Sequence[Turn], shown: Mapping[int, Quote]) -> list[Item]:
    items: list[Item] = []
    first, last, tokens = 0, -1, 0
    for turn in turns:
        index = turn.index
        if (quoted := shown.get(index)) is None:
            if last < first:
                first = index
            last = index
            tokens += turn.tokens
            continue
        if last >= first:
            items.append(Gap(first, last, tokens))
            first, last, tokens = 0, -1, 0
        items.append(quoted)
    if last >= first:
        items.append(Gap(first, last, tokens))
    return items


def merge_collapsed(items: Iterable[Item]) -> list[Item]:
    """The same turns in fewer lines: folded nodes that stand beside each other, or with no more between them than inner
    nodes that open, become one item. Those inner nodes stand for no turn themselves and are left out."""
    found: list[Item] = []
    between: list[Item] = []
    for item in items:
        before = found[-1] if found else None
        if isinstance(item, Expanded) and item.node.level and isinstance(before, Collapsed):
            between.append(item)
        elif isinstance(item, Collapsed) and isinstance(before, Collapsed):
            found[-1] = Collapsed((*before.nodes, *item.nodes), min(before.depth, item.depth))
            between.clear()
        else:
            found += [*between, item]
            between.clear()
    return found + between


def covered_turns(items: Iterable[Item]) -> list[int]:
    """The turn indexes that the items account for, in their order: for a right tiling 0, 1, 2, ..."""
    indexes: list[int] = []
    for item in items:
        if isinstance(item, Quote):
            indexes.append(item.turn.index)
        elif not isinstance(item, Expanded):
            indexes.extend(range(item.first, item.last + 1))
    return indexes


def join_spans(spans: Iterable[CharSpan]) -> tuple[CharSpan, ...]:
    """The same characters in order, neighbours made one, overlaps counted once."""
    joined: list[CharSpan] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.stop)):
        if joined and span.start <= joined[-1].stop:
            last = joined[-1]
            if span.stop > last.stop:
                joined[-1] = CharSpan(last.start, span.stop, last.tokens + span.tokens)
        else:
            joined.append(span)
    return tuple(joined)
