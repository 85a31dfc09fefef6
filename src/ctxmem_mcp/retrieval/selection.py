"""The order in which chunks are added to a view: by value per token, with a share reserved for the user's prose. Pure.

    order = selection_order(candidates, budget, coding=kinds["coding"], reserve=...)    add them while they fit

A score is a log-probability, so score - log(cost) is the evidence per token; slightly less than the whole logarithm
performed best. In coding sessions, output and code far outnumber the user's few sentences, and a question worded
differently from the text matches them only by accident: part of the budget is reserved for them even if other chunks
score higher.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ctxmem_mcp.retrieval.piece_table import PieceFacts, PieceTable
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
# The agent's last words on a request are shown with this many of the best chunks of speech, if they are not longer than
# this. In 2,000 tokens 71 instead of 68 percent of the evidence of people's questions are found (histories not trained
# on), on role-play 54 instead of 50; in 4,000 as much as without, and 64 instead of 61. In 1,000 tokens there is no
# room for them: 53 instead of 58.
ENDINGS_FROM, ENDINGS_FOR, ENDING_TOKENS_MAX = 1_500, 6, 200
# A larger budget has room for longer ones, in which agents report at the end: with these, 81 instead of 79 percent of
# the evidence of people's questions are found in 4,000 tokens, and 90 as before in 8,000 (a simulation, histories not
# trained on), and of 17 questions of our own about other sessions 17 instead of 14 in each.
LONG_ENDINGS_FROM, LONG_ENDING_TOKENS_MAX = 3_000, 300


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
    """A scored chunk, its cost in tokens, its flags and role."""

    ordinal: int
    score: float
    tokens: int
    flags: int
    role: str
    name: str | None = None


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
    """Orders chunks for a view; see `selection_rows`.

    Returns:
        The ordinals in the order in which to add them while they fit.
    """
    table = PieceTable(PieceFacts(c.ordinal, 0, 0, c.tokens, 0, c.flags, 0, 0, c.role, c.name) for c in candidates)
    scores = [c.score for c in candidates]
    rows = selection_rows(table, scores, budget, coding=coding, cost_weight=cost_weight, reserve=reserve)
    return [candidates[row].ordinal for row in rows]


def selection_rows(
    table: PieceTable, scores: Any, budget: int, *, coding: float, cost_weight: float, reserve: Reserve
) -> Iterator[int]:
    """Orders chunks for a view.

    Args:
        table: The chunks.
        scores: Their scores, a number per row.
        budget: Tokens of the view.
        coding: Share of coding in the conversation, 0..1 (`ranker.conversation_kinds`).
        cost_weight: Weight of log(tokens) against the score.
        reserve: Shares of the budget reserved for prose if the conversation is all coding.

    Yields:
        The rows in the order in which to add them while they fit: first the user's prose within its share, then the
        agent's.
    """
    import numpy as np

    values = cost_weight * np.log(table.tokens + OVERHEAD_TOKENS) - np.asarray(scores)
    ordered = np.lexsort((-table.ordinal, values))
    room = coding * budget * min(1.0, budget / RESERVE_WHOLE_FROM)
    costs = table.tokens + OVERHEAD_TOKENS
    reserved = [
        *_within(reserve.user * room, ordered[table.user_speech[ordered]].tolist(), costs),
        *_within(reserve.agent * room, ordered[table.agent_speech[ordered]].tolist(), costs),
    ]
    first = set(reserved)
    yield from reserved
    yield from (row for row in ordered.tolist() if row not in first)


def with_endings(rows: Iterable[int], table: PieceTable, scores: Any, budget: int) -> Iterator[int]:
    """Adds to the best chunks the agent's last words on the same request.

    What the agent announced or tried often ranks before what came of it, whose words are not those of the question. A
    reader who sees only the former takes it for the answer.

    Args:
        rows: The chunks in the order in which to add them to a view.
        table: The chunks.
        scores: Their scores, a number per row.
        budget: Tokens of the view. A small one has no room for endings.

    Yields:
        The rows in order, each of the best followed by the ending, unless that was yielded before or is too long.
    """
    taken: set[int] = set()
    left = ENDINGS_FOR if budget >= ENDINGS_FROM else 0
    tokens_max = LONG_ENDING_TOKENS_MAX if budget >= LONG_ENDINGS_FROM else ENDING_TOKENS_MAX
    for row in rows:
        if row not in taken:
            taken.add(row)
            yield row
        if left and table.speech[row]:
            left -= 1
            ending = _ending_of(row, table, scores)
            if ending is not None and ending not in taken and table.tokens[ending] <= tokens_max:
                taken.add(ending)
                yield ending


def _ending_of(row: int, table: PieceTable, scores: Any) -> int | None:
    """The best chunk of the agent's last words before the user's next, from this row on; None if it is of that turn."""
    closing = table.closing[row:].nonzero()[0]
    if not len(closing) or table.turn[row + closing[0]] == table.turn[row]:
        return None
    of_turn = row + closing[table.turn[row + closing] == table.turn[row + closing[0]]]
    return int(of_turn[scores[of_turn].argmax()])


def _within(tokens: float, rows: Iterable[int], costs: Any) -> list[int]:
    """Returns the rows that fit, greedily in the given order."""
    taken: list[int] = []
    for row in rows:
        if tokens <= OVERHEAD_TOKENS:
            break
        if costs[row] <= tokens:
            taken.append(row)
            tokens -= int(costs[row])
    return taken
