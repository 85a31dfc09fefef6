"""The tree of a branch as nested outline nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.edge_loader import load_spine
from ctxmem_mcp.models import Node, Summary
from ctxmem_mcp.results import OutlineNode
from ctxmem_mcp.summarizers.base import Summarizer


async def _load_descendants(branch: BranchReader, roots: Sequence[Node], depth: int | None) -> dict[bytes, Node]:
    """Reads these nodes and those down to `depth` levels below them (None: all), by digest; one read per level."""
    found = {node.digest: node for node in roots}
    level, steps = list(roots), 0
    while (digests := [digest for node in level for digest in node.children]) and (depth is None or steps < depth):
        read = await branch.store.nodes(branch.id, digests)
        found |= read
        level, steps = list(read.values()), steps + 1
    return found


async def outline(branch: BranchReader, summarizer: Summarizer, depth: int | None) -> list[OutlineNode]:
    """Returns the closed nodes without a parent, each with its descendants, then the open tail.

    Args:
        branch: The branch.
        summarizer: Summarises the open tail, which has no stored summary.
        depth: How many levels below the topmost nodes to include; None for all.
    """
    spine = await load_spine(branch.store, branch.state, branch.lineage)
    roots = [node for level in reversed(spine) for node in level]
    nodes = await _load_descendants(branch, roots, depth)
    summaries = await branch.summaries(nodes.values())
    found = [_outline_node(node, nodes, summaries) for node in roots]
    first = roots[-1].last + 1 if roots else 0
    tail = await branch.store.turns(branch.id, branch.lineage.seqs(first, branch.lineage.length))
    if tail:
        tokens = sum(turn.tokens for turn in tail)
        found.append(OutlineNode(None, 0, first, tail[-1].index, tokens, summarizer.summarize_leaf(tail)))
    return found


def _outline_node(node: Node, nodes: Mapping[bytes, Node], summaries: Mapping[bytes, Summary]) -> OutlineNode:
    children = tuple(_outline_node(nodes[d], nodes, summaries) for d in node.children if d in nodes)
    summary = summaries[node.digest]
    return OutlineNode(node.id, node.level, node.first, node.last, node.tokens, summary, children)
