"""Trains the linear ranker, listwise, and writes src/ctxmem_mcp/retrieval/weights.json.

The loss of a question is the negative log-likelihood of its evidence under a softmax over all candidates. The kinds of
conversation, and questions about coding work, share common weights, and each has its own deviations. Weights of
features that can only be evidence for a chunk are kept at zero or above, and all weights are regularised, so as not to
learn the wording of the questions.

The training data are questions as people ask them about coding sessions and role-play, LongMemEval and the coding
sessions (both MIT), questions about these, about other agents' transcripts and about stories of our own written by hand
(bench/train/handwritten.py), others generated from the same conversations, and, for dialogues, LongMemEval chats
rewritten as short turns. LoCoMo is never trained on.

Two sets of weights are trained: for terms alone, and for terms and word vectors. The second leaves out the questions in
languages that vectors are not used for.
"""

from __future__ import annotations

import argparse
import functools
import json
import pickle
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from bench.train import handwritten
from bench.train import questions as make
from bench.train.corpus import Prepared, load, prepare, read
from bench.train.evidence import answering_pieces
from bench.train.handwritten import paraphrases
from bench.train.measure import measure, ranker, shown, without_rarest
from ctxmem_mcp.retrieval import features
from ctxmem_mcp.retrieval.ranker import WEIGHT_SETS, WORK, BranchRanker, Weights
from ctxmem_mcp.text import embeddings
from ctxmem_mcp.text.embeddings import Embedder

TARGET = Path(__file__).parents[2] / "src/ctxmem_mcp/retrieval/weights.json"
NAMES = (*features.FEATURE_NAMES, *features.SEMANTIC_FEATURES)
# Features that may be evidence against a chunk; all others can only be evidence for it.
FREE = {
    "user", "agent", "output", "prose", "call", "first", "size", "recent", "asks", "after_question", "has_error",
    "has_number", "first_person", "sitting", "sitting_cover", "any", "spoken", "thinking", "host",
    *(name for name in NAMES if name.startswith("speech:")),
}  # fmt: skip
# L2 regularisation of the common weights and of the deviations of each kind.
COMMON_PULL, OWN_PULL = 0.0005, 0.002
SEED = 7
# Sets of questions written by people alone.
PEOPLE = ("people-dev", "story-dev", "transcripts", "stories")
# Of each set, every so many-th conversation is trained on.
TRAINING_SETS = {"people-dev": 1, "coding-dev": 1, "story-dev": 1, "longmemeval-dev": 2}
DATA = (
    "people-dev, story-dev, coding-dev, every second conversation of longmemeval-dev, questions generated from the last"
    " two, paraphrases.json, transcripts.json and stories.json"
)
# Of the questions that people wrote. With 1.5, those made by rule decide what is learnt.
PEOPLE_WEIGHT = 2.5
# Questions to generate about each coding history, chat and dialogue, and the weight of each.
CODE_QUESTIONS, CHAT_QUESTIONS, DIALOGUE_QUESTIONS = (50, 1.0), (6, 0.5), (8, 1.5)


@dataclass
class Example:
    """A question: a row of features per candidate, and the rows that contain each piece of its evidence.

    Attributes:
        kind: Which of `WEIGHT_SETS` it trains.
        with_vectors: Whether the rows have the features of word vectors.
    """

    kind: str
    conversation: str
    table: np.ndarray
    groups: list[np.ndarray]
    weight: float
    with_vectors: bool = True


def make_example(
    conversation: Prepared, kind: str, question: dict[str, Any], query: str, weight: float
) -> Example | None:
    parsed = conversation.parse(query)
    search = BranchRanker(parsed, conversation.hits(parsed), len(conversation.facts), conversation.mean_words)
    facts = [conversation.facts[o] for o in search.candidates]
    matches = replace(search.matches, similarities=conversation.similarities(parsed))
    cols = features.feature_columns(parsed, matches, facts, conversation.mean_words)
    place = {f.ordinal: i for i, f in enumerate(facts)}
    groups = [[place[o] for o in group if o in place] for group in answering_pieces(conversation, question)]
    groups = [g for g in groups if g]
    if not groups:
        return None
    table = np.zeros((len(facts), len(NAMES)), dtype=np.float32)
    for j, name in enumerate(NAMES):
        if name in cols:
            table[:, j] = cols[name]
    rows = [np.array(g) for g in groups]
    kind = WORK if kind == "coding" and parsed.wants_work else kind
    return Example(kind, conversation.id, table, rows, weight, len(matches.similarities) > 0)


