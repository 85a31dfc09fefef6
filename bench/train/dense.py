"""Trains the weight of dense vectors and writes src/ctxmem_mcp/retrieval/dense_weights.json.

All other weights stay. They were trained on the same questions, so the scores that they give are too sure of
themselves; a divisor of the scores, which changes no order, is fitted along. Prints the weight that would be chosen
without each history. Needs the extra `neural`; embedding the histories takes some minutes.

    CTXMEM_EVAL_DIR=... python -m bench.train.dense [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from bench.train.corpus import Prepared, load
from bench.train.evidence import answering_pieces
from ctxmem_mcp.memory.retrieve import NEAREST_RANKED_MAX
from ctxmem_mcp.retrieval import dense_features
from ctxmem_mcp.retrieval.piece_table import PieceFacts, PieceTable, is_agent_speech, is_user_speech
from ctxmem_mcp.retrieval.ranker import CONVERSATION_KINDS, BranchRanker, conversation_kinds, load_weights
from ctxmem_mcp.text import embeddings
from ctxmem_mcp.text.chunk_flags import Flag
from ctxmem_mcp.text.minilm import MODEL_SHA256, NAME, load_minilm

TARGET = Path(dense_features.__file__).with_name("dense_weights.json")
SETS = ("people-dev", "story-dev")
LANGUAGES = ("en", None)
WEIGHTS = tuple(step / 2 for step in range(17))
DIVISORS = (0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5)


@dataclass
class Example:
    """A question: the score and the nearness of each candidate, and those that hold each piece of its evidence."""

    conversation: str
    scores: np.ndarray
    nearness: np.ndarray
    groups: list[np.ndarray]

    def likelihood(self, weight: float, divisor: float) -> float:
        """The mean log-probability of the pieces of evidence."""
        scores = (self.scores + weight * self.nearness) / divisor
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        return float(np.mean([np.log(shares[group].sum() + 1e-30) for group in self.groups]))


def is_embedded(facts: PieceFacts) -> bool:
    spoken = is_user_speech(facts.role, facts.flags) or is_agent_speech(facts.role, facts.name, facts.flags)
    return spoken and not facts.flags & Flag.HOST


def embed(texts: Sequence[str], cache: Path | None) -> np.ndarray:
    """Embeds texts, or reads the vectors that an earlier run embedded."""
    name = hashlib.sha256(json.dumps([MODEL_SHA256, *texts]).encode()).hexdigest()[:16]
    if cache and (cache / f"{name}.npy").exists():
        return np.load(cache / f"{name}.npy")  # type: ignore[no-any-return]
    vectors = load_minilm().embed(texts)
    if cache:
        cache.mkdir(exist_ok=True)
        np.save(cache / f"{name}.npy", vectors)
    return vectors


def examples_of(conversation: Prepared, cache: Path | None) -> list[Example]:
    at = [facts.ordinal for facts in conversation.facts if is_embedded(facts)]
    cosines = np.full((len(conversation.questions), len(conversation.facts)), np.nan)
    texts = [conversation.texts[ordinal] for ordinal in at]
    vectors = embed([*texts, *(question["query"] for question in conversation.questions)], cache)
    cosines[:, at] = vectors[len(texts) :] @ vectors[: len(texts)].T
    found = [_example(conversation, q, row) for q, row in zip(conversation.questions, cosines, strict=True)]
    return [example for example in found if example]


def _example(conversation: Prepared, question: dict[str, Any], cosines: np.ndarray) -> Example | None:
    parsed = conversation.parse(question["query"])
    if parsed.language not in LANGUAGES or parsed.wants_work:
        return None
    ranker = BranchRanker(parsed, conversation.hits(parsed), len(conversation.facts), conversation.mean_words)
    similarities = conversation.similarities(parsed)
    near = [np.array([similarities[o] for o in range(len(cosines))])] if similarities else []
    nearest = [np.argsort(-values, kind="stable")[:NEAREST_RANKED_MAX] for values in (*near, cosines)]
    candidates = sorted({*ranker.candidates, *np.concatenate(nearest).tolist()})
    table = PieceTable([conversation.facts[o] for o in candidates])
    weights = load_weights(semantic=len(similarities) > 0).blend(
        conversation_kinds(table), wants_work=parsed.wants_work
    )
    place = {ordinal: row for row, ordinal in enumerate(candidates)}
    groups = [[place[o] for o in group if o in place] for group in answering_pieces(conversation, question)]
    rows = [np.array(group) for group in groups if group]
    columns = dense_features.dense_columns(cosines[candidates])
    if not rows or not columns:
        return None
    scores = ranker.rank(table, weights, similarities).by_row
    return Example(conversation.id, scores, columns["dense"], rows)


def best_weight(examples: Sequence[Example]) -> float:
    """Returns the weight under which the evidence is likeliest, with the best divisor for it."""

    def mean(weight: float) -> float:
        return max(float(np.mean([e.likelihood(weight, divisor) for e in examples])) for divisor in DIVISORS)

    return max(WEIGHTS, key=mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="folder that keeps the vectors between runs")
    parser.add_argument("--out", type=Path, default=TARGET)
    args = parser.parse_args()
    embedder = embeddings.load_embedder("on")
    examples = [e for name in SETS for one in load(name, embedder) for e in examples_of(one, args.cache)]
    for left_out in sorted({e.conversation for e in examples}):
        weight = best_weight([e for e in examples if e.conversation != left_out])
        rest = [e for e in examples if e.conversation == left_out]
        print(f"without {left_out}: {weight}; on its {len(rest)} questions: {best_weight(rest)}", flush=True)
    weight = best_weight(examples)
    line = f"{date.today()}: python -m bench.train.dense on the {len(examples)} English questions of {', '.join(SETS)}"
    made = {
        "provenance": f"{line}, with {NAME}",
        "weights": {kind: {"dense": weight} for kind in CONVERSATION_KINDS},
    }
    args.out.write_text(json.dumps(made, indent=1) + "\n")
    print(f"all: {weight}")


if __name__ == "__main__":
    main()
