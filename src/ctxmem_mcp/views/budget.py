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
    Folded,
    Gap,
    Item,
    Opened,
    Quoted,
    Stretch,
    Tiled,
    TreeSnapshot,
    joined,
    merged,
    tile,
)
from ctxmem_mcp.views.render import (
    NO_KIND_FILTER,
    PREFACE,
    Clock,
    Detail,
    SummaryOf,
    folded_lines,
    gap_line,
    opened_line,
    quoted_text,
)

# The outline may take this share of the budget, and is granted the smaller one before any quote is chosen.
OUTLINE_SHARE_MAX = 0.2
OUTLINE_SHARE_GRANTED = 0.1
# What our own lines cost, for choosing; the exact count comes later.
HEADER_TOKENS = 9
GAP_TOKENS = 9
# No line more in the outline costs less.
LINE_TOKENS_MIN = 5
LEAF_TOKENS = 24
# Each try at filling what is left of the budget lays the whole view out again; the last hundredth is not worth it.
REFILLS_MAX = 4
REFILL_SHARE = 0.01


class Quote(NamedTuple):
    """A stretch of a turn that might be shown."""

    index: int  # type: ignore[assignment]
    stretch: Stretch


class Unit(NamedTuple):
    """Quotes that are shown together or not at all (a call with its result), best units first."""

    quotes: tuple[Quote, ...]

    @property
    def tokens(self) -> int:
        if len(self.quotes) == 1:
            return self.quotes[0].stretch.tokens
        return sum(quote.stretch.tokens for quote in self.quotes)


class Lines(NamedTuple):
    """An item as it is rendered. said: the time that was told last, after it. Every item's lines begin with '[',
    indented or not, so that their tokens sum up to those of the whole text."""

    text: str
    said: str
    tokens: int


@dataclass(slots=True)
class Material:
    """Everything a fit may use. turns: every turn in `units` with its content, by index.

    kinds: what the outline is asked to tell of collapsed sections (empty: whatever fits). merging: neighbouring
    collapsed nodes share a line, whatever their levels. checks: digits of the turns that spans end at, where these lie
    on another branch than the head's.
    """

    ground: TreeSnapshot
    units: Sequence[Unit]
    turns: Mapping[int, Turn]
    summary_of: SummaryOf
    count: Callable[[str], int]
    outline_share: float = OUTLINE_SHARE_MAX
    kinds: HighlightKinds = NO_KIND_FILTER
    merging: bool = False
    checks: Mapping[int, str] = field(default_factory=dict)
    # What was rendered and tiled already: the tries at one view have nearly all of their items in common.
    rendered: dict[object, Lines] = field(default_factory=dict)
    tiled: Tiled = field(default_factory=dict)


@dataclass(slots=True)
class Fitted:
    """The text, what it is made of, and its exact token count (without any header of the caller's). wanted: nodes that
    a better summary is wanted of."""

    text: str
    items: list[Item]
    tokens: int
    taken: list[int] = field(default_factory=list)
    wanted: Sequence[Node] = ()


def affordable(units: Sequence[Unit], leaf_first: Callable[[int], int], budget: int) -> list[int]:
    """Positions of the units that fit a budget by estimate, greedily in the order given (best first)."""
    taken: list[int] = []
    leaves: set[int] = set()
    turns: set[int] = set()
    left = budget
    for i, unit in enumerate(units):
        new_turns = {quote.index for quote in unit.quotes} - turns
        new_leaves = {leaf_first(index) for index in new_turns} - leaves
        cost = unit.tokens + LEAF_TOKENS * len(new_leaves)
        for index in new_turns:
            # A turn beside one that is shown needs no gap line of its own; between two, it saves one.
            cost += HEADER_TOKENS + GAP_TOKENS * (1 - (index - 1 in turns) - (index + 1 in turns))
        if cost <= left:
            left -= cost
            turns |= new_turns
            leaves |= new_leaves
            taken.append(i)
        if left < HEADER_TOKENS:
            break
    return taken


def fit(material: Material, budget: int) -> Fitted | int:
    """The view's text within `budget` tokens, or the smallest budget that would hold any view."""
    open_budget = round(budget * (1 - OUTLINE_SHARE_GRANTED))
    taken = affordable(material.units, material.ground.leaf_first, open_budget)
    if not material.kinds and _Page(material, taken).outline_tokens() > budget - open_budget:
        # So many quotes so far apart, that the way down to each would take the room of others.
        material = replace(material, merging=True)
    while True:
        page = _Page(material, taken)
        tokens = page.tokens()
        if tokens <= budget:
            break
        if not taken:
            return _bare(material, budget)
        taken = _without_last(material, taken, tokens - budget)
    if not material.kinds:
        # Titles first, then quotes; what is left over goes to a fuller outline.
        tokens = page.enrich(budget, tokens, Detail.TITLES)
        page, tokens = _refilled(page, material, budget, tokens)
    tokens = page.enrich(budget, tokens)
    page, tokens = _refilled(page, material, budget, tokens)
    return Fitted(page.text(), page.items, tokens, page.taken)


