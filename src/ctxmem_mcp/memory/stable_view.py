"""Builds views in the stable layout: reads what the prefix shows, then spends the rest of the budget on the query."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from ctxmem_mcp.errors import BudgetTooSmall
from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.recent import newest_within
from ctxmem_mcp.models import EMPTY_SUMMARY, Node, Piece, Summary, Turn
from ctxmem_mcp.results import View
from ctxmem_mcp.views.budget import TURN_HEADER_TOKENS
from ctxmem_mcp.views.excerpt_groups import ExcerptGroup, clip, quotes_by_turn
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

# If the prefix has no room for the newest turns, they get this share of the rest.
RECENT_SHARE = 0.5
# The header may take a few tokens more than were reserved for it.
HEADER_SLACK = 16


async def stable_view(
    branch: BranchReader,
    snapshot: TreeSnapshot,
    header: ViewHeader,
    groups: Sequence[ExcerptGroup],
    count: Callable[[str], int],
    omitted: Collection[int] = (),
) -> View:
    """Builds the view.

    Args:
        branch: The branch.
        snapshot: Its tree.
        header: The header.
        groups: Excerpts for the query, best first; empty without a query.
        count: Counts tokens.
        omitted: Indexes of turns that are not quoted; each is a line that gives its id.

    Raises:
        BudgetTooSmall: No view fits the budget.
    """
    budget = header.token_budget
    prefix = await _prefix(branch, snapshot, _prefix_budget(header, count), count, omitted)
    stable: dict[str, str | int] = {"stable_prefix_sha256": prefix.sha256, "stable_prefix_chars": len(prefix.text)}
    header = replace(header, extra={**header.extra, **stable})
    room = budget - header.cost(count) - HEADER_SLACK - count(prefix.text)
    if room < 0:
        raise BudgetTooSmall(budget, budget - room)
    suffix = await ViewSuffix.read(branch, prefix, groups, room, omitted)
    while True:
        view = with_header(header, prefix.text + suffix.text(), count)
        if view.shown_tokens <= budget:
            return view
        if not suffix.shorten(view.shown_tokens - budget):
            raise BudgetTooSmall(budget, view.shown_tokens)


def _prefix_budget(header: ViewHeader, count: Callable[[str], int]) -> int:
    """Returns the budget that the prefix takes its shares of: all of a large one, less of one that must hold the header
    too. It depends on nothing that an append changes."""
    longest = ViewHeader(
        header.conversation_id, "t9999999-999999999999", 9_999_999, 999_999_999, header.token_budget,
        header.encoding, extra={"stable_prefix_sha256": "0f" * 32, "stable_prefix_chars": 9_999_999},
    )  # fmt: skip
    left = header.token_budget - longest.cost(count) - HEADER_SLACK - count(PREFACE + "\n") - HEADER_SLACK
    return max(0, min(header.token_budget, round(left / (HISTORY_SHARE + TURNS_SHARE))))


async def _prefix(
    branch: BranchReader,
    snapshot: TreeSnapshot,
    token_budget: int,
    count: Callable[[str], int],
    omitted: Collection[int],
) -> StablePrefix:
    roots = [node for node in snapshot.roots if node.level]
    first = roots[-1].last + 1 if roots else 0
    bare = await branch.metadata(first, snapshot.length - 1)
    allowance = turn_allowance(token_budget)
    bare = _first_turns(bare, allowance, token_budget, omitted)
    turns = await branch.turns([turn.index for turn in bare if turn.index not in omitted])
    long = [turn.seq for turn in bare if turn.tokens > allowance and turn.index not in omitted]
    pieces = await branch.pieces_of(long)
    summaries = await branch.first_summaries(roots)  # a better one added later would change the prefix

    def summary_of(node: Node) -> Summary:
        return summaries.get(node.digest, EMPTY_SUMMARY)

    shown = [
        Quote(turn, (), 0)
        if turn.index in omitted
        else whole_or_ends(turns[turn.index], pieces.get(turn.seq), allowance)
        for turn in bare
    ]
    ends = await branch.metadata(first - 1, first - 1)
    return build_prefix(roots, shown, summary_of, token_budget, count, ends[0].check if ends else "")


def _first_turns(bare: Sequence[Turn], allowance: int, token_budget: int, omitted: Collection[int]) -> list[Turn]:
    """Returns the first of these turns, one more than the prefix can hold."""
    first: list[Turn] = []
    for turn in bare:
        first.append(turn)
        token_budget -= 0 if turn.index in omitted else min(turn.tokens, allowance)
        if token_budget < 0:
            break
    return first


def whole_or_ends(turn: Turn, pieces: Sequence[Piece] | None, allowance: int) -> Quote:
    """Quotes the turn in full, or the first and last chunks of a long one."""
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
class ViewSuffix:
    """What follows the prefix. It is shortened by the worst excerpts first, then by the oldest recent turns.

    Attributes:
        recent: the last turns, if they are not in the prefix.
        groups: excerpts for the query, best first.
        turns: those of both, by index.
        after_prefix: all turns after the prefix, with empty content.
        on_head: this is the head's branch, on which a span needs no check digits.
    """

    recent: list[Quote]
    groups: list[ExcerptGroup]
    turns: dict[int, Turn]
    after_prefix: list[Turn]
    on_head: bool

    @classmethod
    async def read(
        cls,
        branch: BranchReader,
        prefix: StablePrefix,
        candidates: Sequence[ExcerptGroup],
        room: int,
        omitted: Collection[int],
    ) -> ViewSuffix:
        bare = await branch.metadata(prefix.next_turn, branch.lineage.length - 1)

        def cost_of(turn: Turn) -> int:
            return TURN_HEADER_TOKENS if turn.index in omitted else _cost(turn)

        recent = newest_within(bare, round(room * RECENT_SHARE), cost_of)
        left = room - sum(map(cost_of, recent))
        shown = prefix.whole | {turn.index for turn in recent} | set(omitted)
        groups: list[ExcerptGroup] = []
        for group in candidates:
            cost = group.tokens + TURN_HEADER_TOKENS
            if cost <= left and not any(quote.index in shown for quote in group.excerpts):
                left -= cost
                groups.append(group)
        quotable = [turn.index for turn in recent if turn.index not in omitted]
        turns = await branch.turns(quotable + [q.index for group in groups for q in group.excerpts])
        quoted = [Quote.all_of(turns[t.index]) if t.index not in omitted else Quote(t, (), 0) for t in recent]
        return cls(quoted, groups, turns, bare, branch.on_head)

    def text(self) -> str:
        by_turn = quotes_by_turn([clip(group, self.turns) for group in self.groups], self.turns)
        excerpts = [by_turn[index] for index in sorted(by_turn)]
        hidden = self.after_prefix[: len(self.after_prefix) - len(self.recent)]
        gap = Gap(hidden[0].index, hidden[-1].index, sum(turn.tokens for turn in hidden)) if hidden else None
        check = hidden[-1].check if hidden and not self.on_head else ""
        return render_suffix(self.recent, excerpts, gap, check)

    def shorten(self, excess: int) -> bool:
        """Drops about this many tokens; returns False if nothing was left to drop."""
        had = bool(self.groups or self.recent)
        while excess > 0 and self.groups:
            excess -= self.groups.pop().tokens
        while excess > 0 and self.recent:
            excess -= self.recent.pop(0).turn.tokens
        return had
