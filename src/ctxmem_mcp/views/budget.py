"""Fits a view into its budget: which turns are quoted, how much the outline says. Pure; asks nothing, fetches nothing.

The budget is spent in this order: our own lines that must be there (the tiling), what the ranking chose, then more
words in the outline (never over its share), then again quotes. What was estimated is counted exactly at the end,
over the whole text, and the least wanted quotes go until it fits: a view never counts more than its budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ctxmem_mcp.models import HighlightKinds, Node, Turn
from ctxmem_mcp.views.layout import (
    CharSpan,
    Collapsed,
    Expanded,
    Gap,
    Item,
    Quote,
    TileCache,
    TreeSnapshot,
    join_spans,
    merge_collapsed,
    tile,
)
from ctxmem_mcp.views.render import (
    NO_KIND_FILTER,
    PREFACE,
    Detail,
    SummaryOf,
    TimestampPrinter,
    collapsed_lines,
    expanded_line,
    gap_line,
    quote_text,
)

# The outline may take this share of the budget, and is granted the smaller one before any quote is chosen.
OUTLINE_SHARE_MAX = 0.2
OUTLINE_SHARE_GRANTED = 0.1
# What our own lines cost, for choosing; the exact count comes later.
TURN_HEADER_TOKENS = 9
GAP_TOKENS = 9
# No line more in the outline costs less.
DETAIL_TOKENS_MIN = 5
LEAF_LINE_TOKENS = 24
# Each try at filling what is left of the budget lays the whole view out again; the last hundredth is not worth it.
REFILLS_MAX = 4
REFILL_SHARE = 0.01


class ExcerptRef(NamedTuple):
    """A stretch of a turn that might be shown."""

    index: int  # type: ignore[assignment]
    span: CharSpan


class ExcerptGroup(NamedTuple):
    """Quotes that are shown together or not at all (a call with its result), best units first."""

    excerpts: tuple[ExcerptRef, ...]

    @property
    def tokens(self) -> int:
        if len(self.excerpts) == 1:
            return self.excerpts[0].span.tokens
        return sum(excerpt.span.tokens for excerpt in self.excerpts)


def clip(group: ExcerptGroup, turns: Mapping[int, Turn]) -> ExcerptGroup:
    """The group with the end of each excerpt within its turn."""
    ends = [min(excerpt.span.stop, len(turns[excerpt.index].content)) for excerpt in group.excerpts]
    if all(excerpt.span.stop == end for excerpt, end in zip(group.excerpts, ends, strict=True)):
        return group
    clipped = (e._replace(span=e.span._replace(stop=end)) for e, end in zip(group.excerpts, ends, strict=True))
    return ExcerptGroup(tuple(clipped))


class RenderedItem(NamedTuple):
    """An item as it is rendered. said: the time that was told last, after it. Every item's lines begin with '[',
    indented or not, so that their tokens sum up to those of the whole text."""

    text: str
    last_time: str
    tokens: int


@dataclass(slots=True)
class FitInput:
    """Everything a fit may use. turns: every turn in `units` with its content, by index.

    kinds: what the outline is asked to tell of collapsed sections (empty: whatever fits). merging: neighbouring
    collapsed nodes share a line, whatever their levels. checks: digits of the turns that spans end at, where these lie
    on another branch than the head's.
    """

    snapshot: TreeSnapshot
    groups: Sequence[ExcerptGroup]
    turns: Mapping[int, Turn]
    summary_of: SummaryOf
    count: Callable[[str], int]
    outline_share: float = OUTLINE_SHARE_MAX
    kinds: HighlightKinds = NO_KIND_FILTER
    merge_neighbours: bool = False
    checks: Mapping[int, str] = field(default_factory=dict)
    # What was rendered and tiled already: the tries at one view have nearly all of their items in common.
    render_cache: dict[object, RenderedItem] = field(default_factory=dict)
    tile_cache: TileCache = field(default_factory=dict)


@dataclass(slots=True)
class FitResult:
    """The text, what it is made of, and its exact token count (without any header of the caller's). wanted: nodes that
    a better summary is wanted of."""

    text: str
    items: list[Item]
    tokens: int
    taken: list[int] = field(default_factory=list)
    summary_requests: Sequence[Node] = ()


def greedy_fit(groups: Sequence[ExcerptGroup], leaf_first: Callable[[int], int], budget: int) -> list[int]:
    """Positions of the units that fit a budget by estimate, greedily in the order given (best first)."""
    taken: list[int] = []
    leaves: set[int] = set()
    turns: set[int] = set()
    left = budget
    for i, group in enumerate(groups):
        new_turns = {excerpt.index for excerpt in group.excerpts} - turns
        new_leaves = {leaf_first(index) for index in new_turns} - leaves
        cost = group.tokens + LEAF_LINE_TOKENS * len(new_leaves)
        for index in new_turns:
            # A turn beside one that is shown needs no gap line of its own; between two, it saves one.
            cost += TURN_HEADER_TOKENS + GAP_TOKENS * (1 - (index - 1 in turns) - (index + 1 in turns))
        if cost <= left:
            left -= cost
            turns |= new_turns
            leaves |= new_leaves
            taken.append(i)
        if left < TURN_HEADER_TOKENS:
            break
    return taken


def fit(spec: FitInput, budget: int) -> FitResult | int:
    """The view's text within `budget` tokens, or the smallest budget that would hold any view."""
    open_budget = round(budget * (1 - OUTLINE_SHARE_GRANTED))
    taken = greedy_fit(spec.groups, spec.snapshot.leaf_first, open_budget)
    if not spec.kinds and _PageLayout(spec, taken).outline_tokens() > budget - open_budget:
        # So many quotes so far apart, that the way down to each would take the room of others.
        spec = replace(spec, merge_neighbours=True)
    while True:
        layout = _PageLayout(spec, taken)
        tokens = layout.tokens()
        if tokens <= budget:
            break
        if not taken:
            return _outline_only(spec, budget)
        taken = _drop_last(spec, taken, tokens - budget)
    if not spec.kinds:
        # Titles first, then quotes; what is left over goes to a fuller outline.
        tokens = layout.add_outline_detail(budget, tokens, Detail.TITLES)
        layout, tokens = _fill_remaining(layout, spec, budget, tokens)
    tokens = layout.add_outline_detail(budget, tokens)
    layout, tokens = _fill_remaining(layout, spec, budget, tokens)
    return FitResult(layout.text(), layout.items, tokens, layout.taken)


def _fill_remaining(layout: _PageLayout, spec: FitInput, budget: int, tokens: int) -> tuple[_PageLayout, int]:
    """The page with as many of the units passed over as there is room for: each time as many as it seems to hold, for
    what is left turns out to be more than was thought."""
    for _ in range(REFILLS_MAX):
        extended, counted = _fill_once(layout, spec, budget, tokens)
        if extended is layout:
            break
        layout, tokens = extended, counted
    return layout, tokens


def _fill_once(layout: _PageLayout, spec: FitInput, budget: int, tokens: int) -> tuple[_PageLayout, int]:
    if budget - tokens < min(budget * REFILL_SHARE, 2 * TURN_HEADER_TOKENS):
        return layout, tokens
    taken = set(layout.taken)
    passed = [i for i in range(len(spec.groups)) if i not in taken]
    at = greedy_fit([spec.groups[i] for i in passed], spec.snapshot.leaf_first, budget - tokens)
    more = [passed[i] for i in at]
    while more:
        extended = layout.with_groups(more)
        counted = extended.tokens()
        if counted <= budget:
            return extended, counted
        more = _drop_last(spec, more, counted - budget)
    return layout, tokens


def _outline_only(spec: FitInput, budget: int) -> FitResult | int:
    """Without any quote, and the outline as coarse as it goes."""
    coarse = replace(spec.snapshot, expanded=frozenset())
    layout = _PageLayout(replace(spec, snapshot=coarse, groups=(), tile_cache={}), [])
    smallest = spec.count(layout.text())
    if smallest > budget:
        return smallest
    return FitResult(layout.text(), layout.items, layout.add_outline_detail(budget, smallest), [])


def _drop_last(spec: FitInput, taken: list[int], excess: int) -> list[int]:
    """Drops the least wanted units worth about `excess` tokens, at least one."""
    kept = list(taken)
    while kept and excess > 0:
        excess -= spec.groups[kept.pop()].tokens + TURN_HEADER_TOKENS
    return kept


_Key = tuple[str, int, int]


class _PageLayout:
    """A laid-out view: its items, how much each outline item says, and the lines that gives."""

    def __init__(
        self,
        spec: FitInput,
        taken: Sequence[int],
        details: Mapping[_Key, Detail] | None = None,
        shown: Mapping[int, Quote] | None = None,
    ) -> None:
        self._spec = spec
        self.taken = list(taken)
        self._shown = quotes_by_turn([spec.groups[i] for i in taken], spec.turns) if shown is None else shown
        self.items = tile(spec.snapshot, self._shown, spec.tile_cache)
        if spec.merge_neighbours:
            self.items = merge_collapsed(self.items)
        # Of outline items only.
        self._details: dict[int, Detail] = {}
        self._rendered: list[RenderedItem] = []
        timestamps, known = TimestampPrinter(), details or {}
        for i, item in enumerate(self.items):
            if isinstance(item, Quote):
                self._rendered.append(self._render_quote(item, timestamps))
            elif isinstance(item, Gap):
                self._rendered.append(spec.render_cache.get(item) or self._remember(item, self._gap_text(item)))
            else:
                detail = self._details[i] = known.get(_key(item), Detail.BARE)
                self._rendered.append(self._render_outline(item, detail))

    def with_groups(self, more: Sequence[int]) -> _PageLayout:
        """The same page with more units on it."""
        groups, taken = self._spec.groups, sorted([*self.taken, *more])
        indexes = {excerpt.index for i in more for excerpt in groups[i].excerpts}
        beside = [groups[j] for j in taken if any(excerpt.index in indexes for excerpt in groups[j].excerpts)]
        again = {index: quote for index, quote in quotes_by_turn(beside, self._spec.turns).items() if index in indexes}
        details = {_key(self.items[i]): detail for i, detail in self._details.items()}
        return _PageLayout(self._spec, taken, details, {**self._shown, **again})

    def text(self) -> str:
        return "".join([PREFACE + "\n", *(lines.text for lines in self._rendered)])

    def tokens(self) -> int:
        return self._spec.count(PREFACE + "\n") + sum(lines.tokens for lines in self._rendered)

    def outline_tokens(self) -> int:
        return sum(self._rendered[i].tokens for i in self._details)

    def _remember(self, key: object, text: str, last_time: str = "") -> RenderedItem:
        lines = self._spec.render_cache[key] = RenderedItem(text, last_time, self._spec.count(text))
        return lines

    def _render_quote(self, item: Quote, timestamps: TimestampPrinter) -> RenderedItem:
        key = (item.turn.index, item.spans, timestamps.last)
        lines = self._spec.render_cache.get(key)
        if lines is None:
            text = quote_text(item, timestamps)
            lines = self._remember(key, text, timestamps.last)
        timestamps.last = lines.last_time
        return lines

    def _render_outline(self, item: Collapsed | Expanded, detail: Detail) -> RenderedItem:
        key = (*_key(item), item.depth, detail)
        return self._spec.render_cache.get(key) or self._remember(key, self._outline_text(item, detail))

    def _gap_text(self, item: Gap) -> str:
        return gap_line(item, self._spec.checks.get(item.last, ""))

    def _outline_text(self, item: Collapsed | Expanded, detail: Detail) -> str:
        if isinstance(item, Collapsed):
            check = self._spec.checks.get(item.last, "")
            return collapsed_lines(item, detail, self._spec.summary_of, self._spec.kinds, check)
        return expanded_line(item, detail, self._spec.summary_of, self._spec.kinds)

    def add_outline_detail(self, budget: int, tokens: int, most: Detail = Detail.HIGHLIGHTS) -> int:
        """Lets the outline say more, up to `most`, while its share and the budget allow; gives the exact count then."""
        cap = round(budget * self._spec.outline_share)
        spent = self.outline_tokens()
        for i, detail in self._detail_steps(most):
            least = DETAIL_TOKENS_MIN if detail > Detail.TITLES else 1
            if spent + least > cap or tokens + least > budget:
                continue  # rendered and counted for nothing
            lines = self._render_outline(self._outline_item(i), detail)
            more = lines.tokens - self._rendered[i].tokens
            if spent + more > cap or tokens + more > budget or detail < self._details[i]:
                continue
            self._details[i], self._rendered[i] = detail, lines
            spent, tokens = spent + more, tokens + more
        counted = self._spec.count(self.text())
        while counted > budget:  # parts counted alone may sum up to less than the whole
            i = max(self._details, key=lambda i: self._details[i])
            self._details[i] = Detail(self._details[i] - 1)
            self._rendered[i] = self._render_outline(self._outline_item(i), self._details[i])
            counted = self._spec.count(self.text())
        return counted

    def _outline_item(self, i: int) -> Collapsed | Expanded:
        item = self.items[i]
        assert isinstance(item, (Collapsed, Expanded))
        return item

    def _detail_steps(self, most: Detail) -> list[tuple[int, Detail]]:
        """What the outline would like to say, most wanted first."""
        collapsed = [i for i, item in enumerate(self.items) if isinstance(item, Collapsed)]
        expanded = [i for i, item in enumerate(self.items) if isinstance(item, Expanded)]
        by_size = sorted(collapsed, key=lambda i: -self._tokens_of(i))
        leaves_first = sorted(expanded, key=lambda i: self._level_of(i))
        steps = [
            *((i, Detail.TITLES) for i in leaves_first if self._level_of(i) == 0),
            *((i, Detail.TITLES) for i in by_size),
            *((i, Detail.HIGHLIGHTS) for i in self._details if self._has_requested_highlights(i)),
            *((i, Detail.TITLES) for i in leaves_first if self._level_of(i) > 0),
            *((i, Detail.LINES) for i in by_size),
            *((i, Detail.HIGHLIGHTS) for i in by_size if not self._spec.kinds),
        ]
        return [(i, detail) for i, detail in steps if detail <= most]

    def _has_requested_highlights(self, i: int) -> bool:
        """Whether an item has something to tell of what is asked for."""
        item, kinds = self.items[i], self._spec.kinds
        if not kinds or (isinstance(item, Expanded) and item.node.level):
            return False
        nodes = item.nodes if isinstance(item, Collapsed) else (item.node,) if isinstance(item, Expanded) else ()
        return any(h.kind in kinds for node in nodes for h in self._spec.summary_of(node).highlights)

    def _tokens_of(self, i: int) -> int:
        item = self.items[i]
        return item.tokens if isinstance(item, Collapsed) else 0

    def _level_of(self, i: int) -> int:
        item = self.items[i]
        return item.node.level if isinstance(item, Expanded) else 0


def _key(item: Item) -> _Key:
    if isinstance(item, Expanded):
        return "expanded", item.node.first, item.node.last
    if isinstance(item, Quote):
        return "quoted", item.turn.index, item.turn.index
    return "collapsed", item.first, item.last


def quotes_by_turn(groups: Sequence[ExcerptGroup], turns: Mapping[int, Turn]) -> dict[int, Quote]:
    """The quotes of these units, by turn."""
    spans: dict[int, list[CharSpan]] = {}
    for group in groups:
        for excerpt in group.excerpts:
            spans.setdefault(excerpt.index, []).append(excerpt.span)
    return {index: Quote(turns[index], join_spans(found), len(turns[index].content)) for index, found in spans.items()}
