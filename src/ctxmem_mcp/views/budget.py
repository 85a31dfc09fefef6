"""Fits a view into its budget: which turns are quoted, and how detailed the outline is. Pure: no I/O, no ranking.

The budget is spent in this order: the lines that the tiling requires, the excerpts in the order of the ranking, more
detail in the outline (up to its share), then further excerpts. Excerpts are selected by estimate. The whole text is
counted exactly at the end, and the lowest-ranked excerpts are dropped until it fits: a view never exceeds its budget.
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
    Omitted,
    OmittedCache,
    Quote,
    TileCache,
    TreeSnapshot,
    join_spans,
    merge_collapsed,
    tile,
    tile_compactly,
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
    omitted_line,
    quote_text,
)

# The outline may take up to the first share of the budget. The second is set aside before excerpts are selected.
OUTLINE_SHARE_MAX = 0.2
OUTLINE_SHARE_GRANTED = 0.1
# A compact view is laid out once less if the first selection fits: what is left of the budget is filled afterwards.
COMPACT_SHARE = 0.985
# Estimated tokens of the generated lines, for selecting excerpts. The exact count follows.
TURN_HEADER_TOKENS = 9
GAP_TOKENS = 9
# More detail in the outline costs at least this many tokens.
DETAIL_TOKENS_MIN = 5
# Estimated tokens of the line of an expanded leaf.
LEAF_LINE_TOKENS = 24
# Each attempt to fill the rest of the budget lays out the whole view again; the last hundredth is not worth it.
REFILLS_MAX = 4
REFILL_SHARE = 0.01


class ExcerptRef(NamedTuple):
    """A span of a turn that may be shown. index: the turn's."""

    index: int  # type: ignore[assignment]
    span: CharSpan


class ExcerptGroup(NamedTuple):
    """Excerpts that are shown together or not at all, such as a tool call and its result."""

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
    """The text of an item, the last timestamp printed up to its end, and its tokens.

    The first line of each item begins with '[', possibly indented, so the tokens of the items add up to those of the
    whole text.
    """

    text: str
    last_time: str
    tokens: int


@dataclass(slots=True)
class FitInput:
    """The input of `fit`.

    Attributes:
        snapshot: The branch's tree.
        groups: The excerpts, best first.
        leading: How many of them are chosen first; the rest only fills the room left at the end. None for all.
        turns: Each turn in `groups`, with its content, by index.
        summary_of: Returns the summary of a node.
        count: Counts tokens.
        outline_share: The maximum share of the budget for the outline.
        kinds: The kinds of highlights that the outline should contain; empty for any that fit.
        merge_neighbours: Whether adjacent collapsed nodes of any level share a line.
        compact: Whether all turns between two quotes share a line, for as many quotes as possible.
        checks: Check digits by turn index, for turns at which a displayed range ends; only for a branch other than the
            head's, where the range needs them.
        render_cache: Items rendered before. The attempts at one view have nearly all of their items in common.
        tile_cache: Leaves tiled before.
        omitted_cache: What is between two quotes of a compact view, found before.
    """

    snapshot: TreeSnapshot
    groups: Sequence[ExcerptGroup]
    turns: Mapping[int, Turn]
    summary_of: SummaryOf
    count: Callable[[str], int]
    outline_share: float = OUTLINE_SHARE_MAX
    kinds: HighlightKinds = NO_KIND_FILTER
    merge_neighbours: bool = False
    compact: bool = False
    checks: Mapping[int, str] = field(default_factory=dict)
    leading: int | None = None
    render_cache: dict[object, RenderedItem] = field(default_factory=dict)
    tile_cache: TileCache = field(default_factory=dict)
    omitted_cache: OmittedCache = field(default_factory=dict)

    @property
    def leaf_first(self) -> Callable[[int], int] | None:
        """Returns the index of the first turn of a turn's leaf; None if leaves have no lines of their own."""
        return None if self.compact else self.snapshot.leaf_first


@dataclass(slots=True)
class FitResult:
    """The fitted view.

    Attributes:
        text: The text, without the header line.
        items: The items of the text.
        tokens: The exact token count of the text.
        taken: Positions of the groups that are shown.
        summary_requests: Nodes that need a better summary; set by the caller.
    """

    text: str
    items: list[Item]
    tokens: int
    taken: list[int] = field(default_factory=list)
    summary_requests: Sequence[Node] = ()


