"""Ranks chunks for a query: a linear model over features of the index. Reads no text, calls no language model. Pure.

    ranker = BranchRanker(parsed, hits, n=chunks on the branch, mean_words=index terms per chunk)
    facts = ...read PieceFacts of ranker.candidates...      one batched read, at most about 1,400 chunks
    ranked = ranker.rank(facts, weights)                    best first; ranked.why(ordinal) explains a score

`hits` are the store's TermHits with chunk ids replaced by ordinals (positions on the branch: 0, 1, ...), so that
adjacent chunks have adjacent ordinals. Nothing here depends on the kind of store.

weights.json holds two sets of weights: `weights` for terms alone and `with_meaning` for terms and embeddings. Both were
trained by `python -m bench.train.fit`; the file's `provenance` names the day and the data.
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

# The number of chunks that are scored with all features. A conversation with fewer is scored whole.
CANDIDATES = 1_000
# The candidates: the best by their own terms, the neighbours of the first of these, and the regions (runs of chunks)
# with the most matches.
BEST = 600
BEST_WITH_NEIGHBOURS = 200
NEIGHBOUR_REACH = 2
REGION_PIECES = 16
REGIONS_MAX = 10
# Also prose of the user and of the agent, in the regions with the most matches, even if it contains no term itself.
SPOKEN_MAX = 220
# Of terms with more occurrences only the counts are used: their positions mean little and take time to read.
OCCURRENCES_READ_MAX = 2_000
# Once rarer terms have matched this many chunks, a common term only adds to these.
MASKS_ENOUGH = 3_000
_SATURATION = [tf * 2.2 / (tf + 1.2) for tf in range(64)]
_POSITION_BITS = 20
_PROSE = int(Flag.PROSE)

CONVERSATION_KINDS = ("coding", "chat", "dialogue")


@dataclass(frozen=True, slots=True)
class Weights:
    """The weight of each feature, per kind of conversation."""

    by_kind: Mapping[str, Mapping[str, float]]

    def blend(self, kinds: Mapping[str, float]) -> dict[str, float]:
        """Returns the weights for a conversation.

        Args:
            kinds: Share of each kind in the conversation; the shares sum to 1.
        """
        mixed: dict[str, float] = defaultdict(float)
        for kind, share in kinds.items():
            for name, weight in self.by_kind[kind].items():
                mixed[name] += share * weight
        return dict(mixed)


@functools.cache
def load_weights(*, semantic: bool = False) -> Weights:
    """Loads the weights in the package. semantic: those for terms and embeddings, instead of those for terms alone."""
    text = resources.files("ctxmem_mcp.retrieval").joinpath("weights.json").read_text("utf-8")
    return Weights(json.loads(text)["with_meaning" if semantic else "weights"])


def conversation_kinds(facts: Iterable[PieceFacts]) -> dict[str, float]:
    """Estimates the kind of a conversation from some of its chunks.

    Tool calls and output indicate coding, long answers a chat, short turns by named speakers a dialogue.

    Returns:
        The share of each of `CONVERSATION_KINDS`; the shares sum to 1.
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
    """The scored chunks, best first.

    A score is a log-probability up to a constant: a chunk with score s is e times likelier than one with s - 1.
    """

    pieces: tuple[ScoredPiece, ...]
    _columns: Callable[[], Columns]
    _position: Callable[[], Mapping[int, int]]
    _weights: Mapping[str, float]

    def why(self, ordinal: int, most: int = 6) -> list[tuple[str, float]]:
        """Explains a chunk's score.

        Args:
            ordinal: The chunk.
            most: The maximum number of features.

        Returns:
            The features that contributed most, with their contributions, largest magnitude first.
        """
        at = self._position()[ordinal]
        gains = [(name, self._weights.get(name, 0.0) * column[at]) for name, column in self._columns().items()]
        gains = [(name, value) for name, value in gains if abs(value) >= 0.005]
        return sorted(gains, key=lambda pair: (-abs(pair[1]), pair[0]))[:most]


