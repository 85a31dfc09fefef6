"""Scores pieces for a query: a linear ranker over features of the index, no model, no text read. Pure.

    search = Search(plan, hits, n=pieces on the branch, mean_words=analysed terms per piece)
    facts = ...read PieceFacts of search.wanted...         one batched read, at most ~1,400 pieces
    ranked = search.rank(facts, weights)                    best first; ranked.why(ordinal) says why

`hits` has the store's TermHits with piece ids turned into ordinals, places on the branch (0, 1, ...), so that a
neighbour is an ordinal beside. Nothing here knows what kind of store they come from.
"""

from __future__ import annotations

import functools
import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from math import log
from typing import NamedTuple

from ctxmem_mcp.retrieval.features import HEAD_TERMS, Columns, Matches, PieceFacts, columns
from ctxmem_mcp.retrieval.query import MARKS, Plan
from ctxmem_mcp.retrieval.scoring import scores
from ctxmem_mcp.stores.base import TermHits
from ctxmem_mcp.text.analyzer import EXACT, Flag

# How many pieces are looked at closely. All, where a conversation has no more than this.
CANDIDATES = 1_000
# Of those: the best by their own words, whose neighbours come too, and the stretches where much matches.
BEST = 600
BEST_WITH_NEIGHBOURS = 200
REACH = 2
REGION = 16
REGIONS = 10
# And of what was said by people, and by the agent, what stands where most matches, though no word of it does.
SAID = 220
# Of commoner terms only the counts are used: where exactly they stand says little, and reading it takes time.
OCCURRENCES_READ = 2_000
# Once rarer terms have found this many pieces, a common one finds no more of them.
FOUND_ENOUGH = 3_000
_SATURATION = [tf * 2.2 / (tf + 1.2) for tf in range(64)]
_POSITION_BITS = 20
_PROSE = int(Flag.PROSE)

KINDS = ("coding", "chat", "dialogue")


@dataclass(frozen=True, slots=True)
class Weights:
    """What each feature counts, per kind of conversation; made by bench/train, shipped as weights.json."""

    by_kind: Mapping[str, Mapping[str, float]]

    def blended(self, kinds: Mapping[str, float]) -> dict[str, float]:
        """The weights for a conversation that is of these kinds to these shares (sum 1)."""
        mixed: dict[str, float] = defaultdict(float)
        for kind, share in kinds.items():
            for name, weight in self.by_kind[kind].items():
                mixed[name] += share * weight
        return dict(mixed)


@functools.cache
def shipped_weights(*, meaning: bool = False) -> Weights:
    """The weights that come with the package: those for words alone, or for words and meaning."""
    text = resources.files("ctxmem_mcp.retrieval").joinpath("weights.json").read_text("utf-8")
    return Weights(json.loads(text)["with_meaning" if meaning else "weights"])


def kind_of(facts: Iterable[PieceFacts]) -> dict[str, float]:
    """Which kinds of conversation some of its pieces speak for, as shares that sum to 1.

    Calls and outputs make it coding; long answers make it a chat; short turns by named people make it a dialogue.
    """
    pieces = list(facts)
    n = len(pieces) or 1
    work = sum(1 for p in pieces if p.role == "tool" or not p.flags & _PROSE) / n
    coding = min(1.0, work / 0.3)
    talk = [p for p in pieces if p.role != "tool" and p.flags & _PROSE]
    named = sum(1 for p in talk if p.name) / (len(talk) or 1)
    mean = sum(p.tokens for p in talk) / (len(talk) or 1)
    short = min(1.0, max(0.0, (160 - mean) / 80))
    dialogue = (1 - coding) * short * (0.5 + 0.5 * named)
    return {"coding": coding, "chat": 1 - coding - dialogue, "dialogue": dialogue}


class Scored(NamedTuple):
    ordinal: int
    score: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """Scored pieces, best first, and what each feature paid for each of them.

    A score is a log-probability up to a constant: the piece with score s is e times likelier than one with s - 1.
    """

    pieces: tuple[Scored, ...]
    _columns: Callable[[], Columns]
    _place: Callable[[], Mapping[int, int]]
    _weights: Mapping[str, float]

    def why(self, ordinal: int, most: int = 6) -> list[tuple[str, float]]:
        """The features that paid most for a piece, with what they paid."""
        at = self._place()[ordinal]
        paid = [(name, self._weights.get(name, 0.0) * column[at]) for name, column in self._columns().items()]
        paid = [(name, value) for name, value in paid if abs(value) >= 0.005]
        return sorted(paid, key=lambda pair: (-abs(pair[1]), pair[0]))[:most]


