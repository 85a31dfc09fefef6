"""A branch as its sections: as fine as it can be read in a moment, each with what its summary says."""

from __future__ import annotations

from ctxmem_mcp.memory.branch_reader import BranchReader, outline_nodes, with_expanded
from ctxmem_mcp.models import Node, Summary
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.views.layout import TreeSnapshot, tile

# Leaves of a conversation of some half a million tokens; of a longer one the smaller parts are read as their parents.
SECTIONS_READ_MAX = 400


async def sections_of(
    branch: BranchReader, snapshot: TreeSnapshot, summarizer: Summarizer
) -> list[tuple[Node, Summary]]:
    """The sections in order, the open tail as the last one (its node has no digest)."""
    snapshot = await with_expanded(branch, snapshot, tile(snapshot, {}), SECTIONS_READ_MAX)
    nodes = outline_nodes(tile(snapshot, {}))
    # An opened inner node stands before its children, which say it all.
    nodes = [node for node in nodes if node.digest not in snapshot.expanded]
    known = await branch.summaries(nodes)
    sections = [(node, known[node.digest]) for node in nodes if node.digest in known]
    return [*sections, *await _tail(branch, snapshot, summarizer)]


async def _tail(branch: BranchReader, snapshot: TreeSnapshot, summarizer: Summarizer) -> list[tuple[Node, Summary]]:
    """No node holds the open tail yet, and no summary is kept of it."""
    if snapshot.tail_first >= snapshot.length:
        return []
    turns = await branch.turns(range(snapshot.tail_first, snapshot.length))
    tail = Node(b"", 0, snapshot.tail_first, snapshot.length - 1, 0, 0)
    return [(tail, summarizer.summarize_leaf([turns[index] for index in sorted(turns)]))]