class BranchRanker:
    """Ranks the chunks of one branch for one query."""

    def __init__(self, parsed: ParsedQuery, hits: Mapping[str, TermHits], n: int, mean_words: float) -> None:
        self._parsed, self._n, self._mean_words = parsed, n, mean_words
        self._spoken = [hits[mark].pieces for mark in SPEAKER_TERMS if mark in hits]
        self.matches = _match_terms(parsed, hits, n)

    @property
    def candidates(self) -> list[int]:
        """The ordinals of the chunks to score, ascending. `rank` needs their facts."""
        n = self._n
        if n <= CANDIDATES:
            return list(range(n))
        rough_scores = self.matches.rough_scores
        # For this many, sorting all of them is faster than maintaining a heap.
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
        """Scores chunks.

        Args:
            facts: The chunks to score.
            weights: The weight of each feature.
            similarities: Ordinal -> cosine similarity to the query; None if embeddings are not used.

        Returns:
            The chunks, best first; of equal scores the newer chunk first.
        """
        known = sorted(facts, key=lambda f: f.ordinal)
        matches = replace(self.matches, similarities=similarities) if similarities else self.matches
        found = scores(self._parsed, matches, known, self._n, self._mean_words, weights)
        order = sorted((-score, -fact.ordinal) for fact, score in zip(known, found, strict=True))
        best = [ScoredPiece(-ordinal, -score) for score, ordinal in order]

        @functools.cache
        def by_feature() -> Columns:
            return feature_columns(self._parsed, matches, known, self._n, self._mean_words)

        @functools.cache
        def position() -> Mapping[int, int]:
            return {f.ordinal: i for i, f in enumerate(known)}

        return RankResult(tuple(best), by_feature, position, weights)


def _region_scores(rough_scores: Mapping[int, float]) -> dict[int, float]:
    """The sum of the squared scores in each region, by the region's number."""
    sums: dict[int, float] = defaultdict(float)
    for ordinal, score in rough_scores.items():
        sums[ordinal // REGION_PIECES] += score * score
    return sums


def _match_terms(parsed: ParsedQuery, hits: Mapping[str, TermHits], n: int) -> Matches:
    own = [i for i, weight in enumerate(parsed.weights) if weight >= 1.0]
    idf = [_idf(hits.get(parsed.terms[i]), n) for i in own]
    found = [hits.get(parsed.terms[i]) for i in own]
    counts = [Counter(hit.pieces) if hit else Counter[int]() for hit in found]
    masks, rough_scores = _score_terms(idf, counts)
    exact = sum(1 << j for j, i in enumerate(own) if parsed.terms[i].startswith(EXACT))
    pairs = _pairs(parsed, found, idf)
    return Matches(idf, counts, masks, _heads(found), rough_scores, pairs, exact)


def _score_terms(idf: Sequence[float], counts: Sequence[Counter[int]]) -> tuple[dict[int, int], dict[int, float]]:
    """Per ordinal, the bit set of matching terms and a rough score. Rare terms select chunks, common ones refine."""
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
    """The bit set of the query's terms that are among the first terms of each chunk."""
    head_masks: dict[int, int] = defaultdict(int)
    for j, hit in enumerate(found):
        if hit and len(hit.pieces) <= OCCURRENCES_READ_MAX:
            bit = 1 << j
            for ordinal, position in zip(hit.pieces, hit.positions, strict=True):
                if position < HEAD_TERMS:
                    head_masks[ordinal] |= bit
    return head_masks


def _pairs(parsed: ParsedQuery, found: Sequence[TermHits | None], idf: Sequence[float]) -> dict[int, float]:
    """Per chunk, the share of the query's adjacent term pairs that are adjacent in it too, by idf."""
    positions: dict[int, set[int]] = {}
    whole = sum(idf[a] + idf[b] for a, b in parsed.pairs) or 1.0
    scores: dict[int, float] = defaultdict(float)
    for a, b in parsed.pairs:
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
