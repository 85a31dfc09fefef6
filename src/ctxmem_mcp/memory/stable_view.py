"""Views in the stable layout: reads what stands in the prefix, then fills what is left with what the query wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ctxmem_mcp.errors import BudgetTooSmall
from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.recent import newest_within
from ctxmem_mcp.models import EMPTY_SUMMARY, Node, Piece, Summary, Turn, View
from ctxmem_mcp.views.budget import TURN_HEADER_TOKENS, ExcerptGroup, clip, quotes_by_turn
from ctxmem_mcp.views.header import ViewHeader, with_header
from ctxmem_mcp.views.layout import CharSpan, Gap, Quote, TreeSnapshot, join_spans
from ctxmem_mcp.views.render import PREFACE
from ctxmem_mcp.views.stable_prefix import (
    HISTORY_SHARE,
    TURNS_SHARE,
    StablePrefix,
    build_prefix,
    render_suffix,
    turn_allowance,
)

# Where the prefix has no room for the newest turns, they take this share of what is left.
RECENT_SHARE = 0.5
# A line of the header may count a few tokens more than it was reserved.
HEADER_SLACK = 16


async def stable_view(
    branch: BranchReader,
    snapshot: TreeSnapshot,
    heading: ViewHeader,
    wanted: Sequence[ExcerptGroup],
    count: Callable[[str], int],
) -> View:
    """wanted: what the query wants opened, best first (empty without a query)."""
    budget = heading.token_budget
    prefix = await _prefix(branch, snapshot, _for_prefix(heading, count), count)
    heading = replace(heading, extra={"stable_prefix_sha256": prefix.sha256, "stable_prefix_chars": len(prefix.text)})
    room = budget - heading.cost(count) - HEADER_SLACK - count(prefix.text)
    if room < 0:
        raise BudgetTooSmall(budget, budget - room)
    rest = await _Rest.read(branch, prefix, wanted, room)
    while True:
        view = with_header(heading, prefix.text + rest.text(), count)
        if view.shown_tokens <= budget:
            return view
        if not rest.shorten(view.shown_tokens - budget):
            raise BudgetTooSmall(budget, view.shown_tokens)


def _for_prefix(heading: ViewHeader, count: Callable[[str], int]) -> int:
    """The budget that the prefix takes its shares of: all of it, or so much less that a small one holds the line above
    as well. It depends on nothing that an append changes."""
    longest = ViewHeader(
        heading.conversation_id, "t9999999-999999999999", 9_999_999, 999_999_999, heading.token_budget,
        heading.encoding, extra={"stable_prefix_sha256": "0f" * 32, "stable_prefix_chars": 9_999_999},
    )  # fmt: skip
    left = heading.token_budget - longest.cost(count) - HEADER_SLACK - count(PREFACE + "\n") - HEADER_SLACK
    return max(0, min(heading.token_budget, round(left / (HISTORY_SHARE + TURNS_SHARE))))


async def _prefix(
    branch: BranchReader, snapshot: TreeSnapshot, token_budget: int, count: Callable[[str], int]
) -> StablePrefix:
    roots = [node for node in snapshot.roots if node.level]
    first = roots[-1].last + 1 if roots else 0
    bare = await branch.bare(first, snapshot.length - 1)
    allowance = turn_allowance(token_budget)
    bare = _as_far_as_needed(bare, allowance, token_budget)
    turns = await branch.turns([turn.index for turn in bare])
    long = [turn.seq for turn in bare if turn.tokens > allowance]
    pieces = await branch.store.pieces_of(branch.id, long)
    summaries = await branch.first_summaries(roots)  # a better one that joins would change what has been sent

    def summary_of(node: Node) -> Summary:
        return summaries.get(node.digest, EMPTY_SUMMARY)

    shown = [whole_or_ends(turns[turn.index], pieces.get(turn.seq), allowance) for turn in bare]
    ends = await branch.bare(first - 1, first - 1)
    return build_prefix(roots, shown, summary_of, token_budget, count, ends[0].check if ends else "")


def _as_far_as_needed(bare: Sequence[Turn], allowance: int, token_budget: int) -> list[Turn]:
    """The first of these turns, more than the prefix can hold."""
    kept: list[Turn] = []
    for turn in bare:
        kept.append(turn)
        token_budget -= min(turn.tokens, allowance)
        if token_budget < 0:
            break
    return kept


def whole_or_ends(turn: Turn, pieces: Sequence[Piece] | None, allowance: int) -> Quote:
    """The turn whole, or of a long one its first and last pieces."""
    if not pieces or turn.tokens <= allowance:
        return Quote.all_of(turn)
    taken, left = [], allowance
    order = [piece for pair in zip(pieces, reversed(pieces), strict=True) for piece in pair]
    for piece in dict.fromkeys(order):
        if piece.tokens > left:
            break
        left -= piece.tokens
        taken.append(CharSpan(piece.start, piece.stop, piece.tokens))
    first = CharSpan(pieces[0].start, min(pieces[0].stop, 4 * allowance), min(pieces[0].tokens, allowance))
    return Quote(turn, join_spans(taken or [first]), len(turn.content))


def _cost(turn: Turn) -> int:
    return turn.tokens + TURN_HEADER_TOKENS


@dataclass(slots=True)
class _Rest:
    """What follows the prefix, and how it gets shorter: first what is least wanted, then the oldest recent turns.

    on_head: it is the head's branch, where a span needs no digits.
    """

    recent: list[Quote]
    units: list[ExcerptGroup]
    turns: dict[int, Turn]
    after_prefix: list[Turn]
    on_head: bool

    @classmethod
    async def read(cls, branch: BranchReader, prefix: StablePrefix, wanted: Sequence[ExcerptGroup], room: int) -> _Rest:
        bare = await branch.bare(prefix.next_turn, branch.lineage.length - 1)
        recent = newest_within(bare, round(room * RECENT_SHARE), _cost)
        left = room - sum(map(_cost, recent))
        shown = prefix.whole | {turn.index for turn in recent}
        units: list[ExcerptGroup] = []
        for unit in wanted:
            cost = unit.tokens + TURN_HEADER_TOKENS
            if cost <= left and not any(quote.index in shown for quote in unit.excerpts):
                left -= cost
                units.append(unit)
        turns = await branch.turns([t.index for t in recent] + [q.index for unit in units for q in unit.excerpts])
        quoted = [whole_or_ends(turns[turn.index], None, turn.tokens) for turn in recent]
        return cls(quoted, units, turns, bare, branch.on_head)

    def text(self) -> str:
        by_turn = quotes_by_turn([clip(unit, self.turns) for unit in self.units], self.turns)
        opened = [by_turn[index] for index in sorted(by_turn)]
        hidden = self.after_prefix[: len(self.after_prefix) - len(self.recent)]
        skipped = Gap(hidden[0].index, hidden[-1].index, sum(turn.tokens for turn in hidden)) if hidden else None
        check = hidden[-1].check if hidden and not self.on_head else ""
        return render_suffix(self.recent, opened, skipped, check)

    def shorten(self, excess: int) -> bool:
        """Leaves out about so many tokens; False when nothing is left to leave out."""
        had = bool(self.units or self.recent)
        while excess > 0 and self.units:
            excess -= self.units.pop().tokens
        while excess > 0 and self.recent:
            excess -= self.recent.pop(0).turn.tokens
        return had
