"""The last turns of a branch, and the query they make if a caller gives none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.models import Turn
from ctxmem_mcp.text.media import shown_text

T = TypeVar("T")

# The query is this many of the last user turns, and this much of each.
QUERY_TURNS, QUERY_CHARS = 2, 2_000
# Turns are read this many at a time, from the last one back.
TURNS_AT_ONCE = 64


def newest_within(items: Sequence[T], budget: int, cost: Callable[[T], int]) -> list[T]:
    """Returns the longest run of last items whose costs together fit the budget, in their order."""
    first = len(items)
    while first and (budget := budget - cost(items[first - 1])) >= 0:
        first -= 1
    return list(items[first:])


async def last_turns(branch: BranchReader, token_budget: int, overhead: int) -> list[Turn]:
    """Reads as many of the last turns as fit a budget, oldest first. overhead: tokens of each beside its content."""

    def cost(turn: Turn) -> int:
        return turn.tokens + overhead

    bare: list[Turn] = []
    first = branch.lineage.length
    while first > 0 and sum(map(cost, bare)) <= token_budget:
        bare = await branch.metadata(first - TURNS_AT_ONCE, first - 1) + bare
        first -= TURNS_AT_ONCE
    fitting = newest_within(bare, token_budget, cost)
    turns = await branch.turns(turn.index for turn in fitting)
    return [turns[turn.index] for turn in fitting]


async def last_user_query(branch: BranchReader, *, within: int, enough_words: int | None = None) -> str:
    """Joins the last user turns into a query.

    Args:
        branch: The branch.
        within: How many of the last turns to look among.
        enough_words: A last turn of so many words is the query on its own; a shorter one ("go on") says too little.

    Returns:
        The empty string if no user turn is among them.
    """
    length = branch.lineage.length
    bare = await branch.metadata(length - within, length - 1)
    indexes = [turn.index for turn in bare if turn.role == "user"][-QUERY_TURNS:]
    turns = await branch.turns(indexes)
    texts = [shown_text(turns[index].content)[:QUERY_CHARS] for index in indexes]
    if enough_words is not None and texts and len(texts[-1].split()) >= enough_words:
        texts = texts[-1:]
    return "\n".join(texts)
