"""Ranks a branch's chunks for a query.

The index knows chunks by their ids in the store, ranking by their ordinals on the branch. An OrdinalMap translates; the
two differ by one in a conversation that never forked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from typing import NamedTuple

import anyio.to_thread

from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.branches import run_end
from ctxmem_mcp.models import Piece, parse_iso
from ctxmem_mcp.retrieval import query as queries
from ctxmem_mcp.retrieval.features import PieceFacts
from ctxmem_mcp.retrieval.query import ParsedQuery
from ctxmem_mcp.retrieval.ranker import BranchRanker, RankResult, conversation_kinds, load_weights
from ctxmem_mcp.stores.base import TermHits
from ctxmem_mcp.text.analyzer import LANGUAGE_TERMS

# Terms in more chunks than this distinguish few chunks, and their occurrences take long to read.
TERM_CAP = 4_000
# A branch of up to this many chunks has all their vectors compared; a larger one only those of the matched chunks.
VECTORS_READ_MAX = 5_000
# This many of the chunks without matching words are ranked too, the nearest in meaning.
NEAREST_RANKED_MAX = 100
# Of questions in other languages the word vectors know little more than the letters: on a German and a Chinese story,
# plain words found 18 / 30 / 64 and 27 / 35 / 67 percent of the evidence in 2,000 / 4,000 / 8,000 tokens, with vectors
# 8 / 26 / 56 and 20 / 27 / 69. None: a question too short to tell.
LANGUAGES_WITH_VECTORS = ("en", None)
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


@dataclass(frozen=True, slots=True)
class Ranking:
    """The chunks of a branch for a query.

    Attributes:
        parsed: the query.
        pieces: best first.
        kinds: the kinds of conversation this is, as shares.
        matched: by ordinal, the chunks that contain terms of the query; the others were found by their surroundings.
    """

    parsed: ParsedQuery
    pieces: list[RankedPiece]
    result: RankResult | None = None
    kinds: Mapping[str, float] | None = None
    matched: Mapping[int, int] | None = None


@dataclass(frozen=True, slots=True)
class OrdinalMap:
    """Translates chunk ids to ordinals on a branch and back. ranges: (first id, one past the last, first ordinal)."""

    ranges: tuple[tuple[int, int, int], ...]

    @property
    def n(self) -> int:
        return sum(end - first for first, end, _ in self.ranges)

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
        return [self.piece(ordinal) for ordinal in ordinals]

    def piece(self, ordinal: int) -> int:
        first, _, offset = self.ranges[bisect_right(self.ranges, ordinal, key=lambda s: s[2]) - 1]
        return first + ordinal - offset

    def translated(self, hit: TermHits) -> TermHits:
        """Returns the hits by ordinal, without those on other branches."""
        if len(self.ranges) == 1:
            first, end, _ = self.ranges[0]
            if hit.pieces and hit.pieces[-1] < end and hit.pieces[0] >= first:
                return TermHits(hit.df, [p - first for p in hit.pieces], hit.positions, hit.capped)
        pairs = [(o, at) for p, at in zip(hit.pieces, hit.positions, strict=True) if (o := self.ordinal(p)) is not None]
        return TermHits(hit.df, [o for o, _ in pairs], [at for _, at in pairs], hit.capped)


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
    parsed = queries.parse(query, await speakers_of(branch), await languages_of(branch))
    if not parsed.terms:
        return Ranking(parsed, [])
    ordinals = await ordinal_map(branch)
    ranker = await _match(branch, ordinals, parsed, TERM_CAP)
    if require_match and not ranker.matches.masks:
        ranker = await _match(branch, ordinals, parsed, branch.state.next_piece)
    candidates = ranker.candidates
    if predicate and len(candidates) < ordinals.n:
        candidates = sorted({*candidates, *await _best_matching(branch, ordinals, ranker, predicate)})
    similarities: dict[int, float] = {}
    if parsed.language in LANGUAGES_WITH_VECTORS:
        candidates, similarities = await _add_nearest(branch, ordinals, query, candidates)
    pieces = dict(zip(candidates, await branch.pieces(ordinals.pieces(candidates)), strict=True))
    # Times are parsed only if the query names one.
    facts = [
        PieceFacts(o, p.index, p.start, p.tokens, p.words, p.flags, p.leaf, p.sitting, p.role, p.name)
        for o, p in pieces.items()
    ]
    if parsed.periods:
        facts = [fact._replace(said_at=parse_iso(pieces[fact.ordinal].said_at)) for fact in facts]
    kinds = conversation_kinds(facts)
    rank = partial(ranker.rank, facts, load_weights(semantic=bool(similarities)).blend(kinds), similarities)
    result = await anyio.to_thread.run_sync(rank) if ordinals.n > PIECES_INLINE_MAX else rank()
    ranked = [RankedPiece(pieces[ordinal], score, ordinal) for ordinal, score in result.pieces]
    return Ranking(parsed, ranked, result, kinds, ranker.matches.masks)


async def _match(branch: BranchReader, ordinals: OrdinalMap, parsed: ParsedQuery, cap: int) -> BranchRanker:
    hits = merge_forms(parsed, await branch.store.term_hits(branch.id, parsed.forms, cap))
    mean_words = branch.state.words / max(1, branch.state.next_piece - 1)

    def match() -> BranchRanker:
        by_ordinal = {term: ordinals.translated(hit) for term, hit in hits.items()}
        return BranchRanker(parsed, by_ordinal, ordinals.n, mean_words)

    return await anyio.to_thread.run_sync(match) if ordinals.n > PIECES_INLINE_MAX else match()


async def _best_matching(
    branch: BranchReader, ordinals: OrdinalMap, ranker: BranchRanker, predicate: Predicate
) -> list[int]:
    """Returns the ordinals of the best chunks that contain words of the query and fit the predicate."""
    at = sorted(ranker.matches.masks)
    pieces = await branch.pieces(ordinals.pieces(at))
    accepted = await predicate(pieces)
    fitting = (ordinal for ordinal, piece in zip(at, pieces, strict=True) if piece.id in accepted)
    return nlargest(MATCHES_RANKED_MAX, fitting, key=lambda ordinal: ranker.matches.rough_scores.get(ordinal, 0.0))


async def _add_nearest(
    branch: BranchReader, ordinals: OrdinalMap, query: str, candidates: list[int]
) -> tuple[list[int], dict[int, float]]:
    """Adds the candidates nearest to the query in meaning; returns all, and the similarity of each.

    No similarity is returned unless all chunks have comparable vectors: scores from words and scores from words and
    meaning can't be compared.
    """
    if branch.embedder is None:
        return candidates, {}
    embed, compared = branch.embedder, candidates if ordinals.n > VECTORS_READ_MAX else range(ordinals.n)
    ordinal_of = {ordinals.piece(ordinal): ordinal for ordinal in compared}
    read = await branch.vectors(list(ordinal_of))
    query_vector = embed.embed([query])[0]
    if len(read) < len(ordinal_of) or not all(embed.comparable(query_vector, vector) for vector in read.values()):
        return candidates, {}
    near = dict(zip((ordinal_of[i] for i in read), embed.cosines(query_vector, list(read.values())), strict=True))
    if len(candidates) < len(near):
        candidates = sorted({*candidates, *nlargest(NEAREST_RANKED_MAX, near, key=near.__getitem__)})
    return candidates, near


async def speakers_of(branch: BranchReader) -> list[str]:
    length = branch.lineage.length
    last = await branch.metadata(length - SPEAKERS_FROM_TURNS, length - 1)
    return sorted({turn.name for turn in last if turn.name and not turn.call_id and turn.role != "tool"})


async def languages_of(branch: BranchReader) -> list[str]:
    """The languages of the conversation that words are stemmed in, besides English; the most common first."""
    # A cap of 0 returns the counts without reading the occurrences.
    hits = await branch.store.term_hits(branch.id, list(LANGUAGE_TERMS.values()), 0)
    counts = {language: hits[term].df for language, term in LANGUAGE_TERMS.items() if term in hits}
    return sorted(counts, key=lambda language: (-counts[language], language))


def merge_forms(parsed: ParsedQuery, hits: Mapping[str, TermHits]) -> dict[str, TermHits]:
    """Returns the hits of the query's terms, each with those of its forms in other languages."""
    return {
        term: found
        for term in parsed.terms
        if (found := _united([hits[form] for form in (term, *parsed.other_forms.get(term, ())) if form in hits]))
    }


def _united(hits: Sequence[TermHits]) -> TermHits | None:
    if len(hits) < 2:
        return hits[0] if hits else None
    if any(hit.capped for hit in hits):
        return TermHits(max(hit.df for hit in hits), capped=True)
    places = sorted({pair for hit in hits for pair in zip(hit.pieces, hit.positions, strict=True)})
    return TermHits(len({piece for piece, _ in places}), [piece for piece, _ in places], [at for _, at in places])


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
