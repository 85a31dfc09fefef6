"""The stable layout: first a prefix that a provider's prompt cache can keep, last what this query needs. Pure.

    [n0-139-519 48k] Title          the closed inner nodes without a parent, one by one; each is rendered identically
      t50 assistant decision: ...   for as long as it has no parent
    [t140-186 user] ...             then each later turn, verbatim
    ────────────────────────────    end of the stable prefix
    [… opened for this query]
    [t51-673 user] ...

Each part of the prefix depends on the turns that it covers and on the budget, never on later turns. So an append adds
to the end, closing a leaf changes nothing, and closing an inner node collapses its turns to one line: the prefix
changes from that node on, and not before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ctxmem_mcp.models import Node
from ctxmem_mcp.views.layout import Collapsed, Gap, Quote
from ctxmem_mcp.views.render import (
    PREFACE,
    Detail,
    SummaryOf,
    TimestampPrinter,
    collapsed_lines,
    gap_line,
    highlight_line,
    node_lines,
    quote_text,
)

# Shares of the budget: for the collapsed history, for the later turns, and for each of these turns.
HISTORY_SHARE, TURNS_SHARE, TURN_SHARE = 0.3, 0.5, 0.15
# There are up to seven roots per level; four levels cover about ten thousand turns. More roots get less detail.
ROOTS_PLANNED = 28
QUERY_MARKER = "[… opened for this query]\n"


@dataclass(frozen=True, slots=True)
class StablePrefix:
    """The stable prefix of a view.

    Attributes:
        text: The text.
        next_turn: Index of the first turn that the prefix does not cover.
        whole: Indexes of the turns that it shows whole.
    """

    text: str
    next_turn: int
    whole: frozenset[int]

    @property
    def sha256(self) -> str:
        """The hash of the text, in hexadecimal, as reported in the view's header."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def turn_allowance(token_budget: int) -> int:
    """Returns the maximum tokens of one turn in the prefix; of a longer turn the prefix has excerpts."""
    return round(token_budget * TURN_SHARE)


def build_prefix(
    roots: Sequence[Node],
    turns: Iterable[Quote],
    summary_of: SummaryOf,
    token_budget: int,
    count: Callable[[str], int],
    check: str = "",
) -> StablePrefix:
    """Builds the stable prefix.

    Args:
        roots: The closed inner nodes without a parent, in order.
        turns: The turns that follow them, in order.
        summary_of: Returns the summary of a node.
        token_budget: Tokens of the whole view.
        count: Counts tokens.
        check: Check digits of the last turn of the roots. They make the text independent of the head's branch.
    """
    history = _history(roots, summary_of, token_budget, count, check)
    timestamps, left = TimestampPrinter(), round(token_budget * TURNS_SHARE)
    parts, whole = [PREFACE + "\n", history], set[int]()
    next_turn = roots[-1].last + 1 if roots else 0
    for quote in turns:
        text = quote_text(quote, timestamps)
        left -= count(text)
        if left < 0:
            break
        parts.append(text)
        next_turn = quote.turn.index + 1
        if quote.whole:
            whole.add(quote.turn.index)
    return StablePrefix("".join(parts), next_turn, frozenset(whole))


def _history(
    roots: Sequence[Node], summary_of: SummaryOf, token_budget: int, count: Callable[[str], int], check: str
) -> str:
    share = round(token_budget * HISTORY_SHARE)
    lines = "".join(_root_lines(node, summary_of, share // ROOTS_PLANNED, count) for node in roots)
    if roots and count(lines) > share:
        return collapsed_lines(Collapsed(tuple(roots), 0), Detail.BARE, summary_of, check=check)
    return lines


def _root_lines(node: Node, summary_of: SummaryOf, allowance: int, count: Callable[[str], int]) -> str:
    """A root's line and as many of its highlights as fit into its allowance."""
    text = node_lines(node, Detail.LINES, "", summary_of)
    if count(text) > allowance:
        return node_lines(node, Detail.BARE, "", summary_of)
    for highlight in summary_of(node).highlights:
        longer = f"{text} {highlight_line(highlight)}\n"
        if count(longer) > allowance:
            break
        text = longer
    return text


def render_suffix(recent: Sequence[Quote], expanded: Sequence[Quote], gap: Gap | None, check: str = "") -> str:
    """Renders the part after the prefix.

    Prefix, gap and recent turns together cover each turn once. The expanded turns add detail to some of them.

    Args:
        recent: The newest turns that did not fit into the prefix.
        expanded: The turns to show for the query.
        gap: The turns between the prefix and the recent ones, if any.
        check: Check digits of the last turn of the gap, if the range needs them.
    """
    timestamps, parts = TimestampPrinter(), list[str]()
    if gap is not None:
        parts.append(gap_line(gap, check))
    parts += [quote_text(quote, timestamps) for quote in recent]
    if expanded:
        parts.append(QUERY_MARKER)
        parts += [quote_text(quote, timestamps) for quote in expanded]
    return "".join(parts)
