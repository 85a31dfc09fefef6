"""The order in which pieces are added to a view: by value per token, with a share reserved for the user's prose. Pure.

    order = selection_order(candidates, budget, coding=kinds["coding"], user_share=...)    add them while they fit

A score is a log-probability, so score - log(cost) is the evidence per token; slightly less than the whole logarithm
performed best. In coding sessions, output and code far outnumber the user's few sentences, and a question worded
differently from the text matches them only by accident: part of the budget is reserved for them even if other pieces
score higher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import NamedTuple

from ctxmem_mcp.text.analyzer import Flag

# Chosen on the sessions that the weights were trained on: 0.5 to 0.9 differ by at most two points on generated
# questions; on thirty paraphrased questions 0.8 was 3 to 7 points better than 0.5 at 4k and 8k tokens.
COST_WEIGHT = 0.8
# In a dialogue a turn's header costs about as much as its text, and a longer turn says more.
COST_WEIGHT_OF_TALK = 0.0
# Estimated tokens of the header and gap lines of a piece.
OVERHEAD_TOKENS = 12
# The share of a coding conversation's budget reserved for the user's prose; little if the question asks for code or
# output. Compared with 0.3 for any question: on the same thirty questions 13 points better at 4k and 7 at 8k, on
# generated ones 10 points at 2k, 5 at 4k, equal at 8k. With so few questions, treat this as a direction.
USER_SHARE, USER_SHARE_OF_WORK = 0.45, 0.05
_PROSE = int(Flag.PROSE)


class Candidate(NamedTuple):
    """A scored piece, its cost in tokens, its flags and role. A tuple, because a thousand are created per query."""

    ordinal: int
    score: float
    tokens: int
    flags: int
    role: str

    @property
    def is_user_prose(self) -> bool:
        """Whether the user wrote it, in sentences."""
        return self.role == "user" and bool(self.flags & _PROSE)


def cost_weight_of(kinds: Mapping[str, float]) -> float:
    """Returns the weight of log(tokens) for a conversation of these kinds (`ranker.conversation_kinds`)."""
    talk = kinds.get("dialogue", 0.0)
    return COST_WEIGHT * (1 - talk) + COST_WEIGHT_OF_TALK * talk


def selection_order(
    candidates: Sequence[Candidate], budget: int, *, coding: float,
    cost_weight: float = COST_WEIGHT, user_share: float = USER_SHARE,
) -> list[int]:  # fmt: skip
    """Orders pieces for a view.

    Args:
        candidates: The scored pieces.
        budget: Tokens of the view.
        coding: Share of coding in the conversation, 0..1 (`ranker.conversation_kinds`).
        cost_weight: Weight of log(tokens) against the score.
        user_share: Share of the budget reserved for the user's prose if the conversation is all coding.

    Returns:
        The ordinals in the order in which to add them while they fit: first the user's prose within its share.
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
