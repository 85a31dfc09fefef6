"""In which order pieces are taken into a view: what pays most per token first, a share kept for people's words. Pure.

    order = choose(candidates, budget, coding=kinds["coding"], user_share=...)    take them while they fit

A score is a log-probability, so score - log(cost) would be evidence per token; a little less than the whole
logarithm did best. In work with tools, people's few words are drowned by output and code, and a question asked in
other words than the text's finds them by accident: part of the budget is theirs, whatever else scores better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import NamedTuple

from ctxmem_mcp.text.analyzer import Flag

# Chosen on the sessions the weights were trained on: 0.5 to 0.9 differ by two points or less on rule-made questions;
# on thirty questions in other words 0.8 was 3 to 7 points better than 0.5 at 4k and 8k.
COST_WEIGHT = 0.8
# In talk a turn costs about as much for its header as for its words, and says the more the longer it is.
COST_WEIGHT_OF_TALK = 0.0
OVERHEAD_TOKENS = 12
# Of a coding conversation's budget, kept for what the user said; little where the question asks for code or output.
# Against 0.3 for any question: on the same thirty questions 13 points at 4k and 7 at 8k, on rule-made ones 10 points at
# 2k, 5 at 4k, the same at 8k. Few questions: take it as a direction.
USER_SHARE, USER_SHARE_OF_WORK = 0.45, 0.05
_PROSE = int(Flag.PROSE)


class Candidate(NamedTuple):
    """A scored piece: its cost in tokens, its flags, who said it. A tuple, because a thousand are made a query."""

    ordinal: int
    score: float
    tokens: int
    flags: int
    role: str

    @property
    def is_user_prose(self) -> bool:
        return self.role == "user" and bool(self.flags & _PROSE)


def cost_weight_of(kinds: Mapping[str, float]) -> float:
    """What a token costs in a conversation of these kinds (ranking.kind_of)."""
    talk = kinds.get("dialogue", 0.0)
    return COST_WEIGHT * (1 - talk) + COST_WEIGHT_OF_TALK * talk


def selection_order(
    candidates: Sequence[Candidate], budget: int, *, coding: float,
    cost_weight: float = COST_WEIGHT, user_share: float = USER_SHARE,
) -> list[int]:  # fmt: skip
    """The ordinals in the order in which to take them while they fit into `budget` tokens.

    coding: how far this is a coding conversation (ranking.kind_of). What the share is kept for comes first.
    """
    values = [(cost_weight * log(c.tokens + OVERHEAD_TOKENS) - c.score, -c.ordinal, c) for c in candidates]
    ordered = [c for _, _, c in sorted(values)]
    reserved, left = [], coding * user_share * budget
    for c in ordered if left > OVERHEAD_TOKENS else ():
        cost = c.tokens + OVERHEAD_TOKENS
        if cost <= left and c.is_user_prose:
            reserved.append(c.ordinal)
            left -= cost
    first = set(reserved)
    return [*reserved, *(c.ordinal for c in ordered if c.ordinal not in first)]
