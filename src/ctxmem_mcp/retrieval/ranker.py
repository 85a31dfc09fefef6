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

from ctxmem_mcp.retrieval.features import HEAD_TERMS, Columns, Matches, PieceFacts, feature_columns
from ctxmem_mcp.retrieval.query import SPEAKER_TERMS, ParsedQuery
from ctxmem_mcp.retrieval.scoring import scores
from ctxmem_mcp.stores.base import TermHits
from ctxmem_mcp.text.analyzer import EXACT, Flag

# How many pieces are looked at closely. All, where a conversation has no more than this.
CANDIDATES = 1_000
# Of those: the best by their own words, whose neighbours come too, and the stretches where much matches.
BEST = 600
BEST_WITH_NEIGHBOURS = 200
NEIGHBOUR_REACH = 2
REGION_PIECES = 16
REGIONS_MAX = 10
# And of what was said by people, and by the agent, what stands where most matches, though no word of it does.
SPOKEN_MAX = 220
# Of commoner terms only the counts are used: where exactly they stand says little, and reading it takes time.
OCCURRENCES_READ_MAX = 2_000
# Once rarer terms have found this many pieces, a common one finds no more of them.
MASKS_ENOUGH = 3_000
_SATURATION = [tf * 2.2 / (tf + 1.2) for tf in range(64)]
_POSITION_BITS = 20
_PROSE = int(Flag.PROSE)

CONVERSATION_KINDS = ("coding", "chat", "dialogue")


@dataclass(frozen=True, slots=True)
class Weights:
    """What each feature counts, per kind of conversation; made by bench/train, shipped as weights.json."""

    by_kind: Mapping[str, Mapping[str, float]]

    def blend(self, kinds: Mapping[str, float]) -> dict[str, float]:
        """The weights for a conversation that is of these kinds to these shares (sum 1)."""
        mixed: dict[str, float] = defaultdict(float)
        for kind, share in kinds.items():
            for name, weight in self.by_kind[kind].items():
                mixed[name] += share * weight
        return dict(mixed)


@functools.cache
def load_weights(*, semantic: bool = False) -> Weights:
    """The weights that come with the package: those for words alone, or for words and meaning."""
    text = resources.files("ctxmem_mcp.retrieval").joinpath("weights.json").read_text("utf-8")
    return Weights(json.loads(text)["with_meaning" if semantic else "weights"])


def conversation_kinds(facts: Iterable[PieceFacts]) -> dict[str, float]:
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


class ScoredPiece(NamedTuple):
    ordinal: int
    score: float


@dataclass(frozen=True, slots=True)
class RankResult:
    """Scored pieces, best first, and what each feature paid for each of them.

    A score is a log-probability up to a constant: the piece with score s is e times likelier than one with s - 1.
    """

    pieces: tuple[ScoredPiece, ...]
    _columns: Callable[[], Columns]
    _position: Callable[[], Mapping[int, int]]
    _weights: Mapping[str, float]

    def why(self, ordinal: int, most: int = 6) -> list[tuple[str, float]]:
        """The features that paid most for a piece, with what they paid."""
        at = self._position()[ordinal]
        gains = [(name, self._weights.get(name, 0.0) * column[at]) for name, column in self._columns().items()]
        gains = [(name, value) for name, value in gains if abs(value) >= 0.005]
        return sorted(gains, key=lambda pair: (-abs(pair[1]), pair[0]))[:most]