def examples(processes: int = 1, seed: int = SEED) -> list[Example]:
    """Makes the training data, each conversation in one of so many processes."""
    given = [
        (name, conversation, seed + i)
        for name, every in TRAINING_SETS.items()
        for i, conversation in enumerate(read(name))
        if i % every == 0
    ]
    given += [("transcripts", one, seed) for one in handwritten.transcripts()]
    given += [("stories", one, seed) for one in handwritten.stories()]
    with ProcessPoolExecutor(processes) as pool:
        return [example for found in pool.map(_examples_of, *zip(*given, strict=True)) for example in found]


def _examples_of(name: str, given: dict[str, Any], seed: int) -> list[Example]:
    rng, embedder = random.Random(seed), _embedder()
    conversation = replace(prepare(given), embedder=embedder)
    found: list[Example | None] = []
    if name in PEOPLE:
        found += [make_example(conversation, given["kind"], q, q["query"], PEOPLE_WEIGHT) for q in given["questions"]]
    elif name == "coding-dev":
        for q in given["questions"]:
            found += _variants(conversation, "coding", q, 1.0)
        for q in make.about_code(conversation, CODE_QUESTIONS[0], rng):
            found.append(make_example(conversation, "coding", q, q["query"], CODE_QUESTIONS[1]))
    else:
        for q in given["questions"]:
            found += _variants(conversation, "chat", q, 3.0)
        for q in make.about_chat(conversation, CHAT_QUESTIONS[0], rng):
            found.append(make_example(conversation, "chat", q, q["query"], CHAT_QUESTIONS[1]))
        dialogue = replace(make.as_dialogue(given, rng), id=conversation.id, embedder=embedder)
        for q in make.about_dialogue(dialogue, DIALOGUE_QUESTIONS[0], rng):
            found.append(make_example(dialogue, "dialogue", q, q["query"], DIALOGUE_QUESTIONS[1]))
    for q in paraphrases(conversation.id):
        found.append(make_example(conversation, given["kind"], q, q["query"], PEOPLE_WEIGHT))
    return [e for e in found if e]


@functools.cache
def _embedder() -> Embedder | None:
    return embeddings.load_embedder("on")


def _variants(conversation: Prepared, kind: str, q: dict[str, Any], weight: float) -> list[Example | None]:
    """The question unchanged, without its rarest word, and with identifiers split into words."""
    query = q["query"]
    variants = [make_example(conversation, kind, q, query, weight)]
    looser = without_rarest(conversation, query)
    if looser != query:
        variants.append(make_example(conversation, kind, q, looser, weight * 0.4))
    spoken = make.in_words(query)
    if spoken != query:
        variants.append(make_example(conversation, kind, q, spoken, weight * 0.4))
    return variants


