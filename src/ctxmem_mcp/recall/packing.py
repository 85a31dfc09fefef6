"""In which order pieces are taken into a view: what pays most per token first, with a share kept for words. Pure.

    order = choose(candidates, budget, plan)        ordinals; take them while they fit

A piece pays its score less half the logarithm of its cost: many small hits beat one large. Part of the budget is
kept for what people and the agent said, because questions asked in other words find code and output by accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from ctxmem_mcp.recall.query import Plan
from ctxmem_mcp.terms import Flag

COST_WEIGHT = 0.5
HEADER_TOKENS = 12
# Of the budget, kept for talk; more where the question asks what was said, meant or decided.
SAID_SHARE = 0.25
SAID_SHARE_FOR_WORDS = 0.4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A scored piece: its cost in tokens, the index of its turn, its flags."""

    ordinal: int
    score: float
    tokens: int
    turn: int
    flags: int

    @property
    def said(self) -> bool:
        return bool(self.flags & Flag.PROSE)


def choose(
    candidates: Sequence[Candidate], budget: int, plan: Plan, *,
    cost_weight: float = COST_WEIGHT, said_share: float | None = None,
) -> list[int]:  # fmt: skip
    """The ordinals in the order in which to take them while they fit into `budget` tokens."""
    share = (SAID_SHARE_FOR_WORDS if plan.wants_words else SAID_SHARE) if said_share is None else said_share
    pays = {c.ordinal: c.score - cost_weight * log(c.tokens + HEADER_TOKENS) for c in candidates}
    ordered = sorted(candidates, key=lambda c: (-pays[c.ordinal], -c.ordinal))
    kept, left = [], share * budget
    for c in ordered:
        if c.said and c.tokens + HEADER_TOKENS <= left:
            kept.append(c.ordinal)
            left -= c.tokens + HEADER_TOKENS
    first = set(kept)
    return [*kept, *(c.ordinal for c in ordered if c.ordinal not in first)]