class BranchRanker:
    """One query against one branch."""

    def __init__(self, plan: ParsedQuery, hits: Mapping[str, TermHits], n: int, mean_words: float) -> None:
        self._plan, self._n, self._mean_words = plan, n, mean_words
        self._spoken = [hits[mark].pieces for mark in SPEAKER_TERMS if mark in hits]
        self.matches = _match_terms(plan, hits, n)

    @property
    def candidates(self) -> list[int]:
        """The ordinals whose facts ranking wants to see, ascending."""
        n = self._n
        if n <= CANDIDATES:
            return list(range(n))
        rough_scores = self.matches.rough_scores
        # Of so many, sorting all of them takes less than keeping a heap.
        found = set(sorted(rough_scores, key=rough_scores.__getitem__, reverse=True)[:BEST])
        for at in sorted(found, key=rough_scores.__getitem__, reverse=True)[:BEST_WITH_NEIGHBOURS]:
            found.update(range(max(0, at - NEIGHBOUR_REACH), min(n, at + NEIGHBOUR_REACH + 1)))
        region_scores = _region_scores(rough_scores)
        for region in heapq.nlargest(REGIONS_MAX, region_scores, key=region_scores.__getitem__):
            found.update(range(region * REGION_PIECES, min(n, (region + 1) * REGION_PIECES)))
        for spoken in self._spoken:
            found.update(
                heapq.nlargest(SPOKEN_MAX, spoken, key=lambda at: (region_scores.get(at // REGION_PIECES, 0.0), at))
            )
        if len(found) < CANDIDATES:
            found.update(range(max(0, n - (CANDIDATES - len(found))), n))
        return sorted(found)

    def rank(
        self, facts: Iterable[PieceFacts], weights: Mapping[str, float], similarities: Mapping[int, float] | None = None
    ) -> RankResult:
        """Scores the pieces whose facts are given. meanings: ordinal -> how near each is to the query, if known."""
        known = sorted(facts, key=lambda f: f.ordinal)
        matches = replace(self.matches, similarities=similarities) if similarities else self.matches
        found = scores(self._plan, matches, known, self._n, self._mean_words, weights)
        order = sorted((-score, -fact.ordinal) for fact, score in zip(known, found, strict=True))
        best = [ScoredPiece(-ordinal, -score) for score, ordinal in order]

        @functools.cache
        def by_feature() -> Columns:
            return feature_columns(self._plan, matches, known, self._n, self._mean_words)

        @functools.cache
        def position() -> Mapping[int, int]:
            return {f.ordinal: i for i, f in enumerate(known)}

        return RankResult(tuple(best), by_feature, position, weights)


def _region_scores(rough_scores: Mapping[int, float]) -> dict[int, float]:
    """How much matches in each stretch of the branch, by the stretch's number."""
    sums: dict[int, float] = defaultdict(float)
    for ordinal, score in rough_scores.items():
        sums[ordinal // REGION_PIECES] += score * score
    return sums


def _match_terms(plan: ParsedQuery, hits: Mapping[str, TermHits], n: int) -> Matches:
    own = [i for i, weight in enumerate(plan.weights) if weight >= 1.0]
    idf = [_idf(hits.get(plan.terms[i]), n) for i in own]
    found = [hits.get(plan.terms[i]) for i in own]
    counts = [Counter(hit.pieces) if hit else Counter[int]() for hit in found]
    masks, rough_scores = _score_terms(idf, counts)
    exact = sum(1 << j for j, i in enumerate(own) if plan.terms[i].startswith(EXACT))
    pairs = _pairs(plan, found, idf)
    return Matches(idf, counts, masks, _heads(found), rough_scores, pairs, exact)


def _score_terms(idf: Sequence[float], counts: Sequence[Counter[int]]) -> tuple[dict[int, int], dict[int, float]]:
    """Per ordinal, which terms stand there, and a score without lengths; rare terms find, common ones refine."""
    masks: dict[int, int] = defaultdict(int)
    rough_scores: dict[int, float] = defaultdict(float)
    for j in sorted(range(len(counts)), key=lambda j: len(counts[j])):
        count, bit, gains = counts[j], 1 << j, [idf[j] * s for s in _SATURATION]
        refine = len(masks) >= MASKS_ENOUGH and len(count) > MASKS_ENOUGH // 2
        for ordinal in masks.keys() & count.keys() if refine else count:
            tf = count[ordinal]
            masks[ordinal] |= bit
            rough_scores[ordinal] += gains[tf] if tf < 64 else gains[63]
    return masks, rough_scores


def _idf(hit: TermHits | None, n: int) -> float:
    df = hit.df if hit else 0
    return log(1 + (max(n, df) - df + 0.5) / (df + 0.5))


def _heads(found: Sequence[TermHits | None]) -> dict[int, int]:
    """Which terms stand among the first ones of each piece."""
    head_masks: dict[int, int] = defaultdict(int)
    for j, hit in enumerate(found):
        if hit and len(hit.pieces) <= OCCURRENCES_READ_MAX:
            bit = 1 << j
            for ordinal, position in zip(hit.pieces, hit.positions, strict=True):
                if position < HEAD_TERMS:
                    head_masks[ordinal] |= bit
    return head_masks


def _pairs(plan: ParsedQuery, found: Sequence[TermHits | None], idf: Sequence[float]) -> dict[int, float]:
    """Per piece, the share of the query's pairs of neighbouring terms that stand side by side in it too."""
    positions: dict[int, set[int]] = {}
    whole = sum(idf[a] + idf[b] for a, b in plan.pairs) or 1.0
    scores: dict[int, float] = defaultdict(float)
    for a, b in plan.pairs:
        if not (_readable(found[a]) and _readable(found[b])):
            continue
        for j in (a, b):
            if j not in positions:
                positions[j] = _positions(found[j])
        together = {position >> _POSITION_BITS for position in positions[a] & {p - 1 for p in positions[b]}}
        for ordinal in together:
            scores[ordinal] += (idf[a] + idf[b]) / whole
    return scores


def _readable(hit: TermHits | None) -> bool:
    return hit is not None and len(hit.pieces) <= OCCURRENCES_READ_MAX


def _positions(hit: TermHits | None) -> set[int]:
    if hit is None:
        return set()
    return {(o << _POSITION_BITS) + p for o, p in zip(hit.pieces, hit.positions, strict=True)}
