"""Evidence recall within a budget, with views packed offline by a simple rule, beside plain BM25."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.train.corpus import Prepared, load
from bench.train.evidence import recall
from bench.train.handwritten import paraphrases
from ctxmem_mcp.retrieval import query as queries
from ctxmem_mcp.retrieval.ranker import (
    WEIGHT_SETS,
    BranchRanker,
    RankResult,
    Weights,
    conversation_kinds,
    load_weights,
)
from ctxmem_mcp.retrieval.selection import OVERHEAD_TOKENS, Candidate, selection_order
from ctxmem_mcp.text import embeddings

BUDGETS = (2_000, 4_000, 8_000, 16_000)
# The share of a view that its header and outline take.
STRUCTURE_SHARE = 0.15
Ranker = Callable[[Prepared, str], RankResult]


def ranker(weights: Weights) -> Ranker:
    """Returns a function that ranks a conversation's chunks for a question with these weights."""
    kinds: dict[str, dict[str, float]] = {}

    def rank(conversation: Prepared, text: str) -> RankResult:
        if conversation.id not in kinds:
            kinds[conversation.id] = conversation_kinds(conversation.facts)
        parsed = conversation.parse(text)
        blended = weights.blend(kinds[conversation.id], wants_work=parsed.wants_work)
        search = BranchRanker(parsed, conversation.hits(parsed), len(conversation.facts), conversation.mean_words)
        facts = [conversation.facts[o] for o in search.candidates]
        return search.rank(facts, blended, conversation.similarities(parsed))

    return rank


def plain_bm25(conversation: Prepared, text: str) -> RankResult:
    """Ranks by BM25 alone."""
    return ranker(Weights({name: {"bm25": 1.0} for name in WEIGHT_SETS}))(conversation, text)


def view(conversation: Prepared, order: Sequence[int], budget: int) -> str:
    """Returns what a view would quote of these chunks, added in this order while they fit."""
    left, taken, turns = int(budget * (1 - STRUCTURE_SHARE)), set[int](), set[int]()
    for ordinal in order:
        f = conversation.facts[ordinal]
        cost = f.tokens + (0 if f.turn in turns else OVERHEAD_TOKENS)
        if cost <= left:
            taken.add(ordinal)
            turns.add(f.turn)
            left -= cost
        if left < OVERHEAD_TOKENS:
            break
    parts, before = [], -2
    for ordinal in sorted(taken):
        joined = ordinal == before + 1 and conversation.facts[ordinal].start > 0
        parts.append(("" if joined else "\n[...]\n") + conversation.texts[ordinal])
        before = ordinal
    return "".join(parts)


def candidates(conversation: Prepared, ranked: RankResult) -> list[Candidate]:
    known = ((s, conversation.facts[s.ordinal]) for s in ranked.pieces)
    return [Candidate(s.ordinal, s.score, f.tokens, f.flags, f.role, f.name) for s, f in known]


def measure(
    conversations: Sequence[Prepared], rank: Ranker, budgets: Sequence[int] = BUDGETS, *, plain: bool = False,
    asks: Callable[[Prepared, str], str] | None = None, **options: float,
) -> dict[str, list[list[float]]]:  # fmt: skip
    """Returns, per category, the recall of each question at each budget, in percent."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for conversation in conversations:
        coding = conversation_kinds(conversation.facts)["coding"]
        for q in conversation.questions:
            text = asks(conversation, q["query"]) if asks else q["query"]
            ranked = rank(conversation, text)
            row, options["coding"] = [], coding
            for budget in budgets:
                order = (
                    [s.ordinal for s in ranked.pieces if s.score > 0] if plain
                    else selection_order(
                        candidates(conversation, ranked), int(budget * (1 - STRUCTURE_SHARE)), **options
                    )
                )  # fmt: skip
                row.append(100 * recall(conversation, q, view(conversation, order, budget)))
            rows[q["category"]].append(row)
            rows["ALL"].append(row)
    return rows


def shown(rows: Mapping[str, list[list[float]]]) -> str:
    def line(name: str) -> str:
        return f"  {name:26s} n={len(rows[name]):4d}  " + " ".join(
            f"{statistics.fmean(column):5.1f}" for column in zip(*rows[name], strict=True)
        )

    return "\n".join(line(name) for name in sorted(rows, key=lambda n: (n != "ALL", n)))


def without_rarest(conversation: Prepared, text: str) -> str:
    """Returns the question without its rarest word, as somebody who does not remember that word would ask."""
    found = {}
    for word in text.split():
        for term in queries.parse(word).terms[:1]:
            found[word] = len(set(conversation.index.get(term, ((), ()))[0]))
    known = {w: df for w, df in found.items() if df}
    if len(known) < 2:
        return text
    rarest = min(known, key=lambda w: known[w])
    return " ".join(w for w in text.split() if w != rarest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=["locomo-dev", "longmemeval-dev", "coding-dev"])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--meaning", action="store_true", help="use embeddings")
    args = parser.parse_args()
    embedder = embeddings.load_embedder("on") if args.meaning else None
    weights = (
        Weights(json.loads(args.weights.read_text())["with_meaning" if args.meaning else "weights"])
        if args.weights else load_weights(semantic=args.meaning)
    )  # fmt: skip
    for name in args.data:
        conversations = load(name, embedder)
        begun = time.perf_counter()
        rows = measure(conversations, ranker(weights))
        spent = 1000 * (time.perf_counter() - begun) / len(rows["ALL"])
        print(f"{name}: recall in % at {BUDGETS}; {spent:.0f} ms a question\n{shown(rows)}")
        print("bm25\n" + shown({"ALL": measure(conversations, plain_bm25, plain=True)["ALL"]}))
        if name == "coding-dev":
            other = measure([replace(c, questions=paraphrases(c.id)) for c in conversations], ranker(weights))
            print("in other words\n" + shown({"ALL": other["ALL"]}))
        print("without the rarest word\n" + shown(measure(conversations, ranker(weights), asks=without_rarest)))


if __name__ == "__main__":
    main()
