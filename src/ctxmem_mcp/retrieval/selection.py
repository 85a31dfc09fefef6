"""The order in which chunks are added to a view: by value per token, with a share reserved for the user's prose. Pure.

    order = selection_order(candidates, budget, coding=kinds["coding"], reserve=...)    add them while they fit

A score is a log-probability, so score - log(cost) is the evidence per token; slightly less than the whole logarithm
performed best. In coding sessions, output and code far outnumber the user's few sentences, and a question worded
differently from the text matches them only by accident: part of the budget is reserved for them even if other chunks
score higher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import NamedTuple

from ctxmem_mcp.retrieval.features import is_agent_speech, is_user_speech
from ctxmem_mcp.retrieval.query import Intent, ParsedQuery

# Chosen on the sessions that the weights were trained on: 0.5 to 0.9 differ by at most two points on generated
# questions; on thirty paraphrased questions 0.8 was 3 to 7 points better than 0.5 at 4k and 8k tokens.
COST_WEIGHT = 0.8
# In a dialogue a turn's header costs about as much as its text, and a longer turn says more.
COST_WEIGHT_OF_TALK = 0.0
# In a smaller budget the reserves are smaller too: the best chunks of any kind need the room. In 1,000 tokens, half of
# the evidence of people's questions is found with whole reserves, 55% with half of them (histories not trained on).
RESERVE_WHOLE_FROM = 1_800
# Estimated tokens of the header and gap lines of a chunk.
OVERHEAD_TOKENS = 12


class Reserve(NamedTuple):
    """Shares of a coding conversation's budget for prose, whatever else scores better: the user's and the agent's."""

    user: float
    agent: float


# By what the query asks for. Measured on 90 questions in people's own words (no embeddings), share of the evidence
# found in 2,000 / 4,000 / 8,000 tokens: with (0.45, 0) for any question 39 / 60 / 73, as below 47 / 68 / 80. Every
# miss had been something that the agent said. Generated questions about code and output need the room themselves.
RESERVE_OF_WORK = Reserve(0.05, 0.0)
RESERVE_OF_USER = Reserve(0.45, 0.1)
# The order in which the user brought things up is in the user's short turns, which the agent's long ones displace. On
# long chats, in a simulation, such questions found 34 / 50 / 77 / 96 percent in 2,000 / 4,000 / 8,000 / 16,000 tokens,
# up from 27 / 39 / 58 / 78.
RESERVE_OF_ORDER = Reserve(0.7, 0.0)
RESERVE = Reserve(0.25, 0.4)


class Candidate(NamedTuple):
    """A scored chunk, its cost in tokens, its flags and role. A tuple, because a thousand are created per query."""

    ordinal: int
    score: float
    tokens: int
    flags: int
    role: str
    name: str | None = None

    @property
    def is_user_prose(self) -> bool:
        """Whether the user wrote it, in sentences."""
        return is_user_speech(self.role, self.flags)

    @property
    def is_agent_prose(self) -> bool:
        """Whether the agent said or thought it."""
        return is_agent_speech(self.role, self.name, self.flags)


def reserve_of(query: ParsedQuery) -> Reserve:
    """Returns the shares to reserve for a query."""
    if Intent.ORDER in query.intents:
        return RESERVE_OF_ORDER
    if query.wants_work:
        return RESERVE_OF_WORK
    return RESERVE_OF_USER if Intent.USER_SAID in query.intents else RESERVE


def cost_weight_of(kinds: Mapping[str, float]) -> float:
    """Returns the weight of log(tokens) for a conversation of these kinds (`ranker.conversation_kinds`)."""
    talk = kinds.get("dialogue", 0.0)
    return COST_WEIGHT * (1 - talk) + COST_WEIGHT_OF_TALK * talk


def selection_order(
    candidates: Sequence[Candidate], budget: int, *, coding: float,
    cost_weight: float = COST_WEIGHT, reserve: Reserve = RESERVE,
) -> list[int]:  # fmt: skip
    """Orders chunks for a view.

    Args:
        candidates: The scored chunks.
        budget: Tokens of the view.
        coding: Share of coding in the conversation, 0..1 (`ranker.conversation_kinds`).
        cost_weight: Weight of log(tokens) against the score.
        reserve: Shares of the budget reserved for prose if the conversation is all coding.

    Returns:
        The ordinals in the order in which to add them while they fit: first the user's prose within its share, then
        the agent's.
    """
    values = [(cost_weight * log(c.tokens + OVERHEAD_TOKENS) - c.score, -c.ordinal, c) for c in candidates]
    ordered = [c for _, _, c in sorted(values)]
    room = coding * budget * min(1.0, budget / RESERVE_WHOLE_FROM)
    reserved = [
        *_within(reserve.user * room, (c for c in ordered if c.is_user_prose)),
        *_within(reserve.agent * room, (c for c in ordered if c.is_agent_prose)),
    ]
    first = set(reserved)
    return [*reserved, *(c.ordinal for c in ordered if c.ordinal not in first)]


def _within(tokens: float, candidates: Iterable[Candidate]) -> list[int]:
    """Returns the ordinals of the candidates that fit, greedily in the given order."""
    taken: list[int] = []
    for candidate in candidates:
        if tokens <= OVERHEAD_TOKENS:
            break
        cost = candidate.tokens + OVERHEAD_TOKENS
        if cost <= tokens:
            taken.append(candidate.ordinal)
            tokens -= cost
    return taken