class Search:
    """One query against one branch."""

    def __init__(self, plan: Plan, hits: Mapping[str, TermHits], n: int, mean_words: float) -> None:
        self._plan, self._n, self._mean_words = plan, n, mean_words
        self._said = [hits[mark].pieces for mark in MARKS if mark in hits]
        self.matches = _match(plan, hits, n)

    @property
    def wanted(self) -> list[int]:
        """The ordinals whose facts ranking wants to see, ascending."""
        n = self._n
        if n <= CANDIDATES:
            return list(range(n))
        loose = self.matches.loose
        # Of so many, sorting all of them takes less than keeping a heap.
        found = set(sorted(loose, key=loose.__getitem__, reverse=True)[:BEST])
        for at in sorted(found, key=loose.__getitem__, reverse=True)[:BEST_WITH_NEIGHBOURS]:
            found.update(range(max(0, at - REACH), min(n, at + REACH + 1)))
        heat = _heat(loose)
        for region in heapq.nlargest(REGIONS, heat, key=heat.__getitem__):
            found.update(range(region * REGION, min(n, (region + 1) * REGION)))
        for said in self._said:
            found.update(heapq.nlargest(SAID, said, key=lambda at: (heat.get(at // REGION, 0.0), at)))
        if len(found) < CANDIDATES:
            found.update(range(max(0, n - (CANDIDATES - len(found))), n))
        return sorted(found)

    def rank(
        self, facts: Iterable[PieceFacts], weights: Mapping[str, float], meanings: Mapping[int, float] | None = None
    ) -> Ranked:
        """Scores the pieces whose facts are given. meanings: ordinal -> how near each is to the query, if known."""
        known = sorted(facts, key=lambda f: f.ordinal)
        matches = replace(self.matches, meanings=meanings) if meanings else self.matches
        found = scores(self._plan, matches, known, self._n, self._mean_words, weights)
        order = sorted((-score, -fact.ordinal) for fact, score in zip(known, found, strict=True))
        best = [Scored(-ordinal, -score) for score, ordinal in order]

        @functools.cache
        def cols() -> Columns:
            return columns(self._plan, matches, known, self._n, self._mean_words)

        @functools.cache
        def place() -> Mapping[int, int]:
            return {f.ordinal: i for i, f in enumerate(known)}

        return Ranked(tuple(best), cols, place, weights)


def _heat(loose: Mapping[int, float]) -> dict[int, float]:
    """How much matches in each stretch of the branch, by the stretch's number."""
    sums: dict[int, float] = defaultdict(float)
    for ordinal, score in loose.items():
        sums[ordinal // REGION] += score * score
    return sums


def _match(plan: Plan, hits: Mapping[str, TermHits], n: int) -> Matches:
    own = [i for i, weight in enumerate(plan.weights) if weight >= 1.0]
    idf = [_idf(hits.get(plan.terms[i]), n) for i in own]
    found = [hits.get(plan.terms[i]) for i in own]
    counts = [Counter(hit.pieces) if hit else Counter[int]() for hit in found]
    masks, loose = _spread(idf, counts)
    exact = sum(1 << j for j, i in enumerate(own) if plan.terms[i].startswith(EXACT))
    pairs = _pairs(plan, found, idf)
    return Matches(idf, counts, masks, _heads(found), loose, pairs, exact)


def _spread(idf: Sequence[float], counts: Sequence[Counter[int]]) -> tuple[dict[int, int], dict[int, float]]:
    """Per ordinal, which terms stand there, and a score without lengths; rare terms find, common ones refine."""
    masks: dict[int, int] = defaultdict(int)
    loose: dict[int, float] = defaultdict(float)
    for j in sorted(range(len(counts)), key=lambda j: len(counts[j])):
        count, bit, paid = counts[j], 1 << j, [idf[j] * s for s in _SATURATION]
        refine = len(masks) >= FOUND_ENOUGH and len(count) > FOUND_ENOUGH // 2
        for ordinal in masks.keys() & count.keys() if refine else count:
            tf = count[ordinal]
            masks[ordinal] |= bit
            loose[ordinal] += paid[tf] if tf < 64 else paid[63]
    return masks, loose


def _idf(hit: TermHits | None, n: int) -> float:
    df = hit.df if hit else 0
    return log(1 + (max(n, df) - df + 0.5) / (df + 0.5))


def _heads(found: Sequence[TermHits | None]) -> dict[int, int]:
    """Which terms stand among the first ones of each piece."""
    heads: dict[int, int] = defaultdict(int)
    for j, hit in enumerate(found):
        if hit and len(hit.pieces) <= OCCURRENCES_READ:
            bit = 1 << j
            for ordinal, position in zip(hit.pieces, hit.positions, strict=True):
                if position < HEAD_TERMS:
                    heads[ordinal] |= bit
    return heads


def _pairs(plan: Plan, found: Sequence[TermHits | None], idf: Sequence[float]) -> dict[int, float]:
    """Per piece, the share of the query's pairs of neighbouring terms that stand side by side in it too."""
    places: dict[int, set[int]] = {}
    whole = sum(idf[a] + idf[b] for a, b in plan.pairs) or 1.0
    scores: dict[int, float] = defaultdict(float)
    for a, b in plan.pairs:
        if not (_readable(found[a]) and _readable(found[b])):
            continue
        for j in (a, b):
            if j not in places:
                places[j] = _places(found[j])
        together = {place >> _POSITION_BITS for place in places[a] & {p - 1 for p in places[b]}}
        for ordinal in together:
            scores[ordinal] += (idf[a] + idf[b]) / whole
    return scores


def _readable(hit: TermHits | None) -> bool:
    return hit is not None and len(hit.pieces) <= OCCURRENCES_READ


def _places(hit: TermHits | None) -> set[int]:
    if hit is None:
        return set()
    return {(o << _POSITION_BITS) + p for o, p in zip(hit.pieces, hit.positions, strict=True)}
