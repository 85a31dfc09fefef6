"""Finds the stored conversation that a transcript belongs to, by its first turns."""

from __future__ import annotations

from collections.abc import Sequence

from ctxmem_mcp.errors import HeadMoved, UnknownConversation
from ctxmem_mcp.memory.branches import Lineage, branch_tips
from ctxmem_mcp.memory.edge_loader import known_prefix, load_spine
from ctxmem_mcp.memory.turn_indexer import TurnIndexer
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import State

# How many conversations with the same first turn are compared to find the one that a transcript belongs to.
CANDIDATES = 20


async def find_conversation(
    store: Store, indexer: TurnIndexer, turns: Sequence[NewTurn], digests: Sequence[bytes], now: float
) -> str | None:
    """Finds the conversation that these turns belong to: of several, the one with the longest common prefix."""
    longest, found = 0, None
    for conversation in (await store.find(digests[0], now))[:CANDIDATES]:
        state = await store.load(conversation, now)
        if state is None:
            continue
        try:
            known = await known_prefix(store, state, 0, digests)
            if state.unindexed and known and known[-1] not in branch_tips(state) and len(known) < len(turns):
                await indexer.wait(conversation)  # whether they belong to it depends on the tree
                state = await store.load(conversation, now) or state
            if len(known) > longest and await _belongs_to(store, state, turns, known):
                longest, found = len(known), conversation
        except (HeadMoved, UnknownConversation):  # forgotten in between
            continue
    return found


async def _belongs_to(store: Store, state: State, turns: Sequence[NewTurn], known: Sequence[int]) -> bool:
    """Returns whether a conversation of which these turns are known is that of `turns`.

    It is if `turns` is a beginning of it, or continues a branch to its end. If it departs from all branches, it is
    one only after the first closed leaf that holds a user's turn: chats that merely begin alike would share one
    retention, and forgetting one would remove the other.
    """
    if len(known) == len(turns) or known[-1] in branch_tips(state):
        return True
    opening = opening_length(turns)
    if len(known) < opening:
        return False
    spine = await load_spine(store, state, Lineage.of(state.runs, known[-1]))
    return bool(spine) and spine[0 if spine[0] else -1][-1].last >= opening - 1


def opening_length(turns: Sequence[NewTurn]) -> int:
    """Returns how many turns distinguish a conversation from others: those up to the first user turn."""
    return next((i + 1 for i, turn in enumerate(turns) if turn.role == "user"), 1)
