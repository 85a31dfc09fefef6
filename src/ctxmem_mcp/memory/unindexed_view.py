"""The view of a branch whose last turns are not indexed yet: what is indexed as always, then the newest turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ctxmem_mcp.errors import BudgetTooSmall
from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.recent import newest_within
from ctxmem_mcp.memory.view import ViewRequest
from ctxmem_mcp.memory.view import view as view_indexed
from ctxmem_mcp.models import Turn
from ctxmem_mcp.results import View
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.header import ViewHeader, with_header
from ctxmem_mcp.views.layout import Gap, Quote
from ctxmem_mcp.views.render import PREFACE, TimestampPrinter, gap_line, quote_text

# The newest turns get this much of the budget, if something is indexed.
NEWEST_SHARE = 0.5
# A turn's header line, and the line of omitted turns.
LINE_TOKENS = 40


async def view(branch: BranchReader, unindexed: Sequence[int], summarizer: Summarizer, request: ViewRequest) -> View:
    """Builds the view. Its header states how many turns are not indexed, and every turn is in the text exactly once.

    Args:
        branch: The branch as far as it is indexed.
        unindexed: The seqs of the turns after that.
        summarizer: Summarises the open end of what is indexed.
        request: Its layout is ignored.

    Raises:
        BudgetTooSmall: Not even the lines for omitted turns fit the budget.
    """
    count = tokenizer.CachedCounter(branch.state.encoding)
    whole = replace(branch, lineage=Lineage.of(branch.state.runs, unindexed[-1]))
    length = branch.lineage.length
    bare = await whole.metadata(0, whole.lineage.length - 1)
    extra: dict[str, str | int | list[str] | None] = {"turns_not_indexed": len(unindexed)}
    if request.events_pending:
        extra["events_pending"] = request.events_pending
    header = ViewHeader(
        branch.id, bare[-1].id, len(bare), sum(turn.tokens for turn in bare), request.token_budget,
        branch.state.encoding, extra=extra,
    )  # fmt: skip
    room = request.token_budget - header.cost(count)
    check = "" if whole.on_head else bare[-1].check
    newest = await _newest(whole, bare[length:], room, check, bool(length), count)
    room -= count(newest)
    before = f"{PREFACE}\n"
    if length:
        try:
            indexed = replace(request, token_budget=room, layout="tree", request_summaries=False, events_pending=0)
            before = (await view_indexed(branch, summarizer, indexed)).text
        except BudgetTooSmall:
            before += _gap(bare[:length], "" if whole.on_head else bare[length - 1].check)
    if count(before) > room:
        raise BudgetTooSmall(request.token_budget, header.floor(count(before) + count(newest), count))
    return with_header(header, before + newest, count)


async def _newest(
    branch: BranchReader, bare: Sequence[Turn], room: int, check: str, is_shared: bool, count: Callable[[str], int]
) -> str:
    """Returns a line for the turns that are left out, and the newest turns, as many as fit."""
    budget = round(room * NEWEST_SHARE) if is_shared else room - count(f"{PREFACE}\n")
    fitting = newest_within(bare, budget - LINE_TOKENS, lambda turn: turn.tokens + LINE_TOKENS)
    turns = await branch.turns(turn.index for turn in fitting)
    while True:
        timestamps = TimestampPrinter()
        left_out = bare[: len(bare) - len(fitting)]
        last_check = left_out[-1].check if check and left_out else ""
        text = _gap(left_out, last_check) + "".join(
            quote_text(Quote.all_of(turns[turn.index]), timestamps) for turn in fitting
        )
        if not fitting or count(text) <= budget:
            return text
        fitting = fitting[1:]


def _gap(turns: Sequence[Turn], check: str) -> str:
    if not turns:
        return ""
    return gap_line(Gap(turns[0].index, turns[-1].index, sum(turn.tokens for turn in turns)), check)
