"""The tree of one branch as nested outline nodes, for whoever draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.edge_loader import load_spine
from ctxmem_mcp.models import Node, OutlineNode, Summary
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.summarizers.base import Summarizer


async def load_descendants(
    store: Store, conversation: str, roots: Sequence[Node], depth: int | None = None
) -> dict[bytes, Node]:
    """Every node from these roots down to `depth` levels under them, by digest; one read a level."""
    found = {node.digest: node for node in roots}
    level, steps = list(roots), 0
    while (wanted := [digest for node in level for digest in node.children]) and (depth is None or steps < depth):
        read = await store.nodes(conversation, wanted)
        found |= read
        level, steps = list(read.values()), steps + 1
    return found


async def outline(branch: BranchReader, summarizer: Summarizer, depth: int | None) -> list[OutlineNode]:
    """The closed nodes without a parent, each with what is under it, then the open tail."""
    spine = await load_spine(branch.store, branch.state, branch.lineage)
    roots = [node for level in reversed(spine) for node in level]
    nodes = await load_descendants(branch.store, branch.id, roots, depth)
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