def greedy_fit(groups: Sequence[ExcerptGroup], leaf_first: Callable[[int], int] | None, budget: int) -> list[int]:
    """Selects excerpts by estimate, greedily.

    Args:
        groups: The excerpts, best first.
        leaf_first: Returns the index of the first turn of the leaf that contains a turn; None if leaves have no lines.
        budget: Tokens.

    Returns:
        Positions of the selected groups, ascending.
    """
    taken: list[int] = []
    leaves: set[int] = set()
    turns: set[int] = set()
    left = budget
    for i, group in enumerate(groups):
        new_turns = {excerpt.index for excerpt in group.excerpts} - turns
        new_leaves = {leaf_first(index) for index in new_turns} - leaves if leaf_first else set()
        cost = group.tokens + LEAF_LINE_TOKENS * len(new_leaves)
        for index in new_turns:
            # A turn next to a shown one needs no gap line; between two shown ones it saves one.
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
    """Fits a view into a budget.

    Args:
        spec: The tree, the excerpts and the summaries.
        budget: Tokens, not counting the header line.

    Returns:
        The view, or the smallest budget that fits any view of this branch.
    """
    open_budget = round(budget * (COMPACT_SHARE if spec.compact else 1 - OUTLINE_SHARE_GRANTED))
    taken = greedy_fit(spec.groups[: spec.leading], spec.leaf_first, open_budget)
    if not spec.kinds and not spec.compact and _PageLayout(spec, taken).outline_tokens() > budget - open_budget:
        # The excerpts are so far apart that the outline down to each would displace others.
        spec = replace(spec, merge_neighbours=True)
    while True:
        layout = _PageLayout(spec, taken)
        tokens = layout.tokens()
        if tokens <= budget:
            break
        if not taken:
            return _outline_only(spec, budget)
        taken = _drop_last(spec, taken, tokens - budget)
    if spec.compact:
        layout, tokens = _fill_remaining(layout, spec, budget, tokens)
    elif not spec.kinds:
        # Titles first, then excerpts; the remainder is for a more detailed outline.
        tokens = layout.add_outline_detail(budget, tokens, Detail.TITLES)
        layout, tokens = _fill_remaining(layout, spec, budget, tokens)
    tokens = layout.add_outline_detail(budget, tokens)
    layout, tokens = _fill_remaining(layout, spec, budget, tokens)
    return FitResult(layout.text(), layout.items, tokens, layout.taken)


def _fill_remaining(layout: _PageLayout, spec: FitInput, budget: int, tokens: int) -> tuple[_PageLayout, int]:
    """Adds further excerpts while they fit. Repeated, because the remaining budget usually exceeds the estimate."""
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
    at = greedy_fit([spec.groups[i] for i in passed], spec.leaf_first, budget - tokens)
    more = [passed[i] for i in at]
    while more:
        extended = layout.with_groups(more)
        counted = extended.tokens()
        if counted <= budget:
            return extended, counted
        more = _drop_last(spec, more, counted - budget)
    return layout, tokens


def _outline_only(spec: FitInput, budget: int) -> FitResult | int:
    """A view without excerpts, with the coarsest outline; or the smallest budget if even that does not fit."""
    coarse = replace(spec.snapshot, expanded=frozenset())
    layout = _PageLayout(replace(spec, snapshot=coarse, groups=(), tile_cache={}, omitted_cache={}), [])
    smallest = spec.count(layout.text())
    if smallest > budget:
        return smallest
    return FitResult(layout.text(), layout.items, layout.add_outline_detail(budget, smallest), [])


def _drop_last(spec: FitInput, taken: list[int], excess: int) -> list[int]:
    """Drops the lowest-ranked groups of about `excess` tokens in total, at least one."""
    remaining = list(taken)
    while remaining and excess > 0:
        excess -= spec.groups[remaining.pop()].tokens + TURN_HEADER_TOKENS
    return remaining


_Key = tuple[str, int, int]


