"""Estimates how likely earlier exchanges bear on a prompt after a compaction. Pure.

A logistic regression over what the words say (`prompt_match`) and where an exchange is: most prompts after a compaction
are about the last exchanges before it. `python -m bench.train.prompts` fits the weights to the hand-labelled prompts of
bench/data/prompts.json, except those that `bench prompts` calls unseen.
"""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctxmem_mcp.hooks.prompt_match import Match

FEATURES = (
    "score", "best_share", "all_pairs", "own", "exchanges_since", "last", "last_at_first_prompt", "age", "exchanges",
    "prompts", "question", "rank", "margin",
)  # fmt: skip
# In the order of FEATURES.
WEIGHTS = (0.051, -0.185, 0.367, 0.924, -0.271, 0.094, 1.631, -0.246, 0.085, -0.633, -0.153, -0.1, 0.451)
BIAS = -1.993


class PromptContext:
    """A prompt and its context.

    Attributes:
        is_question: whether the prompt has a question mark.
        prompts: prompts of the user that the context has.
        exchanges: earlier exchanges in the project.
    """

    __slots__ = ("exchanges", "is_question", "prompts")

    def __init__(self, *, is_question: bool, prompts: int, exchanges: int) -> None:
        self.is_question, self.prompts, self.exchanges = is_question, prompts, exchanges


def likelihoods(matches: Sequence[Match], context: PromptContext) -> list[float]:
    """Returns for each match, the best first, the likelihood that its exchange bears on the prompt."""
    found: list[float] = []
    for values in features_of(matches, context):
        logit = BIAS + sum(weight * value for weight, value in zip(WEIGHTS, values, strict=True))
        found.append(1 / (1 + math.exp(-logit)))
    return found


def features_of(matches: Sequence[Match], context: PromptContext) -> list[tuple[float, ...]]:
    """Returns the values of FEATURES for each match. The matches are sorted by their scores, the highest first."""
    log = math.log1p
    rows: list[tuple[float, ...]] = []
    for rank, match in enumerate(matches):
        since = match.exchange.exchanges_since
        is_last = since == 0
        # The best is compared with the second, the others with the best.
        rival = matches[0].score if rank else matches[1].score if len(matches) > 1 else 0.0
        rows.append((
            log(match.score), match.best_share, log(match.all_pairs), float(since is not None), log(since or 0),
            float(is_last), float(is_last and not context.prompts), log(match.exchange.age), log(context.exchanges),
            log(context.prompts), float(context.is_question), log(rank),
            math.log((match.score + 0.5) / (rival + 0.5)),
        ))  # fmt: skip
    return rows