def _refilled(page: _Page, material: Material, budget: int, tokens: int) -> tuple[_Page, int]:
    """The page with as many of the units passed over as there is room for: each time as many as it seems to hold, for
    what is left turns out to be more than was thought."""
    for _ in range(REFILLS_MAX):
        fuller, counted = _refilled_once(page, material, budget, tokens)
        if fuller is page:
            break
        page, tokens = fuller, counted
    return page, tokens


def _refilled_once(page: _Page, material: Material, budget: int, tokens: int) -> tuple[_Page, int]:
    if budget - tokens < min(budget * REFILL_SHARE, 2 * HEADER_TOKENS):
        return page, tokens
    taken = set(page.taken)
    passed = [i for i in range(len(material.units)) if i not in taken]
    at = affordable([material.units[i] for i in passed], material.ground.leaf_first, budget - tokens)
    more = [passed[i] for i in at]
    while more:
        fuller = page.with_units(more)
        counted = fuller.tokens()
        if counted <= budget:
            return fuller, counted
        more = _without_last(material, more, counted - budget)
    return page, tokens


def _bare(material: Material, budget: int) -> Fitted | int:
    """Without any quote, and the outline as coarse as it goes."""
    coarse = replace(material.ground, unfolded=frozenset())
    page = _Page(replace(material, ground=coarse, units=(), tiled={}), [])
    smallest = material.count(page.text())
    if smallest > budget:
        return smallest
    return Fitted(page.text(), page.items, page.enrich(budget, smallest), [])


def _without_last(material: Material, taken: list[int], excess: int) -> list[int]:
    """Drops the least wanted units worth about `excess` tokens, at least one."""
    kept = list(taken)
    while kept and excess > 0:
        excess -= material.units[kept.pop()].tokens + HEADER_TOKENS
    return kept


_Key = tuple[str, int, int]


