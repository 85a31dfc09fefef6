"""Fits the weights with which a hook decides whether earlier turns bear on a prompt, and prints them.

    CTXMEM_EVAL_DIR=... python -m bench.train.prompts

The labels are those of bench/data/prompts.json except the unseen ones, of prompts soon after a compaction. An exchange
counts as positive if it has a labelled turn. For the figures printed, each history is left out of the fit that scores
it; the threshold is for the reader to choose.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.prompts import Label, Project, read_labels, read_projects
from ctxmem_mcp.capture.spoken_turns import SpokenTurn
from ctxmem_mcp.hooks import prompt_likelihood, prompt_recall
from ctxmem_mcp.hooks.prompt_match import Utterance

PENALTY = 30.0
STEPS = 30
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Example:
    """A labelled prompt: the features of its matches, whether each bears on it, and whether its quoted turn does."""

    label: Label
    features: Matrix
    bears: NDArray[np.bool_]
    is_right: NDArray[np.bool_]

    @property
    def history(self) -> str:
        return self.label.prompt.partition(":")[0]


@dataclass(frozen=True)
class Model:
    weights: Matrix
    bias: float

    def likelihoods(self, features: Matrix) -> Matrix:
        return np.asarray(1 / (1 + np.exp(-(features @ self.weights + self.bias))))


def read_examples() -> list[Example]:
    examples: list[Example] = []
    with tempfile.TemporaryDirectory() as folder:
        projects = [Project(Path(folder) / str(at), sessions) for at, sessions in enumerate(read_projects())]
        for label in read_labels():
            if label.is_unseen:
                continue
            project = next(project for project in projects if project.has(label))
            past = prompt_recall.read_past(project.event_for(label), project.data)
            if past is not None and past.is_compacted and (matches := past.match.matches()):
                features = prompt_likelihood.features_of(matches, past.prompt_context)
                bears = [any(_bears(label, turn) for turn in match.exchange.utterances) for match in matches]
                is_right = [_bears(label, match.utterance) for match in matches]
                examples.append(Example(label, np.array(features), np.array(bears), np.array(is_right)))
    return examples


def _bears(label: Label, utterance: Utterance) -> bool:
    turn = utterance.source
    assert isinstance(turn, SpokenTurn)
    return label.has(turn.conversation.partition(":")[0], turn.index)


def fit(examples: Sequence[Example]) -> Model:
    """Fits by Newton's method, with standardised features and a penalty on the squares of their weights."""
    rows = np.vstack([one.features for one in examples])
    mean, scale = rows.mean(0), rows.std(0) + 1e-9
    inputs = np.hstack([(rows - mean) / scale, np.ones((len(rows), 1))])
    wanted = np.concatenate([one.bears for one in examples]).astype(float)
    penalty = np.diag([PENALTY] * rows.shape[1] + [1e-6])
    beta = np.zeros(inputs.shape[1])
    for _ in range(STEPS):
        likely = 1 / (1 + np.exp(-inputs @ beta))
        gradient = inputs.T @ (likely - wanted) + penalty @ beta
        beta -= np.linalg.solve((inputs * (likely * (1 - likely))[:, None]).T @ inputs + penalty, gradient)
    weights = beta[:-1] / scale
    return Model(weights, float(beta[-1] - weights @ mean))


def cross_validate(examples: Sequence[Example]) -> list[tuple[float, bool, Label]]:
    """Returns for each prompt the highest likelihood, and whether a turn that would be quoted bears on it."""
    found: list[tuple[float, bool, Label]] = []
    for history in sorted({one.history for one in examples}):
        model = fit([one for one in examples if one.history != history])
        for one in examples:
            if one.history == history:
                likely = model.likelihoods(one.features)
                order = np.argsort(-likely)[: prompt_recall.LIKELY_QUOTES_MAX]
                quoted = order[likely[order] >= likely[order[0]] * prompt_recall.LIKELIHOOD_SHARE]
                found.append((float(likely[order[0]]), bool(one.is_right[quoted].any()), one.label))
    return sorted(found, key=lambda one: -one[0])


def main() -> None:
    examples = read_examples()
    needs = sum(bool(one.label.bears) for one in examples)
    print(
        f"{len(examples)} prompts after a compaction, {needs} of which need the past. By threshold, histories left out:"
    )
    right = said = 0
    for likelihood, is_right, label in cross_validate(examples):
        said, right = said + 1, right + is_right
        if said % 4 == 0:
            print(f"  {likelihood:.2f}: right {right} of {said}   {label.prompt}")
    model = fit(examples)
    print("WEIGHTS =", tuple(round(float(weight), 3) for weight in model.weights), "BIAS =", round(model.bias, 3))


if __name__ == "__main__":
    main()
