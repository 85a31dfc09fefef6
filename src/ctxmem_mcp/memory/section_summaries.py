"""The sections of a branch with their summaries, as fine as can be read in a moment."""

from __future__ import annotations

from ctxmem_mcp.memory.branch_reader import BranchReader, outline_nodes, with_expanded
from ctxmem_mcp.models import Node, Summary
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.views.layout import TreeSnapshot, tile

# About the leaves of half a million tokens; in a longer conversation, parents take the place of the smaller leaves.
SECTIONS_READ_MAX = 400


async def load_sections(
    branch: BranchReader, snapshot: TreeSnapshot, summarizer: Summarizer
) -> list[tuple[Node, Summary]]:
    """Returns the sections in order; the open tail is the last (its node has no digest)."""
    snapshot = await with_expanded(branch, snapshot, tile(snapshot, {}), SECTIONS_READ_MAX)
    nodes = outline_nodes(tile(snapshot, {}))
    # An expanded inner node precedes its children, which cover it.
    nodes = [node for node in nodes if node.digest not in snapshot.expanded]
    known = await branch.summaries(nodes)
    sections = [(node, known[node.digest]) for node in nodes if node.digest in known]
    return [*sections, *await _tail(branch, snapshot, summarizer)]


async def _tail(branch: BranchReader, snapshot: TreeSnapshot, summarizer: Summarizer) -> list[tuple[Node, Summary]]:
    """Summarises the open tail, which has no node and no stored summary yet."""
    if snapshot.tail_first >= snapshot.length:
        return []
    turns = await branch.turns(range(snapshot.tail_first, snapshot.length))
    tail = Node(b"", 0, snapshot.tail_first, snapshot.length - 1, 0, 0)
    return [(tail, summarizer.summarize_leaf([turns[index] for index in sorted(turns)]))]
