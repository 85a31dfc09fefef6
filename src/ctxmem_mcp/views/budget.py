"""Fits a view into its budget: which turns are quoted, and how detailed the outline is. Pure: no I/O, no ranking.

The budget is spent in this order: the lines that the tiling requires, the excerpts in the order of the ranking, more
detail in the outline (up to its share), then further excerpts; in a compact view, these before the detail. Excerpts are
selected by estimate. The whole text is counted exactly at the end, and the lowest-ranked excerpts are dropped until it
fits: a view never exceeds its budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ctxmem_mcp.models import Node
from ctxmem_mcp.views.excerpt_groups import ExcerptGroup
from ctxmem_mcp.views.layout import Item
from ctxmem_mcp.views.page_layout import FitInput, PageLayout
from ctxmem_mcp.views.render import Detail

# This share of the budget is set aside for the outline before excerpts are selected.
OUTLINE_SHARE_GRANTED = 0.1
# A compact view is laid out once less if the first selection fits: what is left of the budget is filled afterwards.
COMPACT_SHARE = 0.985
# Estimated tokens of the generated lines, for selecting excerpts. The exact count follows.
TURN_HEADER_TOKENS = 9
GAP_TOKENS = 9
# Estimated tokens of the line of an expanded leaf.
LEAF_LINE_TOKENS = 24
# Each attempt to fill the rest of the budget lays out the whole view again; the last hundredth is not worth it.
REFILLS_MAX = 4
REFILL_SHARE = 0.01


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


class Draft(NamedTuple):
    """A view whose quotes are chosen, and whose outline has no detail yet.

    Attributes:
        spec: What it was made of.
        layout: Its items.
        tokens: Their exact number.
    """

    spec: FitInput
    layout: PageLayout
    tokens: int


def fit(spec: FitInput, budget: int) -> FitResult | int:
    """Fits a view into a budget.

    Args:
        spec: The tree, the excerpts and the summaries.
        budget: Tokens, not counting the header line.

    Returns:
        The view, or the smallest budget that fits any view of this branch.
    """
    draft = fit_quotes(spec, budget)
    return fit_outline(draft, budget) if isinstance(draft, Draft) else draft


def fit_quotes(spec: FitInput, budget: int) -> Draft | FitResult | int:
    """Chooses the quotes of a view; of a compact one, without reading a summary.

    Returns:
        A draft for `fit_outline`; a view without quotes, or the smallest budget that fits one.
    """
    open_budget = round(budget * (COMPACT_SHARE if spec.compact else 1 - OUTLINE_SHARE_GRANTED))
    taken = greedy_fit(spec.groups[: spec.leading], spec.leaf_first, open_budget)
    if not spec.kinds and not spec.compact and PageLayout(spec, taken).outline_tokens() > budget - open_budget:
        # The excerpts are so far apart that the outline down to each would displace others.
        spec = replace(spec, merge_neighbours=True)
    while True:
        layout = PageLayout(spec, taken)
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
    return Draft(spec, layout, tokens)


def fit_outline(draft: Draft, budget: int) -> FitResult:
    """Adds as much detail to a view's outline as fits, and quotes in the room that is left.

    Not in a compact view: a quote between the turns of a line would split it into two whose titles were not read.
    """
    spec, layout, tokens = draft
    tokens = layout.add_outline_detail(budget, tokens)
    if not spec.compact:
        layout, tokens = _fill_remaining(layout, spec, budget, tokens)
    return FitResult(layout.text(), layout.items, tokens, layout.taken)


def _fill_remaining(layout: PageLayout, spec: FitInput, budget: int, tokens: int) -> tuple[PageLayout, int]:
    """Adds further excerpts while they fit. Repeated, because the remaining budget usually exceeds the estimate."""
    for _ in range(REFILLS_MAX):
        extended, counted = _fill_once(layout, spec, budget, tokens)
        if extended is layout:
            break
        layout, tokens = extended, counted
    return layout, tokens


def _fill_once(layout: PageLayout, spec: FitInput, budget: int, tokens: int) -> tuple[PageLayout, int]:
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
    layout = PageLayout(replace(spec, snapshot=coarse, groups=(), tile_cache={}, omitted_cache={}), [])
    smallest = spec.count(layout.text())
    return smallest if smallest > budget else FitResult(layout.text(), layout.items, smallest)


def _drop_last(spec: FitInput, taken: list[int], excess: int) -> list[int]:
    """Drops the lowest-ranked groups of about `excess` tokens in total, at least one."""
    remaining = list(taken)
    while remaining and excess > 0:
        excess -= spec.groups[remaining.pop()].tokens + TURN_HEADER_TOKENS
    return remaining