class _PageLayout:
    """A view: its items, the detail of each outline item, and the rendered lines."""

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
        if spec.compact:
            self.items = tile_compactly(spec.snapshot, self._shown, spec.omitted_cache)
        else:
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
        """Returns this layout with more groups."""
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

    def _render_outline(self, item: Collapsed | Expanded | Omitted, detail: Detail) -> RenderedItem:
        key = (*_key(item), 0 if isinstance(item, Omitted) else item.depth, detail)
        return self._spec.render_cache.get(key) or self._remember(key, self._outline_text(item, detail))

    def _gap_text(self, item: Gap) -> str:
        return gap_line(item, self._spec.checks.get(item.last, ""))

    def _outline_text(self, item: Collapsed | Expanded | Omitted, detail: Detail) -> str:
        if isinstance(item, Omitted):
            return omitted_line(item, detail, self._spec.summary_of, self._spec.checks.get(item.last, ""))
        if isinstance(item, Collapsed):
            check = self._spec.checks.get(item.last, "")
            return collapsed_lines(item, detail, self._spec.summary_of, self._spec.kinds, check)
        return expanded_line(item, detail, self._spec.summary_of, self._spec.kinds)

    def add_outline_detail(self, budget: int, tokens: int, most: Detail = Detail.HIGHLIGHTS) -> int:
        """Adds detail to the outline, up to `most`, within its share and the budget. Returns the exact token count."""
        cap = round(budget * self._spec.outline_share)
        spent = self.outline_tokens()
        for i, detail in self._detail_steps(most):
            least = DETAIL_TOKENS_MIN if detail > Detail.TITLES else 1
            if spent + least > cap or tokens + least > budget:
                continue  # saves rendering and counting a line that cannot fit
            lines = self._render_outline(self._outline_item(i), detail)
            more = lines.tokens - self._rendered[i].tokens
            if spent + more > cap or tokens + more > budget or detail < self._details[i]:
                continue
            self._details[i], self._rendered[i] = detail, lines
            spent, tokens = spent + more, tokens + more
        counted = self._spec.count(self.text())
        while counted > budget:  # the parts may add up to fewer tokens than the whole
            i = max(self._details, key=lambda i: self._details[i])
            self._details[i] = Detail(self._details[i] - 1)
            self._rendered[i] = self._render_outline(self._outline_item(i), self._details[i])
            counted = self._spec.count(self.text())
        return counted

    def _outline_item(self, i: int) -> Collapsed | Expanded | Omitted:
        item = self.items[i]
        assert isinstance(item, (Collapsed, Expanded, Omitted))
        return item

    def _detail_steps(self, most: Detail) -> list[tuple[int, Detail]]:
        """The possible additions to the outline, most useful first."""
        collapsed = [i for i, item in enumerate(self.items) if isinstance(item, Collapsed)]
        expanded = [i for i, item in enumerate(self.items) if isinstance(item, Expanded)]
        omitted = [i for i, item in enumerate(self.items) if isinstance(item, Omitted) and item.nodes]
        omitted.sort(key=lambda i: -self._tokens_of(i))
        by_size = sorted(collapsed, key=lambda i: -self._tokens_of(i))
        leaves_first = sorted(expanded, key=lambda i: self._level_of(i))
        steps = [
            *((i, Detail.TITLES) for i in leaves_first if self._level_of(i) == 0),
            *((i, Detail.TITLES) for i in by_size),
            *((i, Detail.TITLES) for i in omitted),
            *((i, Detail.HIGHLIGHTS) for i in self._details if self._has_requested_highlights(i)),
            *((i, Detail.TITLES) for i in leaves_first if self._level_of(i) > 0),
            *((i, Detail.LINES) for i in by_size),
            *((i, Detail.HIGHLIGHTS) for i in by_size if not self._spec.kinds),
        ]
        return [(i, detail) for i, detail in steps if detail <= most]

    def _has_requested_highlights(self, i: int) -> bool:
        """Whether an item has highlights of the requested kinds."""
        item, kinds = self.items[i], self._spec.kinds
        if not kinds or (isinstance(item, Expanded) and item.node.level):
            return False
        nodes = item.nodes if isinstance(item, Collapsed) else (item.node,) if isinstance(item, Expanded) else ()
        return any(h.kind in kinds for node in nodes for h in self._spec.summary_of(node).highlights)

    def _tokens_of(self, i: int) -> int:
        item = self.items[i]
        return item.tokens if isinstance(item, (Collapsed, Omitted)) else 0

    def _level_of(self, i: int) -> int:
        item = self.items[i]
        return item.node.level if isinstance(item, Expanded) else 0


def _key(item: Item) -> _Key:
    if isinstance(item, Expanded):
        return "expanded", item.node.first, item.node.last
    if isinstance(item, Quote):
        return "quoted", item.turn.index, item.turn.index
    if isinstance(item, Omitted):
        return "omitted", item.first, item.last
    return "collapsed", item.first, item.last


def quotes_by_turn(groups: Sequence[ExcerptGroup], turns: Mapping[int, Turn]) -> dict[int, Quote]:
    """Joins the excerpts of each turn to a quote, by turn index."""
    spans: dict[int, list[CharSpan]] = {}
    for group in groups:
        for excerpt in group.excerpts:
            spans.setdefault(excerpt.index, []).append(excerpt.span)
    return {index: Quote(turns[index], join_spans(found), len(turns[index].content)) for index, found in spans.items()}
