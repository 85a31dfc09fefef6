"""Reads from a store what growing and looking need: the edge of a branch, and how far a history is already known."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence

from ctxmem_mcp import tree
from ctxmem_mcp.errors import HeadMoved
from ctxmem_mcp.memory.branches import Lineage, children_of, run_end
from ctxmem_mcp.memory.commit_builder import BEFORE_TURNS, Edge, facts_of_turn
from ctxmem_mcp.models import Node, first_summary
from ctxmem_mcp.stores.base import State, Store

_DIGESTS_AT_ONCE = 5_000


async def load_spine(
    store: Store,
    state: State,
    lineage: Lineage,
    read: Callable[[Sequence[bytes]], Awaitable[dict[bytes, Node]]] | None = None,
) -> tuple[tuple[Node, ...], ...]:
    """The closed nodes without a parent when the lineage's last turn had arrived, per level.

    The head's are kept with the state; another turn's are read from what closed on the way to it. read: gives nodes,
    where they are not to be asked of the store.
    """
    if lineage.last_seq == state.head:
        kept = [[bytes.fromhex(digest) for digest in level] for level in json.loads(state.frontier)["spine"]]
        wanted = [digest for level in kept for digest in level]
        nodes = await (read(wanted) if read else store.nodes(state.conversation_id, wanted))
        _require(state, len(nodes) == len(wanted))
        return tuple(tuple(nodes[digest] for digest in level) for level in kept)
    closed: list[tuple[int, Node]] = []
    for first_seq, last_seq in lineage.ranges(0, lineage.length):
        closed += await store.closings(state.conversation_id, first_seq, last_seq)
    return tree.rebuild_spine(node for _, node in closed)


async def load_edge(store: Store, state: State, seq: int) -> Edge:
    """The edge of the branch that ends in turn `seq` (0: before the first turn)."""
    if not seq:
        return Edge()
    conversation, lineage = state.conversation_id, Lineage.of(state.runs, seq)
    spine = await load_spine(store, state, lineage)
    last_leaf = spine[0][-1] if spine else None
    leaf_first = last_leaf.last + 1 if last_leaf else 0
    seqs = lineage.seqs(last_leaf.first if last_leaf else 0, lineage.length)
    turns = await store.turns(conversation, seqs)
    _require(state, len(turns) == len(seqs) and turns[-1].index == lineage.length - 1)
    leaf = tuple(turn for turn in turns if turn.index >= leaf_first)
    earlier = tuple(turn for turn in turns if turn.index < leaf_first)
    stubs = tuple(facts_of_turn(turn) for turn in leaf)
    border = tree.boundary_before([facts_of_turn(turn) for turn in earlier], stubs[0])
    last_pieces = await store.pieces_of(conversation, [seq])
    _require(state, seq in last_pieces)
    frontier = tree.Frontier(stubs, spine, tree.BREAK if border is None else border, last_pieces[seq][-1].sitting)
    kept = await store.summaries(conversation, [node.digest for level in spine for node in level])
    _require(state, len(kept) == sum(map(len, spine)))
    summaries = {digest: first_summary(found) for digest, found in kept.items()}
    return Edge(seq, leaf[-1].digest, lineage.length, frontier, leaf, earlier[-BEFORE_TURNS:], summaries)


def _require(state: State, there: bool) -> None:
    """Nothing stored ever goes, unless the whole conversation does: what is not there now was forgotten since the
    state was read, and somebody may have begun it anew."""
    if not there:
        raise HeadMoved(state.conversation_id)


async def known_prefix(store: Store, state: State, after: int, digests: Sequence[bytes]) -> list[int]:
    """The seqs of the turns that follow `after` (0: from the beginning) with these digests, as far as they go."""
    found: list[int] = []
    at = after
    while len(found) < len(digests):
        step = await _matching_child(store, state, at, digests[len(found)])
        if step is None:
            break
        found.append(step)
        at = await _extend_along_run(store, state, step, digests, found)
    return found


async def _matching_child(store: Store, state: State, seq: int, digest: bytes) -> int | None:
    for child in children_of(state.runs, state.next_seq, seq):
        if await store.digests(state.conversation_id, child, child) == [digest]:
            return child
    return None


async def _extend_along_run(store: Store, state: State, seq: int, digests: Sequence[bytes], found: list[int]) -> int:
    """Goes on from `seq` in its run while the digests agree; adds to `found`, gives the last seq that did."""
    end = run_end(state.runs, state.next_seq, seq)
    while seq < end and len(found) < len(digests):
        stop = min(end, seq + _DIGESTS_AT_ONCE, seq + len(digests) - len(found))
        stored = await store.digests(state.conversation_id, seq + 1, stop)
        _require(state, len(stored) == stop - seq)
        for digest in stored:
            if len(found) == len(digests) or digest != digests[len(found)]:
                return seq
            seq += 1
            found.append(seq)
    return seq
