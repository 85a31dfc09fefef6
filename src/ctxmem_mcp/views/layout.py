"""The items of a view, and the tiling: each turn of the branch is in exactly one item, in order. Pure.

Expanded   n0-21       a node whose children follow
Collapsed    n0-9      one or more adjacent nodes, collapsed to a line
Expanded     n10-21
Gap            t10-t12
Quote          t13     a turn, whole or in excerpts
Gap            t14-t21
Collapsed  n22-30
Quote      t31         the open tail: turns that are not in a closed node yet

A compact view has one item for all turns between two quotes, whatever nodes they are in:

Omitted  t0-t12
Quote    t13
Omitted  t14-t30
Quote    t31
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
    """The characters start..stop of a turn's content and their number of tokens.

    A tuple, like everything that is created by the hundred for each view (Gap, Quote, ExcerptRef): a frozen
    dataclass takes several times as long to create.
    """

    start: int
    stop: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Collapsed:
    """Adjacent closed nodes whose turns are not shown. depth: nesting depth in the outline."""

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
    """A closed node whose children or turns follow. It covers no turn itself."""

    node: Node
    depth: int


class Gap(NamedTuple):
    """The turns first..last of an expanded leaf, or of the open tail, that are not shown."""

    first: int
    last: int
    tokens: int


class Quote(NamedTuple):
    """Verbatim text of a turn: spans in order, without overlaps, or none. length: characters of the whole turn."""

    turn: Turn
    spans: tuple[CharSpan, ...]
    length: int

    @classmethod
    def all_of(cls, turn: Turn) -> Quote:
        """Quotes a turn whole."""
        return cls(turn, (CharSpan(0, len(turn.content), turn.tokens),), len(turn.content))

    @property
    def whole(self) -> bool:
        """Whether the quote contains all of the turn."""
        return bool(self.spans) and self.spans[0].start == 0 and self.spans[-1].stop >= self.length and not self.gaps

    @property
    def gaps(self) -> int:
        """The number of omissions between spans."""
        return sum(a.stop < b.start for a, b in pairwise(self.spans))


class Omitted(NamedTuple):
    """The turns between two quotes of a compact view. nodes: those of the collapsed nodes that have titles to show."""

    first: int
    last: int
    tokens: int
    nodes: tuple[Node, ...]


Item = Collapsed | Expanded | Gap | Quote | Omitted


@dataclass(frozen=True, slots=True)
class TreeSnapshot:
    """The part of a branch's tree that the layout of a view needs.

    Attributes:
        roots: The closed nodes without a parent, in order.
        nodes: Nodes by digest; at least all ancestors of each leaf in `leaves`.
        leaves: The turns (without content) of each leaf that may be expanded, by the index of their first turn. The
            open tail is one of them.
        tail_first: Index of the first turn of the open tail.
        length: Number of turns of the branch.
        expanded: Digests of inner nodes to expand for a finer outline, even if no turn in them is shown.
    """

    roots: tuple[Node, ...]
    nodes: Mapping[bytes, Node]
    leaves: Mapping[int, Sequence[Turn]]
    tail_first: int
    length: int
    expanded: frozenset[bytes] = frozenset()

    def leaf_first(self, index: int) -> int:
        """Returns the index of the first turn of the leaf that contains this turn; the leaf must be in `leaves`."""
        if index >= self.tail_first:
            return self.tail_first
        return self._starts()[bisect_right(self._starts(), index) - 1]

    def _starts(self) -> list[int]:
        return sorted(self.leaves)


# By first turn of a leaf: the quotes in it and the items that they gave.
TileCache = dict[int, tuple[list[Quote], list[Item]]]


def tile(snapshot: TreeSnapshot, shown: Mapping[int, Quote], tile_cache: TileCache | None = None) -> list[Item]:
    """Lays out a view that shows these turns.

    Args:
        snapshot: The branch's tree.
        shown: The quotes to show, by turn index. Each turn is in one of `snapshot.leaves`.
        tile_cache: Leaves tiled before on the same snapshot. An entry is used if the leaf shows the identical quotes;
            new entries are added.

    Returns:
        The items, in the branch's order.
    """
    items: list[Item] = []
    indexes, tile_cache = sorted(shown), {} if tile_cache is None else tile_cache
    _tile_nodes(snapshot, snapshot.roots, _ShownTurns(shown, indexes, tile_cache), 0, items)
    if snapshot.tail_first < snapshot.length:
        items += _tile_leaf(snapshot, snapshot.tail_first, snapshot.length - 1, _ShownTurns(shown, indexes, tile_cache))
    return items


class _ShownTurns(NamedTuple):
    """The quotes by turn index, these indexes in order, and the cache of tiled leaves."""

    quotes: Mapping[int, Quote]
    indexes: Sequence[int]
    tile_cache: TileCache


def _tile_nodes(
    snapshot: TreeSnapshot,
    siblings: Iterable[Node],
    shown: _ShownTurns,
    depth: int,
    items: list[Item],
) -> None:
    collapsed: list[Node] = []
    indexes = shown.indexes
    for node in siblings:
        at = bisect_left(indexes, node.first)
        has_shown = at < len(indexes) and indexes[at] <= node.last
        if not has_shown and node.digest not in snapshot.expanded:
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
    """The items of the leaf that contains the turns first..last."""
    indexes = shown.indexes
    within = [shown.quotes[at] for at in indexes[bisect_left(indexes, first) : bisect_right(indexes, last)]]
    known = shown.tile_cache.get(first)
    if known is None or len(known[0]) != len(within) or not all(map(is_, known[0], within)):
        known = shown.tile_cache[first] = (within, _tile_turns(snapshot.leaves[first], shown.quotes))
    return known[1]


def _tile_turns(turns: Sequence[Turn], shown: Mapping[int, Quote]) -> list[Item]:
    items: list[Item] = []
    first, last, tokens = 0, -1, 0
    for turn in turns:
        index = turn.index
        if (quote := shown.get(index)) is None:
            if last < first:
                first = index
            last = index
            tokens += turn.tokens
            continue
        if last >= first:
            items.append(Gap(first, last, tokens))
            first, last, tokens = 0, -1, 0
        items.append(quote)
    if last >= first:
        items.append(Gap(first, last, tokens))
    return items


def merge_collapsed(items: Iterable[Item]) -> list[Item]:
    """Covers the same turns in fewer lines.

    Collapsed nodes that are adjacent, or separated only by expanded inner nodes, become one item. Those inner nodes are
    left out, because they cover no turn themselves.
    """
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


def merge_omitted(items: Iterable[Item]) -> list[Item]:
    """Covers all turns between two quotes in one item.

    Expanded nodes are left out, because they cover no turn themselves. Gaps and collapsed nodes with no neighbour to
    merge with remain.
    """
    found: list[Item] = []
    run: list[Collapsed | Gap | Omitted] = []
    for item in items:
        if isinstance(item, Quote):
            found += _merged(run)
            found.append(item)
            run = []
        elif not isinstance(item, Expanded):
            run.append(item)
    return found + _merged(run)


def _merged(run: Sequence[Collapsed | Gap | Omitted]) -> list[Item]:
    if len(run) < 2:
        return list(run)
    nodes = tuple(node for item in run for node in _nodes_of(item))
    return [Omitted(run[0].first, run[-1].last, sum(item.tokens for item in run), nodes)]


def _nodes_of(item: Item) -> tuple[Node, ...]:
    return item.nodes if isinstance(item, (Collapsed, Omitted)) else ()


# By the first and the last of the turns between two quotes: the items that cover them.
OmittedCache = dict[tuple[int, int], list[Item]]


def tile_compactly(
    snapshot: TreeSnapshot, shown: Mapping[int, Quote], omitted_cache: OmittedCache | None = None
) -> list[Item]:
    """Lays out a compact view that shows these turns.

    The items are those of `merge_omitted(tile(snapshot, shown))`, found without laying out the tree: a view is laid out
    several times with nearly the same quotes, and the items between two of them depend on nothing else.

    Args:
        snapshot: The branch's tree.
        shown: The quotes to show, by turn index. Each turn is in one of `snapshot.leaves`.
        omitted_cache: Entries found before on the same snapshot; new ones are added.
    """
    items: list[Item] = []
    cache, at = {} if omitted_cache is None else omitted_cache, 0
    for index in sorted(shown):
        if at < index:
            items += _between_quotes(snapshot, at, index - 1, cache)
        items.append(shown[index])
        at = index + 1
    if at < snapshot.length:
        items += _between_quotes(snapshot, at, snapshot.length - 1, cache)
    return items


def _between_quotes(snapshot: TreeSnapshot, first: int, last: int, cache: OmittedCache) -> list[Item]:
    if (known := cache.get((first, last))) is None:
        run: list[Collapsed | Gap | Omitted] = []
        _cover(snapshot, snapshot.roots, (first, last), 0, run)
        if snapshot.tail_first <= last:
            run.append(_gap(snapshot, snapshot.tail_first, (first, last)))
        known = cache[first, last] = _merged(run)
    return known


def _cover(
    snapshot: TreeSnapshot,
    siblings: Iterable[Node],
    turns: tuple[int, int],
    depth: int,
    run: list[Collapsed | Gap | Omitted],
) -> None:
    """Adds the largest nodes that cover only turns from the first to the last, and gaps for the turns beside them."""
    first, last = turns
    collapsed: list[Node] = []
    for node in siblings:
        if node.last < first or node.first > last:
            continue
        if first <= node.first and node.last <= last and node.digest not in snapshot.expanded:
            collapsed.append(node)
            continue
        if collapsed:
            run.append(Collapsed(tuple(collapsed), depth))
            collapsed = []
        if node.level == 0:
            run.append(_gap(snapshot, node.first, turns))
        else:
            _cover(snapshot, [snapshot.nodes[digest] for digest in node.children], turns, depth + 1, run)
    if collapsed:
        run.append(Collapsed(tuple(collapsed), depth))


def _gap(snapshot: TreeSnapshot, leaf_first: int, turns: tuple[int, int]) -> Gap:
    """Those of the turns that are in a leaf."""
    leaf = snapshot.leaves[leaf_first]
    within = leaf[max(0, turns[0] - leaf_first) : turns[1] + 1 - leaf_first]
    return Gap(within[0].index, within[-1].index, sum(turn.tokens for turn in within))


def covered_turns(items: Iterable[Item]) -> list[int]:
    """Returns the indexes of the turns that the items cover, in order: 0, 1, 2, ... for a correct tiling."""
    indexes: list[int] = []
    for item in items:
        if isinstance(item, Quote):
            indexes.append(item.turn.index)
        elif not isinstance(item, Expanded):
            indexes.extend(range(item.first, item.last + 1))
    return indexes


def join_spans(spans: Iterable[CharSpan]) -> tuple[CharSpan, ...]:
    """Returns the same characters as sorted spans, with adjacent and overlapping spans joined."""
    spans = tuple(spans)
    if len(spans) == 1:
        return spans
    joined: list[CharSpan] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.stop)):
        if joined and span.start <= joined[-1].stop:
            last = joined[-1]
            if span.stop > last.stop:
                joined[-1] = CharSpan(last.start, span.stop, last.tokens + span.tokens)
        else:
            joined.append(span)
    return tuple(joined)
