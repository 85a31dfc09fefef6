"""The stable layout: what a provider's prompt cache can keep comes first, what this query wants comes last. Pure.

    [n0-139-519 48k] Title          closed nodes that have children below them, one by one: each said in the same words
      t50 assistant decision: ...   for as long as it is a root
    [t140-186 user] ...             then every turn since, as it was said
    ────────────────────────────    the stable prefix ends here
    [… opened for this query]
    [t51-673 user] ...

Each part of the prefix depends on what it stands for and on the budget, never on what came after it. So an append
adds to the end, a closed leaf changes nothing at all, and a closed inner node folds the turns under it into one line:
the prefix changes from that node on, and only there.
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

# Of the budget: for collapsed history, for turns since then, and for one of these turns.
HISTORY_SHARE, TURNS_SHARE, TURN_SHARE = 0.3, 0.5, 0.15
# Up to seven roots stand on each level; four levels hold some ten thousand turns. More are said in fewer words.
ROOTS_PLANNED = 28
QUERY_MARKER = "[… opened for this query]\n"


@dataclass(frozen=True, slots=True)
class StablePrefix:
    """The stable beginning. until: the first turn that it doesn't show, though it comes after the collapsed history.

    whole: the turns shown whole in it.
    """

    text: str
    next_turn: int
    whole: frozenset[int]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def turn_allowance(token_budget: int) -> int:
    """The tokens that one turn may take in the prefix; a longer one stands there in excerpts."""
    return round(token_budget * TURN_SHARE)


def build_prefix(
    roots: Sequence[Node],
    turns: Iterable[Quote],
    summary_of: SummaryOf,
    token_budget: int,
    count: Callable[[str], int],
    check: str = "",
) -> StablePrefix:
    """roots: those with children, in order; turns: all that follow them, in order. check: digits of the roots' last
    turn: whichever branch the head is on when they are said again, the words are the same."""
    history = _history(roots, summary_of, token_budget, count, check)
    timestamps, left = TimestampPrinter(), round(token_budget * TURNS_SHARE)
    parts, whole = [PREFACE + "\n", history], set[int]()
    next_turn = roots[-1].last + 1 if roots else 0
    for quoted in turns:
        text = quote_text(quoted, timestamps)
        left -= count(text)
        if left < 0:
            break
        parts.append(text)
        next_turn = quoted.turn.index + 1
        if quoted.whole:
            whole.add(quoted.turn.index)
    return StablePrefix("".join(parts), next_turn, frozenset(whole))


def _history(
    roots: Sequence[Node], summary_of: SummaryOf, token_budget: int, count: Callable[[str], int], check: str
) -> str:
    share = round(token_budget * HISTORY_SHARE)
    lines = "".join(_root(node, summary_of, share // ROOTS_PLANNED, count) for node in roots)
    if roots and count(lines) > share:
        return collapsed_lines(Collapsed(tuple(roots), 0), Detail.BARE, summary_of, check=check)
    return lines


def _root(node: Node, summary_of: SummaryOf, allowance: int, count: Callable[[str], int]) -> str:
    """A root's line, and of its highlights as many as its allowance holds."""
    text = node_lines(node, Detail.LINES, "", summary_of)
    if count(text) > allowance:
        return node_lines(node, Detail.BARE, "", summary_of)
    for highlight in summary_of(node).highlights:
        more = f"{text} {highlight_line(highlight)}\n"
        if count(more) > allowance:
            break
        text = more
    return text


def render_suffix(recent: Sequence[Quote], opened: Sequence[Quote], skipped: Gap | None, check: str = "") -> str:
    """What follows the prefix: the newest turns that it had no room for, and what was opened for the query.

    skipped: the turns between the prefix and the newest ones. Prefix, gap and newest turns together tell of every turn
    once; what was opened says more of some of them. check: digits of the last turn skipped.
    """
    timestamps, parts = TimestampPrinter(), list[str]()
    if skipped is not None:
        parts.append(gap_line(skipped, check))
    parts += [quote_text(quoted, timestamps) for quoted in recent]
    if opened:
        parts.append(QUERY_MARKER)
        parts += [quote_text(quoted, timestamps) for quoted in opened]
    return "".join(parts)
