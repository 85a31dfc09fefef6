"""Reads from a store what appends and views need: the edge of a branch, and how much of a history is stored."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

from ctxmem_mcp import tree
from ctxmem_mcp.errors import DamagedConversation, HeadMoved
from ctxmem_mcp.memory.branches import Lineage, run_end
from ctxmem_mcp.memory.commit_builder import BEFORE_TURNS, Edge, turn_facts
from ctxmem_mcp.models import Node, first_summary
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import State, children_of

_DIGESTS_AT_ONCE = 5_000


async def load_spine(
    store: Store,
    state: State,
    lineage: Lineage,
    read: Callable[[Sequence[bytes]], Awaitable[dict[bytes, Node]]] | None = None,
) -> tuple[tuple[Node, ...], ...]:
    """Reads the spine of a branch: per level, the closed nodes that have no parent as of its last turn.

    The head's spine is stored with the state; another turn's is made of the roots of its branch.

    Args:
        store: The store.
        state: The conversation's state.
        lineage: The branch.
        read: Reads nodes in the store's place.
    """
    if lineage.last_seq == state.head:
        stored = _decode_frontier(state)
        digests = [digest for level in stored for digest in level]
        nodes = await (read(digests) if read else store.nodes(state.conversation_id, digests))
        await _require(store, state, len(nodes) == len(digests))
        return tuple(tuple(nodes[digest] for digest in level) for level in stored)
    roots = await store.branch_roots(state.conversation_id, list(lineage.ranges(0, lineage.length)))
    await _require(store, state, _is_spine(roots, state, lineage))
    return tree.rebuild_spine(sorted(roots, key=lambda node: node.level))


def _is_spine(roots: Sequence[Node], state: State, lineage: Lineage) -> bool:
    """Whether the roots can be all of a branch: if a node's row is missing, they end too early or their levels rise."""
    open_turns = lineage.length - (roots[-1].last + 1 if roots else 0)
    is_descending = all(before.level >= after.level for before, after in pairwise(roots))
    return is_descending and (open_turns <= tree.LEAF_TURNS_MAX or bool(state.unindexed))


def _decode_frontier(state: State) -> list[list[bytes]]:
    try:
        return [[bytes.fromhex(digest) for digest in level] for level in json.loads(state.frontier)["spine"]]
    except (ValueError, TypeError, LookupError) as error:
        raise DamagedConversation(state.conversation_id, "The frontier in its row has the wrong shape.") from error


async def load_edge(store: Store, state: State, seq: int) -> Edge:
    """Reads the edge of the branch that ends at turn `seq` (0: before the first turn)."""
    if not seq:
        return Edge()
    conversation, lineage = state.conversation_id, Lineage.of(state.runs, seq)
    spine = await load_spine(store, state, lineage)
    last_leaf = spine[0][-1] if spine else None
    leaf_first = last_leaf.last + 1 if last_leaf else 0
    seqs = lineage.seqs(last_leaf.first if last_leaf else 0, lineage.length)
    turns = await store.turns(conversation, seqs)
    await _require(store, state, len(turns) == len(seqs) and turns[-1].index == lineage.length - 1)
    leaf = tuple(turn for turn in turns if turn.index >= leaf_first)
    earlier = tuple(turn for turn in turns if turn.index < leaf_first)
    stubs = tuple(turn_facts(turn) for turn in leaf)
    border = tree.boundary_before([turn_facts(turn) for turn in earlier], stubs[0])
    last_pieces = await store.pieces_of(conversation, [seq])
    await _require(store, state, seq in last_pieces)
    frontier = tree.Frontier(stubs, spine, tree.BREAK if border is None else border, last_pieces[seq][-1].sitting)
    stored = await store.summaries(conversation, [node.digest for level in spine for node in level])
    await _require(store, state, len(stored) == sum(map(len, spine)))
    summaries = {digest: first_summary(found) for digest, found in stored.items()}
    return Edge(seq, leaf[-1].digest, lineage.length, frontier, leaf, earlier[-BEFORE_TURNS:], summaries)


async def _require(store: Store, state: State, complete: bool) -> None:
    """Raises an error if a read found less than the state promises.

    Raises:
        HeadMoved: The conversation was forgotten since the state was read, and maybe restarted.
        DamagedConversation: It was not: only a whole conversation is ever removed.
    """
    if complete:
        return
    now = await store.load(state.conversation_id, float("-inf"))
    if now is not None and now.created == state.created and now.version >= state.version:
        raise DamagedConversation(state.conversation_id, "Nodes, summaries or turns that were stored are missing.")
    raise HeadMoved(state.conversation_id)


async def known_prefix(store: Store, state: State, after: int, digests: Sequence[bytes]) -> list[int]:
    """Returns the seqs of the stored turns after `after` (0: from the start) that have these digests, up to the first
    that is not stored."""
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
    """Adds to `found` the turns after `seq` in its run while their digests match; returns the last one's seq."""
    end = run_end(state.runs, state.next_seq, seq)
    while seq < end and len(found) < len(digests):
        stop = min(end, seq + _DIGESTS_AT_ONCE, seq + len(digests) - len(found))
        stored = await store.digests(state.conversation_id, seq + 1, stop)
        await _require(store, state, len(stored) == stop - seq)
        for digest in stored:
            if len(found) == len(digests) or digest != digests[len(found)]:
                return seq
            seq += 1
            found.append(seq)
    return seq
