"""Continues a stable view: a text about the turns since it was drawn, to be added to it.

    Recorded history, quoted. ...
    [… t140-t144 310]              turns of a leaf that the view has begun
    [n145-160-719 2900] Title      each leaf that has closed since, with highlights
     t150 assistant decision: ...
    [… t161-t170 900]              turns of no closed leaf
    [t171-186 assistant] ...       the newest of them, verbatim
    [… opened for this query]
    [t152-673 user] ...

With the view that it continues it accounts for every turn once; the quotes for the query add detail. It depends on
nothing that comes later, so it stays the same while the history grows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, with_paths_to
from ctxmem_mcp.memory.excerpts import excerpt_group
from ctxmem_mcp.memory.retrieve import rank_branch
from ctxmem_mcp.memory.stable_view import ViewSuffix
from ctxmem_mcp.memory.view import by_value_per_token
from ctxmem_mcp.models import EMPTY_SUMMARY, Node, Summary
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.layout import Gap
from ctxmem_mcp.views.render import PREFACE, Detail, gap_line, highlight_line, node_lines
from ctxmem_mcp.views.stable_prefix import StablePrefix

# The outline's share of the budget.
OUTLINE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class ContinuationRequest:
    """The arguments of a continuation.

    Attributes:
        first: index of the first turn after the view.
        query: what the reader wants to know, if anything.
        token_budget: the most that the text takes.
        omitted: indexes of turns that are not quoted.
        looks_back: turns before `first` may be quoted for the query.
    """

    first: int
    query: str | None
    token_budget: int
    omitted: frozenset[int] = frozenset()
    looks_back: bool = False


async def continue_view(branch: BranchReader, request: ContinuationRequest) -> str:
    """Returns the text. If the budget is too small for a line about every leaf, one line names all turns."""
    count = tokenizer.CachedCounter(branch.state.encoding)
    outline = await _outline(branch, request, count)
    room = request.token_budget - count(outline.text)
    groups = []
    if request.query and request.query.strip():
        ranking = await rank_branch(branch, request.query)
        oldest = 0 if request.looks_back else request.first
        ranked = by_value_per_token(ranking, request.token_budget)
        groups = [excerpt_group(found) for found in ranked if found.piece.index >= oldest]
    suffix = await ViewSuffix.read(branch, outline, groups, room, request.omitted)
    while True:
        text = outline.text + suffix.text()
        excess = count(text) - request.token_budget
        if excess <= 0 or not suffix.shorten(excess):
            return text


async def _outline(branch: BranchReader, request: ContinuationRequest, count: Callable[[str], int]) -> StablePrefix:
    """Returns a line for the rest of the leaf that the view has begun, and the leaves that have closed since."""
    first, last = request.first, branch.lineage.length - 1
    snapshot = await with_paths_to(branch, await load_snapshot(branch), range(first, last + 1))
    nodes = {node.digest: node for node in (*snapshot.roots, *snapshot.nodes.values())}
    leaves = sorted(
        (node for node in nodes.values() if node.level == 0 and node.last >= first), key=lambda node: node.first
    )
    summaries = await branch.first_summaries(leaves)  # a better one added later would change the text
    allowance = round(request.token_budget * OUTLINE_SHARE) // max(1, len(leaves))
    lines = [PREFACE + "\n"]
    for leaf in leaves:
        line = await _begun(branch, leaf, first) if leaf.first < first else ""
        lines.append(_leaf_lines(leaf, line, first, summaries.get(leaf.digest, EMPTY_SUMMARY), allowance, count))
    next_turn = leaves[-1].last + 1 if leaves else first
    text = "".join(lines)
    if count(text) > request.token_budget:
        return StablePrefix(PREFACE + "\n", first, frozenset())
    return StablePrefix(text, next_turn, frozenset())


async def _begun(branch: BranchReader, leaf: Node, first: int) -> str:
    """Returns the line of those turns of a leaf that the view does not cover."""
    turns = await branch.metadata(first, leaf.last)
    check = "" if branch.on_head else turns[-1].check
    return gap_line(Gap(first, leaf.last, sum(turn.tokens for turn in turns)), check)


def _leaf_lines(
    leaf: Node, line: str, first: int, summary: Summary, allowance: int, count: Callable[[str], int]
) -> str:
    """Returns a leaf's line and as many highlights of its turns from `first` on as fit into its allowance."""
    text = line or node_lines(leaf, Detail.LINES, "", lambda _: summary)
    if not line and count(text) > allowance:
        return node_lines(leaf, Detail.BARE, "", lambda _: summary)
    for highlight in summary.highlights:
        if highlight.index < first:
            continue
        longer = f"{text} {highlight_line(highlight)}\n"
        if count(longer) > allowance:
            break
        text = longer
    return text