class _Page:
    """A laid-out view: its items, how much each outline item says, and the lines that gives."""

    def __init__(
        self,
        material: Material,
        taken: Sequence[int],
        details: Mapping[_Key, Detail] | None = None,
        shown: Mapping[int, Quoted] | None = None,
    ) -> None:
        self._material = material
        self.taken = list(taken)
        self._shown = shown_by([material.units[i] for i in taken], material.turns) if shown is None else shown
        self.items = tile(material.ground, self._shown, material.tiled)
        if material.merging:
            self.items = merged(self.items)
        # Of outline items only.
        self._details: dict[int, Detail] = {}
        self._lines: list[Lines] = []
        clock, known = Clock(), details or {}
        for i, item in enumerate(self.items):
            if isinstance(item, Quoted):
                self._lines.append(self._quoted(item, clock))
            elif isinstance(item, Gap):
                self._lines.append(material.rendered.get(item) or self._kept(item, self._gap(item)))
            else:
                detail = self._details[i] = known.get(_key(item), Detail.BARE)
                self._lines.append(self._outline(item, detail))

    def with_units(self, more: Sequence[int]) -> _Page:
        """The same page with more units on it."""
        units, taken = self._material.units, sorted([*self.taken, *more])
        indexes = {quote.index for i in more for quote in units[i].quotes}
        beside = [units[j] for j in taken if any(quote.index in indexes for quote in units[j].quotes)]
        again = {index: quoted for index, quoted in shown_by(beside, self._material.turns).items() if index in indexes}
        details = {_key(self.items[i]): detail for i, detail in self._details.items()}
        return _Page(self._material, taken, details, {**self._shown, **again})

    def text(self) -> str:
        return "".join([PREFACE + "\n", *(lines.text for lines in self._lines)])

    def tokens(self) -> int:
        return self._material.count(PREFACE + "\n") + sum(lines.tokens for lines in self._lines)

    def outline_tokens(self) -> int:
        return sum(self._lines[i].tokens for i in self._details)

    def _kept(self, key: object, text: str, said: str = "") -> Lines:
        lines = self._material.rendered[key] = Lines(text, said, self._material.count(text))
        return lines

    def _quoted(self, item: Quoted, clock: Clock) -> Lines:
        key = (item.turn.index, item.stretches, clock.said)
        lines = self._material.rendered.get(key)
        if lines is None:
            text = quoted_text(item, clock)
            lines = self._kept(key, text, clock.said)
        clock.said = lines.said
        return lines

    def _outline(self, item: Folded | Opened, detail: Detail) -> Lines:
        key = (*_key(item), item.depth, detail)
        return self._material.rendered.get(key) or self._kept(key, self._outlined(item, detail))

    def _gap(self, item: Gap) -> str:
        return gap_line(item, self._material.checks.get(item.last, ""))

    def _outlined(self, item: Folded | Opened, detail: Detail) -> str:
        if isinstance(item, Folded):
            check = self._material.checks.get(item.last, "")
            return folded_lines(item, detail, self._material.summary_of, self._material.kinds, check)
        return opened_line(item, detail, self._material.summary_of, self._material.kinds)

    def enrich(self, budget: int, tokens: int, most: Detail = Detail.HIGHLIGHTS) -> int:
        """Lets the outline say more, up to `most`, while its share and the budget allow; gives the exact count then."""
        cap = round(budget * self._material.outline_share)
        spent = self.outline_tokens()
        for i, detail in self._wishes(most):
            least = LINE_TOKENS_MIN if detail > Detail.TITLES else 1
            if spent + least > cap or tokens + least > budget:
                continue  # rendered and counted for nothing
            lines = self._outline(self._outline_item(i), detail)
            more = lines.tokens - self._lines[i].tokens
            if spent + more > cap or tokens + more > budget or detail < self._details[i]:
                continue
            self._details[i], self._lines[i] = detail, lines
            spent, tokens = spent + more, tokens + more
        counted = self._material.count(self.text())
        while counted > budget:  # parts counted alone may sum up to less than the whole
            i = max(self._details, key=lambda i: self._details[i])
            self._details[i] = Detail(self._details[i] - 1)
            self._lines[i] = self._outline(self._outline_item(i), self._details[i])
            counted = self._material.count(self.text())
        return counted

    def _outline_item(self, i: int) -> Folded | Opened:
        item = self.items[i]
        assert isinstance(item, (Folded, Opened))
        return item

    def _wishes(self, most: Detail) -> list[tuple[int, Detail]]:
        """What the outline would like to say, most wanted first."""
        folded = [i for i, item in enumerate(self.items) if isinstance(item, Folded)]
        opened = [i for i, item in enumerate(self.items) if isinstance(item, Opened)]
        by_size = sorted(folded, key=lambda i: -self._tokens_of(i))
        leaves_first = sorted(opened, key=lambda i: self._level_of(i))
        wishes = [
            *((i, Detail.TITLES) for i in leaves_first if self._level_of(i) == 0),
            *((i, Detail.TITLES) for i in by_size),
            *((i, Detail.HIGHLIGHTS) for i in self._details if self._tells(i)),
            *((i, Detail.TITLES) for i in leaves_first if self._level_of(i) > 0),
            *((i, Detail.LINES) for i in by_size),
            *((i, Detail.HIGHLIGHTS) for i in by_size if not self._material.kinds),
        ]
        return [(i, detail) for i, detail in wishes if detail <= most]

    def _tells(self, i: int) -> bool:
        """Whether an item has something to tell of what is asked for."""
        item, kinds = self.items[i], self._material.kinds
        if not kinds or (isinstance(item, Opened) and item.node.level):
            return False
        nodes = item.nodes if isinstance(item, Folded) else (item.node,) if isinstance(item, Opened) else ()
        return any(h.kind in kinds for node in nodes for h in self._material.summary_of(node).highlights)

    def _tokens_of(self, i: int) -> int:
        item = self.items[i]
        return item.tokens if isinstance(item, Folded) else 0

    def _level_of(self, i: int) -> int:
        item = self.items[i]
        return item.node.level if isinstance(item, Opened) else 0


def _key(item: Item) -> _Key:
    if isinstance(item, Opened):
        return "opened", item.node.first, item.node.last
    if isinstance(item, Quoted):
        return "quoted", item.turn.index, item.turn.index
    return "folded", item.first, item.last


def shown_by(units: Sequence[Unit], turns: Mapping[int, Turn]) -> dict[int, Quoted]:
    """The quotes of these units, by turn."""
    stretches: dict[int, list[Stretch]] = {}
    for unit in units:
        for quote in unit.quotes:
            stretches.setdefault(quote.index, []).append(quote.stretch)
    return {index: Quoted(turns[index], joined(found), len(turns[index].content)) for index, found in stretches.items()}
