"""Lays out a view: the order of its items, the detail of its outline, and the tokens of each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ctxmem_mcp.models import HighlightKinds, Node, Turn
from ctxmem_mcp.views.excerpt_groups import ExcerptGroup, quotes_by_turn
from ctxmem_mcp.views.layout import (
    Collapsed,
    Expanded,
    Gap,
    Item,
    Omitted,
    OmittedCache,
    Quote,
    TileCache,
    TreeSnapshot,
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
    TitleOf,
    collapsed_lines,
    expanded_line,
    gap_line,
    omitted_line,
    quote_text,
)

# The outline may take up to this share of the budget.
OUTLINE_SHARE_MAX = 0.2
# More detail in the outline costs at least this many tokens.
DETAIL_TOKENS_MIN = 5


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
        replaced: Id of the turn that replaced another, by the index of the replaced one.
        render_cache: Items rendered before. The attempts at one view have nearly all of their items in common.
        tile_cache: Leaves tiled before.
        omitted_cache: What is between two quotes of a compact view, found before.
        title_of: Returns the title of a node's summary, if that takes less time than `summary_of`.
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
    replaced: Mapping[int, str] = field(default_factory=dict)
    render_cache: dict[object, RenderedItem] = field(default_factory=dict)
    tile_cache: TileCache = field(default_factory=dict)
    omitted_cache: OmittedCache = field(default_factory=dict)
    title_of: TitleOf | None = None

    @property
    def leaf_first(self) -> Callable[[int], int] | None:
        """Returns the index of the first turn of a turn's leaf; None if leaves have no lines of their own."""
        return None if self.compact else self.snapshot.leaf_first


_Key = tuple[str, int, int]


class PageLayout:
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

    def with_groups(self, more: Sequence[int]) -> PageLayout:
        """Returns this layout with more groups."""
        groups, taken = self._spec.groups, sorted([*self.taken, *more])
        indexes = {excerpt.index for i in more for excerpt in groups[i].excerpts}
        beside = [groups[j] for j in taken if any(excerpt.index in indexes for excerpt in groups[j].excerpts)]
        again = {index: quote for index, quote in quotes_by_turn(beside, self._spec.turns).items() if index in indexes}
        details = {_key(self.items[i]): detail for i, detail in self._details.items()}
        return PageLayout(self._spec, taken, details, {**self._shown, **again})

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
            text = quote_text(item, timestamps, replaced_by=self._spec.replaced.get(item.turn.index, ""))
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
            return omitted_line(
                item, detail, self._spec.title_of or self._title_of, self._spec.checks.get(item.last, "")
            )
        if isinstance(item, Collapsed):
            check = self._spec.checks.get(item.last, "")
            return collapsed_lines(item, detail, self._spec.summary_of, self._spec.kinds, check)
        return expanded_line(item, detail, self._spec.summary_of, self._spec.kinds)

    def _title_of(self, node: Node) -> str:
        return self._spec.summary_of(node).title

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
