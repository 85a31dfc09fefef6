"""Ranks a branch's chunks for a query.

The index knows chunks by their ids in the store, ranking by their ordinals on the branch. An OrdinalMap translates; the
two differ by one in a conversation that never forked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from itertools import accumulate
from operator import itemgetter
from typing import Any, NamedTuple

import anyio.to_thread

from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.branch_table import BranchTable
from ctxmem_mcp.memory.branches import run_end
from ctxmem_mcp.models import Piece
from ctxmem_mcp.retrieval import compounds
from ctxmem_mcp.retrieval import query as queries
from ctxmem_mcp.retrieval.dense_features import load_dense_weights
from ctxmem_mcp.retrieval.features import Matches
from ctxmem_mcp.retrieval.query import ParsedQuery
from ctxmem_mcp.retrieval.ranker import (
    OWN_WEIGHT,
    BranchRanker,
    RankResult,
    Weights,
    conversation_kinds,
    load_weights,
)
from ctxmem_mcp.retrieval.term_forms import merge_forms, places_of
from ctxmem_mcp.stores.records import TermHits
from ctxmem_mcp.text import word_tables
from ctxmem_mcp.text.chunk_flags import LANGUAGE_TERMS
from ctxmem_mcp.text.embeddings import VectorTable

# Terms in more chunks than this distinguish few chunks, and their occurrences take long to read.
TERM_CAP = 4_000
# If all words of a query that are on the branch are in more, those that are in the fewest count after all, as many as
# are in so many together.
FREQUENT_CHUNKS_MAX = 40_000
# Of a branch of up to this many chunks, all are kept in memory, and all their vectors compared with the query; of a
# larger one only those of the candidates are read.
TABLE_CHUNKS_MAX = 5_000
# This many of the chunks without matching words are ranked too, the nearest in meaning.
NEAREST_RANKED_MAX = 100
# The languages whose words have vectors. Of questions in others the vectors know little more than the letters. None: a
# question too short to tell.
LANGUAGES_WITH_VECTORS = ("en", None, *sorted(word_tables.LANGUAGES))
# Vectors count for a question in a language with a table if the table was used for this share of the chunks in the
# language. It is for all prose that is stored since there is one. How many chunks of a branch, or of the candidates,
# are in the language is estimated by the conversation's share of them.
FROM_TABLES_MIN = 0.8
# At most this many of the chunks that fit a predicate are ranked.
MATCHES_RANKED_MAX = 400
# Speakers' names are taken from the last turns, this many.
SPEAKERS_FROM_TURNS = 64
# With more pieces on a branch, they are matched and ranked in a thread: a tenth of a second for some thousands.
PIECES_INLINE_MAX = 500


# Returns the ids of those of some chunks that a caller wants.
Predicate = Callable[[Sequence[Piece]], Awaitable[Collection[int]]]


class RankedPiece(NamedTuple):
    """A chunk and its score. One point more means e times as likely to answer the query."""

    piece: Piece
    score: float
    ordinal: int


@dataclass(frozen=True)
class Ranking:
    """The chunks of a branch for a query.

    Attributes:
        parsed: the query.
        table: the chunks that were ranked.
        result: their order.
        kinds: the kinds of conversation this is, as shares.
        matches: where the terms of the query occur; chunks without any were found by their surroundings.
    """

    parsed: ParsedQuery
    table: BranchTable
    result: RankResult | None = None
    kinds: Mapping[str, float] | None = None
    matches: Matches | None = None

    def piece(self, rank: int) -> RankedPiece:
        """Returns the chunk at a rank, of which 0 is the best."""
        assert self.result is not None
        row, score, ordinal = self.result.rows[rank], self.result.scores[rank], self.result.ordinals[rank]
        return RankedPiece(self.table.pieces[row], float(score), int(ordinal))

    @property
    def pieces(self) -> list[RankedPiece]:
        """All chunks that were ranked, best first. A view reads few of them."""
        return [self.piece(rank) for rank in range(len(self.result.ordinals))] if self.result else []

    def iter_pieces(self) -> Iterator[Piece]:
        """Yields the chunks that were ranked, best first, without their scores."""
        if self.result is not None:
            yield from map(self.table.pieces.__getitem__, self.result.rows.tolist())

    @property
    def matching(self) -> list[RankedPiece]:
        """The chunks that contain terms of the query, best first."""
        return list(self.iter_matching())

    def iter_matching(self) -> Iterator[RankedPiece]:
        """Yields the chunks that contain terms of the query, best first."""
        if self.result is not None and self.matches is not None:
            yield from map(self.piece, self.matches.contain_terms(self.result.ordinals).nonzero()[0].tolist())


@dataclass(frozen=True, slots=True)
class OrdinalMap:
    """Translates chunk ids to ordinals on a branch and back. ranges: (first id, one past the last, first ordinal)."""

    ranges: tuple[tuple[int, int, int], ...]

    @property
    def n(self) -> int:
        return sum(end - first for first, end, _ in self.ranges)

    def begins_with(self, ranges: tuple[tuple[int, int, int], ...]) -> bool:
        """Whether the chunks of these ranges are the first ones here, with the same ordinals."""
        at = len(ranges) - 1
        if not 0 <= at < len(self.ranges) or ranges[:at] != self.ranges[:at]:
            return False
        (first, end, offset), (own_first, own_end, own_offset) = ranges[at], self.ranges[at]
        return (first, offset) == (own_first, own_offset) and end <= own_end

    def ordinal(self, piece: int) -> int | None:
        at = bisect_right(self.ranges, piece, key=lambda s: s[0]) - 1
        if at < 0 or piece >= self.ranges[at][1]:
            return None
        return piece - self.ranges[at][0] + self.ranges[at][2]

    def pieces(self, ordinals: Sequence[int]) -> list[int]:
        """Returns the ids of the chunks at these ordinals."""
        if len(self.ranges) == 1:
            first, _, offset = self.ranges[0]
            return [first + ordinal - offset for ordinal in ordinals]
        import numpy as np

        # A lookup in the ranges per chunk takes several milliseconds for a thousand.
        firsts, _, offsets = (np.array(column, dtype=np.int64) for column in zip(*self.ranges, strict=True))
        at = np.searchsorted(offsets, ordinals, side="right") - 1
        ids: list[int] = (np.asarray(ordinals, dtype=np.int64) - offsets[at] + firsts[at]).tolist()
        return ids

    def translated(self, hit: TermHits) -> TermHits:
        """Returns the hits by ordinal, without those on other branches, as arrays."""
        import numpy as np

        pieces, positions = places_of(hit)
        if not self.ranges:
            return TermHits(hit.df, pieces[:0], positions[:0], hit.capped)
        firsts, ends, offsets = (np.array(column, dtype=np.int64) for column in zip(*self.ranges, strict=True))
        at = np.searchsorted(firsts, pieces, side="right") - 1
        own = (at >= 0) & (pieces < ends[at])
        return TermHits(hit.df, (pieces - firsts[at] + offsets[at])[own], positions[own], hit.capped)


async def rank_branch(
    branch: BranchReader, query: str, *, require_match: bool = False, predicate: Predicate | None = None
) -> Ranking:
    """Ranks the branch's chunks for a query, in three reads; four if they have vectors.

    Args:
        branch: The branch.
        query: What a reader wants to know.
        require_match: The caller wants only chunks with words of the query, even if all of these words are too common
            to distinguish chunks.
        predicate: The caller wants only such chunks. Then all that have words of the query are read, not just the
            likeliest to answer.
    """
    languages = await languages_of(branch)
    parsed = queries.parse(query, await speakers_of(branch), list(languages))
    if parsed.language in compounds.LANGUAGES:
        parsed = queries.with_compounds(parsed, await branch.vocabulary())
    ordinals = await ordinal_map(branch)
    if not parsed.terms or not ordinals.n:
        return Ranking(parsed, BranchTable.of((), ()))
    hits = merge_forms(parsed, await branch.store.term_hits(branch.id, parsed.forms, TERM_CAP))
    own, some_capped = _own_hits(parsed, hits), any(hit.capped for hit in hits.values())
    if some_capped and all(hit.capped or not len(ordinals.translated(hit).pieces) for hit in own):
        cap = branch.state.next_piece if require_match else _cap_of_rarest([hit for hit in own if hit.capped])
        hits = merge_forms(parsed, await branch.store.term_hits(branch.id, parsed.forms, cap)) if cap else hits
    ranker = await _match(branch, ordinals, parsed, hits)
    candidates = ranker.candidates
    if predicate and len(candidates) < ordinals.n:
        candidates = sorted({*candidates, *await _best_matching(branch, ordinals, ranker, predicate)})
    with_vectors = branch.embedder is not None and parsed.language in LANGUAGES_WITH_VECTORS
    if ordinals.n <= TABLE_CHUNKS_MAX:
        whole = await _whole_table(branch, ordinals, with_vectors=with_vectors)
        with_vectors = with_vectors and know_language(whole.vectors, parsed, languages)
        similarities = whole.similarities(branch.embedder, query) if branch.embedder and with_vectors else ()
        cosines = await _dense_cosines(branch, parsed, whole)
        rows = _with_nearest(_with_nearest(candidates, similarities), cosines)
        table, cosines = whole.take(rows), cosines[rows] if cosines is not None else None
    else:
        similarities = await _similarities(branch, ordinals, parsed, candidates, languages) if with_vectors else {}
        table = BranchTable.of(candidates, await branch.pieces(ordinals.pieces(candidates)))
        cosines = await _dense_cosines(branch, parsed, table)
    kinds = conversation_kinds(table.rows)
    weights = load_weights(semantic=len(similarities) > 0).blend(kinds, wants_work=parsed.wants_work)
    if cosines is not None:
        weights |= Weights(load_dense_weights()).blend(kinds)
    rank = partial(ranker.rank, table.rows, weights, similarities, cosines)
    result = await anyio.to_thread.run_sync(rank) if ordinals.n > PIECES_INLINE_MAX else rank()
    return Ranking(parsed, table, result, kinds, ranker.matches)


async def _dense_cosines(branch: BranchReader, parsed: ParsedQuery, table: BranchTable) -> Any:
    """Returns the similarity of each chunk to the query by the vectors of a neural model, NaN for one that has none.

    None if no model is used, if too few vectors are computed yet, or if the query asks for code, a command or its
    output, which have no vectors: speech would displace a twentieth of the evidence in 2,000 tokens.
    """
    if branch.dense is None or parsed.wants_work:
        return None
    if (question := await branch.dense.embed_question(parsed.text, parsed.language)) is None:
        return None
    return await table.dense_cosines(branch.dense, branch.id, question)


def _with_nearest(candidates: Sequence[int] | Any, similarities: Any) -> Any:
    """Adds the candidates nearest to the query in meaning. similarities: of all chunks, NaN if not known."""
    import numpy as np

    found = np.asarray(candidates, dtype=np.int64)
    if similarities is None or not len(similarities):
        return found
    nearest = np.argsort(-similarities, kind="stable")[:NEAREST_RANKED_MAX]
    return np.union1d(found, nearest[~np.isnan(similarities[nearest])])


async def _whole_table(branch: BranchReader, ordinals: OrdinalMap, *, with_vectors: bool) -> BranchTable:
    """Returns the table of all chunks of the branch, from the cache as far as the branch is the same as before."""
    tables = branch.cache.tables
    if (table := tables.get(ordinals.ranges)) is None:
        beginnings = (known for ranges, known in tables.items() if ordinals.begins_with(ranges))
        table = next(beginnings, None) or BranchTable.of((), ())
        added = range(len(table.pieces), ordinals.n)
        more = BranchTable.of(added, await branch.pieces(ordinals.pieces(added)))
        if table.vectors is not None:
            await _load_vectors(branch, more)
        table = table.extended(more)
        tables.clear()
        tables[ordinals.ranges] = table
    if with_vectors and table.vectors is None:
        await _load_vectors(branch, table)
    return table


async def _load_vectors(branch: BranchReader, table: BranchTable) -> None:
    if branch.embedder is not None:
        read = await branch.vectors([piece.id for piece in table.pieces])
        table.load_vectors(branch.embedder, [read[piece.id] for piece in table.pieces if piece.id in read])


def _own_hits(parsed: ParsedQuery, hits: Mapping[str, TermHits]) -> list[TermHits]:
    """Returns the hits of the words of the query, without those of the marks of speakers."""
    own = (term for term, weight in zip(parsed.terms, parsed.weights, strict=True) if weight >= OWN_WEIGHT)
    return [hits[term] for term in own if term in hits]


def _cap_of_rarest(hits: Sequence[TermHits]) -> int:
    """Returns the cap at which the rarest of these terms are read; 0 if even one is in too many chunks."""
    counts = sorted(hit.df for hit in hits)
    fitting = [df for df, total in zip(counts, accumulate(counts), strict=True) if total <= FREQUENT_CHUNKS_MAX]
    return fitting[-1] if fitting else 0


async def _match(
    branch: BranchReader, ordinals: OrdinalMap, parsed: ParsedQuery, hits: Mapping[str, TermHits]
) -> BranchRanker:
    mean_words = branch.state.words / max(1, branch.state.next_piece - 1)

    def match() -> BranchRanker:
        by_ordinal = {term: ordinals.translated(hit) for term, hit in hits.items()}
        return BranchRanker(parsed, by_ordinal, ordinals.n, mean_words)

    return await anyio.to_thread.run_sync(match) if ordinals.n > PIECES_INLINE_MAX else match()


async def _best_matching(
    branch: BranchReader, ordinals: OrdinalMap, ranker: BranchRanker, predicate: Predicate
) -> list[int]:
    """Returns the ordinals of the best chunks that contain words of the query and fit the predicate."""
    matches = ranker.matches
    at = matches.ordinals.tolist()
    pieces = await branch.pieces(ordinals.pieces(at))
    accepted = await predicate(pieces)
    scored = zip(at, matches.rough_scores[:-1].tolist(), pieces, strict=True)
    fitting = ((score, ordinal) for ordinal, score, piece in scored if piece.id in accepted)
    return [ordinal for _, ordinal in nlargest(MATCHES_RANKED_MAX, fitting, key=itemgetter(0))]


async def _similarities(
    branch: BranchReader,
    ordinals: OrdinalMap,
    parsed: ParsedQuery,
    candidates: Sequence[int],
    languages: Mapping[str, float],
) -> dict[int, float]:
    """Returns the similarity of each candidate to the query.

    Empty unless all have comparable vectors: scores from words and scores from words and meaning can't be compared.
    """
    assert branch.embedder is not None
    ids = ordinals.pieces(candidates)
    read = await branch.vectors(ids)
    table = branch.embedder.table(list(read.values())) if len(read) == len(ids) else None
    if table is None or not know_language(table, parsed, languages):
        return {}
    near = dict(zip(read, branch.embedder.similarities(parsed.text, table).tolist(), strict=True))
    return {ordinal: near[i] for ordinal, i in zip(candidates, ids, strict=True)}


def know_language(table: VectorTable | None, parsed: ParsedQuery, languages: Mapping[str, float]) -> bool:
    """Returns whether vectors can tell what a question is about.

    Those of turns stored before their language had a table of words know only letters. If a conversation has many of
    them, its vectors don't count, though those of later turns were computed with the table.

    Args:
        table: The vectors of chunks.
        parsed: The question.
        languages: The languages of the conversation besides English, each with its share of the chunks.
    """
    if table is None or (share := languages.get(parsed.language or "")) is None:
        return table is not None
    return table.from_tables >= FROM_TABLES_MIN * share * len(table.vectors) and table.from_tables > 0


async def speakers_of(branch: BranchReader) -> list[str]:
    length = branch.lineage.length
    last = await branch.metadata(length - SPEAKERS_FROM_TURNS, length - 1)
    return sorted({turn.name for turn in last if turn.name and not turn.call_id and turn.role != "tool"})


async def languages_of(branch: BranchReader) -> dict[str, float]:
    """The languages of the conversation that words are stemmed in, besides English; the most common first.

    Each with its share of the conversation's chunks.
    """
    cache, key = branch.cache.languages, branch.state.version
    if key not in cache:
        # A cap of 0 returns the counts without reading the occurrences.
        hits = await branch.store.term_hits(branch.id, list(LANGUAGE_TERMS.values()), 0)
        counts = {language: hits[term].df for language, term in LANGUAGE_TERMS.items() if term in hits}
        cache.clear()
        order, chunks = sorted(counts, key=lambda language: (-counts[language], language)), branch.state.next_piece - 1
        cache[key] = {language: counts[language] / max(1, chunks) for language in order}
    return cache[key]


async def ordinal_map(branch: BranchReader) -> OrdinalMap:
    state, offset = branch.state, 0
    ranges: list[tuple[int, int, int]] = []
    for segment in branch.lineage.segments:
        end = run_end(state.runs, state.next_seq, segment.first_seq)
        if segment.last_seq < end:
            stop = (await branch.store.pieces_of(branch.id, [segment.last_seq]))[segment.last_seq][-1].id + 1
        else:
            later = [run.first_piece for run in state.runs if run.first_seq == end + 1]
            stop = later[0] if later else state.next_piece
        ranges.append((segment.first_piece, stop, offset))
        offset += stop - segment.first_piece
    return OrdinalMap(tuple(ranges))
