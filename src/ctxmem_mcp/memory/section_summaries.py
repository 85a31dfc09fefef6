"""A branch as its sections: as fine as it can be read in a moment, each with what its summary says."""

from __future__ import annotations

from ctxmem_mcp.memory.branch_reader import Branch, outline_nodes, unfolded
from ctxmem_mcp.models import Node, Summary
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.views.layout import Ground, tile

# Leaves of a conversation of some half a million tokens; of a longer one the smaller parts are read as their parents.
SECTIONS_READ_MAX = 400


async def sections_of(branch: Branch, ground: Ground, summarizer: Summarizer) -> list[tuple[Node, Summary]]:
    """The sections in order, the open tail as the last one (its node has no digest)."""
    ground = await unfolded(branch, ground, tile(ground, {}), SECTIONS_READ_MAX)
    nodes = outline_nodes(tile(ground, {}))
    # An opened inner node stands before its children, which say it all.
    nodes = [node for node in nodes if node.digest not in ground.unfolded]
    known = await branch.summaries(nodes)
    sections = [(node, known[node.digest]) for node in nodes if node.digest in known]
    return [*sections, *await _tail(branch, ground, summarizer)]


async def _tail(branch: Branch, ground: Ground, summarizer: Summarizer) -> list[tuple[Node, Summary]]:
    """No node holds the open tail yet, and no summary is kept of it."""
    if ground.tail_first >= ground.length:
        return []
    turns = await branch.turns(range(ground.tail_first, ground.length))
    tail = Node(b"", 0, ground.tail_first, ground.length - 1, 0, 0)
    return [(tail, summarizer.leaf([turns[index] for index in sorted(turns)]))]
