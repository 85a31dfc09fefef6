"""Ranks chunks for a query: a linear model over features of the index. Reads no text, calls no language model. Pure.

    ranker = BranchRanker(parsed, hits, n=chunks on the branch, mean_words=index terms per chunk)
    facts = ...read PieceFacts of ranker.candidates...      one batched read, of a long conversation about 1,400 chunks
    ranked = ranker.rank(facts, weights)                    best first; ranked.why(ordinal) explains a score

`hits` are the store's TermHits with chunk ids replaced by ordinals (positions on the branch: 0, 1, ...), so that
adjacent chunks have adjacent ordinals. Nothing here depends on the kind of store.

weights.json holds two sets of weights: `weights` for terms alone and `with_meaning` for terms and embeddings. Both were
trained by `python -m bench.train.fit`; the file's `provenance` names the day and the data.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from math import log
from typing import Any, NamedTuple

from ctxmem_mcp.retrieval.dense_features import dense_columns
from ctxmem_mcp.retrieval.features import HEAD_TERMS, Columns, Matches, feature_columns, position_in
from ctxmem_mcp.retrieval.piece_table import PieceFacts, PieceTable
from ctxmem_mcp.retrieval.query import SPEAKER_TERMS, ParsedQuery
from ctxmem_mcp.stores.records import TermHits
from ctxmem_mcp.text.analyzer import EXACT

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
_POSITION_BITS = 20
# Terms of a query from this weight on are its own words; others mark who speaks.
OWN_WEIGHT = 1.0

CONVERSATION_KINDS = ("coding", "chat", "dialogue")
# Coding conversations have two sets of weights: questions that ask for code, a command or its output (`wants_work`) are
# answered by other chunks than questions about statements, findings or decisions.
WORK = "work"
WEIGHT_SETS = (*CONVERSATION_KINDS, WORK)


@dataclass(frozen=True, slots=True)
class Weights:
    """The weight of each feature, per kind of conversation, and as `WORK` those of questions about coding work."""

    by_kind: Mapping[str, Mapping[str, float]]

    def blend(self, kinds: Mapping[str, float], *, wants_work: bool = False) -> dict[str, float]:
        """Returns the weights for a query about a conversation.

        Args:
            kinds: Share of each kind in the conversation; the shares sum to 1.
            wants_work: Whether the query asks for code, a command or its output (`ParsedQuery.wants_work`).
        """
        mixed: dict[str, float] = defaultdict(float)
        for kind, share in kinds.items():
            weights = self.by_kind[WORK if wants_work and kind == "coding" else kind]
            for name, weight in weights.items():
                mixed[name] += share * weight
        return dict(mixed)


@functools.cache
def load_weights(*, semantic: bool = False) -> Weights:
    """Loads the weights in the package. semantic: those for terms and embeddings, instead of those for terms alone."""
    text = resources.files("ctxmem_mcp.retrieval").joinpath("weights.json").read_text("utf-8")
    return Weights(json.loads(text)["with_meaning" if semantic else "weights"])


def conversation_kinds(facts: Iterable[PieceFacts] | PieceTable) -> dict[str, float]:
    """Estimates the kind of a conversation from some of its chunks.

    Tool calls and output indicate coding, long answers a chat, short turns by named speakers a dialogue.

    Returns:
        The share of each of `CONVERSATION_KINDS`; the shares sum to 1.
    """
    table = facts if isinstance(facts, PieceTable) else PieceTable(facts)
    output = table.has_role("tool")
    work = float((output | ~table.prose).sum()) / (len(table) or 1)
    coding = min(1.0, work / 0.3)
    talk = ~output & table.prose
    talks = int(talk.sum()) or 1
    named = float((talk & table.of_names(bool)).sum()) / talks
    mean = float((table.tokens * talk).sum()) / talks
    short = min(1.0, max(0.0, (160 - mean) / 80))
    dialogue = (1 - coding) * short * (0.5 + 0.5 * named)
    return {"coding": coding, "chat": 1 - coding - dialogue, "dialogue": dialogue}


class ScoredPiece(NamedTuple):
    ordinal: int
    score: float


class RankResult:
    """The scored chunks, best first.

    A score is a log-probability up to a constant: a chunk with score s is e times likelier than one with s - 1.

    Attributes:
        ordinals: Those of the chunks, best first.
        scores: Their scores.
        rows: Their rows in the table that was ranked.
        by_row: The score of each row of that table.
    """

    def __init__(self, table: PieceTable, columns: Columns, scores: Any, weights: Mapping[str, float]) -> None:
        import numpy as np

        # Of equal scores the newer chunk is first.
        self.rows, self.by_row = np.lexsort((-table.ordinal, -scores)), scores
        self.ordinals, self.scores = table.ordinal[self.rows], scores[self.rows]
        self._table, self._columns, self._weights = table, columns, weights

    @functools.cached_property
    def pieces(self) -> tuple[ScoredPiece, ...]:
        return tuple(map(ScoredPiece, self.ordinals.tolist(), self.scores.tolist()))

    @functools.cached_property
    def probabilities(self) -> Any:
        """By row of the table, the probability that the chunk holds the evidence, if one of them does."""
        import numpy as np

        found = np.exp(self.by_row - self.by_row.max(initial=0.0))
        return found / (found.sum() or 1.0)

    @property
    def coverage(self) -> Any:
        """By row of the table, the share of the query's words, by idf, in the chunk and the two beside it."""
        return self._columns["window"]

    def why(self, ordinal: int, most: int = 6) -> list[tuple[str, float]]:
        """Explains a chunk's score.

        Args:
            ordinal: The chunk.
            most: The maximum number of features.

        Returns:
            The features that contributed most, with their contributions, largest magnitude first.
        """
        at = int(self._table.ordinal.searchsorted(ordinal))
        gains = [(name, self._weights.get(name, 0.0) * float(column[at])) for name, column in self._columns.items()]
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
        import numpy as np

        n = self._n
        if n <= CANDIDATES:
            return list(range(n))
        matched, rough = self.matches.ordinals, self.matches.rough_scores[:-1]
        best = matched[np.argsort(-rough, kind="stable")[:BEST]]
        found = set(best.tolist())
        for at in best[:BEST_WITH_NEIGHBOURS].tolist():
            found.update(range(max(0, at - NEIGHBOUR_REACH), min(n, at + NEIGHBOUR_REACH + 1)))
        # The regions that contain terms, and the sum of the squared scores in each; that of all others is zero.
        regions, group = np.unique(matched // REGION_PIECES, return_inverse=True)
        sums = np.append(np.bincount(group, weights=rough * rough, minlength=len(regions)), 0.0)
        for at in np.argsort(-sums, kind="stable")[:REGIONS_MAX].tolist():
            if sums[at]:
                found.update(range(int(regions[at]) * REGION_PIECES, min(n, (int(regions[at]) + 1) * REGION_PIECES)))
        for pieces in self._spoken:
            spoken = np.unique(np.asarray(pieces, dtype=np.int64))
            sum_of = sums[position_in(regions, spoken // REGION_PIECES)]
            found.update(spoken[np.lexsort((-spoken, -sum_of))[:SPOKEN_MAX]].tolist())
        if len(found) < CANDIDATES:
            found.update(range(max(0, n - (CANDIDATES - len(found))), n))
        return sorted(found)

    def rank(
        self,
        facts: Iterable[PieceFacts] | PieceTable,
        weights: Mapping[str, float],
        similarities: Any = None,
        cosines: Any = None,
    ) -> RankResult:
        """Scores chunks.

        Args:
            facts: The chunks to score.
            weights: The weight of each feature.
            similarities: Cosine similarity to the query by ordinal: a mapping, or an array of all chunks of the branch.
                None or empty if embeddings are not used.
            cosines: By row of a table, the similarity to the query by the vectors of a neural model, NaN for a chunk
                without one; None if no such model is used.

        Returns:
            The chunks, best first; of equal scores the newer chunk first.
        """
        import numpy as np

        table = facts if isinstance(facts, PieceTable) else PieceTable(sorted(facts, key=lambda f: f.ordinal))
        near = similarities if similarities is not None and len(similarities) else {}
        columns = feature_columns(self._parsed, replace(self.matches, similarities=near), table, self._mean_words)
        if cosines is not None:
            columns |= dense_columns(cosines)
        scores = np.zeros(len(table))
        for name, column in columns.items():
            if weight := weights.get(name, 0.0):
                scores += weight * column
        return RankResult(table, columns, scores, weights)


def _match_terms(parsed: ParsedQuery, hits: Mapping[str, TermHits], n: int) -> Matches:
    import numpy as np

    own = [i for i, weight in enumerate(parsed.weights) if weight >= OWN_WEIGHT]
    found = [hits.get(parsed.terms[i]) for i in own]
    idf = np.array([_idf(hit, n) for hit in found])
    pieces = [np.asarray(hit.pieces if hit else (), dtype=np.int64) for hit in found]
    ordinals = np.unique(np.concatenate(pieces)) if pieces else np.zeros(0, dtype=np.int64)
    size = len(ordinals) + 1
    counts, heads = np.zeros((len(own), size), dtype=np.int32), np.zeros((len(own), size), dtype=bool)
    places: list[Any] = [None] * len(own)
    for j, (hit, at) in enumerate(zip(found, pieces, strict=True)):
        if hit is None or not len(at):
            continue
        columns = np.searchsorted(ordinals, at)
        counts[j] = np.bincount(columns, minlength=size)
        if len(at) <= OCCURRENCES_READ_MAX:
            positions = np.asarray(hit.positions, dtype=np.int64)
            heads[j, columns[positions < HEAD_TERMS]] = True
            places[j] = (columns << _POSITION_BITS) + positions
    rough_scores = np.zeros(size)
    for weight, count in zip(idf.tolist(), counts, strict=True):
        rough_scores += weight * 2.2 * count / (count + 1.2)
    exact = np.array([parsed.terms[i].startswith(EXACT) for i in own], dtype=bool)
    return Matches(n, ordinals, idf, counts, heads, _pairs(parsed, places, idf, size), exact, rough_scores)


def _idf(hit: TermHits | None, n: int) -> float:
    df = hit.df if hit else 0
    return log(1 + (max(n, df) - df + 0.5) / (df + 0.5))


def _pairs(parsed: ParsedQuery, places: Sequence[Any], idf: Any, size: int) -> Any:
    """Per column of the matches, the share of the query's adjacent term pairs that are adjacent in it too, by idf.

    places: per term, where it occurs: column and position as one number; None for a term that is not read.
    """
    import numpy as np

    whole = float(sum(idf[a] + idf[b] for a, b in parsed.pairs)) or 1.0
    found = np.zeros(size)
    for a, b in parsed.pairs:
        if places[a] is not None and places[b] is not None:
            together = np.intersect1d(places[a], places[b] - 1) >> _POSITION_BITS
            found[np.unique(together)] += (idf[a] + idf[b]) / whole
    return found