def loss_of(
    kind_index: Sequence[int], data: Sequence[Example], d: int
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Returns the loss of the weights of the first `d` features, and its gradient."""
    total = sum(e.weight for e in data)
    tables = [np.ascontiguousarray(e.table[:, :d]) for e in data]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(len(WEIGHT_SETS) + 1, d)
        value, grad = 0.0, np.zeros_like(w)
        for k, e, table in zip(kind_index, data, tables, strict=True):
            s = table @ (w[0] + w[k + 1]).astype(np.float32)
            s -= s.max()
            p = np.exp(s)
            z = p.sum()
            target = np.zeros_like(p)
            for g in e.groups:
                inside = p[g].sum()
                value -= e.weight * (np.log(inside + 1e-30) - np.log(z)) / len(e.groups)
                target[g] += p[g] / (inside + 1e-30) / len(e.groups)
            step = e.weight * (table.T @ (p / z - target))
            grad[0] += step
            grad[k + 1] += step
        value, grad = value / total, grad / total
        value += COMMON_PULL * float((w[0] ** 2).sum()) + OWN_PULL * float((w[1:] ** 2).sum())
        grad[0] += 2 * COMMON_PULL * w[0]
        grad[1:] += 2 * OWN_PULL * w[1:]
        return value, grad.ravel()

    return loss


def train(data: Sequence[Example], names: Sequence[str] = NAMES, iterations: int = 120) -> Weights:
    """Trains the weights of these features, which are the first of `NAMES`."""
    d = len(names)
    free = [name in FREE for name in names]
    bounds = [(None, None) if f else (0.0, None) for f in free] + [(None, None) for _ in WEIGHT_SETS for f in free]
    index = [WEIGHT_SETS.index(e.kind) for e in data]
    start = np.zeros((len(WEIGHT_SETS) + 1) * d)
    found = minimize(
        loss_of(index, data, d), start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations}
    )
    w = found.x.reshape(len(WEIGHT_SETS) + 1, d)
    by_kind = {}
    for k, kind in enumerate(WEIGHT_SETS):
        both = w[0] + w[k + 1]
        both = [v if f else max(0.0, v) for v, f in zip(both, free, strict=True)]
        by_kind[kind] = {n: round(float(v), 3) for n, v in zip(names, both, strict=True) if abs(v) >= 0.005}
    return Weights(by_kind)


def folds(name: str, count: int, embedder: Embedder | None) -> list[list[Prepared]]:
    conversations = load(name, embedder)
    return [conversations[i::count] for i in range(count)]


def cross_validate(
    data: Sequence[Example], name: str, count: int, embedder: Embedder | None, names: Sequence[str]
) -> None:
    whole: dict[str, list[list[float]]] = {}
    looser: dict[str, list[list[float]]] = {}
    for part in folds(name, count, embedder):
        unseen = {c.id for c in part}
        weights = train([e for e in data if e.conversation not in unseen], names, 80)
        for into, asks in ((whole, None), (looser, without_rarest)):
            for category, rows in measure(part, ranker(weights), asks=asks).items():
                into.setdefault(category, []).extend(rows)
    print(f"{name}, on conversations left out of training\n{shown(whole)}")
    print("  without the rarest word\n" + shown({"ALL": looser["ALL"]}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="file that keeps the examples between runs")
    parser.add_argument("--processes", type=int, default=2, help="processes that compute features")
    parser.add_argument("--no-folds", action="store_true", help="skip the cross-validation")
    parser.add_argument("--out", type=Path, default=TARGET)
    args = parser.parse_args()
    embedder = _embedder()
    if args.cache and args.cache.exists():
        data = pickle.loads(args.cache.read_bytes())
    else:
        data = examples(args.processes)
        if args.cache:
            args.cache.write_bytes(pickle.dumps(data))
    print(f"{len(data)} questions", {k: sum(e.kind == k for e in data) for k in WEIGHT_SETS}, flush=True)
    with_vectors = [e for e in data if e.with_vectors]
    line = f"{date.today()}: python -m bench.train.fit on {DATA}, seed {SEED}"
    trained = {
        "provenance": {"weights": line, "with_meaning": line},
        "weights": train(data, features.FEATURE_NAMES).by_kind,
        "with_meaning": train(with_vectors).by_kind,
    }
    args.out.write_text(json.dumps(trained, indent=1) + "\n")
    if not args.no_folds:
        for name, count in (("people-dev", 3), ("story-dev", 4), ("coding-dev", 4), ("longmemeval-dev", 4)):
            print("terms alone")
            cross_validate(data, name, count, None, features.FEATURE_NAMES)
            print("with word vectors")
            cross_validate(with_vectors, name, count, embedder, NAMES)
        weights = ranker(Weights(trained["with_meaning"]))
        print("locomo-dev, never trained on\n" + shown(measure(load("locomo-dev", embedder), weights)))


if __name__ == "__main__":
    main()
