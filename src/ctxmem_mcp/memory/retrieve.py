"""Asks a branch about a query: which of its pieces speak of it, best first.

The index knows pieces by their store ids; ranking knows them by their place on the branch. Runs translate: on a
conversation that never forked the two differ by one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import NamedTuple

from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.branches import run_end
from ctxmem_mcp.models import Piece, parse_iso
from ctxmem_mcp.retrieval import query as queries
from ctxmem_mcp.retrieval.features import PieceFacts
from ctxmem_mcp.retrieval.query import ParsedQuery
from ctxmem_mcp.retrieval.ranker import BranchRanker, RankResult, conversation_kinds, load_weights
from ctxmem_mcp.stores.base import TermHits

# Terms in more pieces than this are too common to tell pieces apart, and too long to read through.
TERM_CAP = 4_000
REASONS_MAX = 4
# Where a branch has no more pieces than this, what each of them means is looked at; else of those that words found.
MEANINGS_READ = 5_000
# And of those that no word found, the nearest in meaning are looked at closely.
NEAREST = 100
# Of those that a search for a role or a time admits, so many are looked at closely.
ADMITTED = 400
# Who speaks is learnt from the last turns.
SPEAKERS_FROM_TURNS = 64


class RankedPiece(NamedTuple):
    """A piece that may answer, and its score: e times likelier than one that has a score lower by one."""

    piece: Piece
    score: float
    ordinal: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """What asking gave: the query as it was read, the pieces best first, and why (by ordinal).

    kinds: of which kinds the conversation is, as shares. matched: the pieces that hold terms of the query themselves;
    others were found by what stands around them.
    """

    parsed: ParsedQuery
    found: list[RankedPiece]
    ranked: RankResult | None = None
    kinds: Mapping[str, float] | None = None
    matched: Mapping[int, int] | None = None

    def why(self, found: RankedPiece) -> list[str]:
        """What paid most for a piece, most first: 'rel +3.48'."""
        paid = self.ranked.why(found.ordinal, REASONS_MAX) if self.ranked else []
        return [f"{name} {value:+.2f}" for name, value in paid]


@dataclass(frozen=True, slots=True)
class OrdinalMap:
    """Piece ids -> ordinals on the branch and back: stretches (first id, one past the last, first place)."""

    stretches: tuple[tuple[int, int, int], ...]

    @property
    def n(self) -> int:
        return sum(end - first for first, end, _ in self.stretches)

    def ordinal(self, piece: int) -> int | None:
        at = bisect_right(self.stretches, piece, key=lambda s: s[0]) - 1
        if at < 0 or piece >= self.stretches[at][1]:
            return None
        return piece - self.stretches[at][0] + self.stretches[at][2]

    def pieces(self, ordinals: Sequence[int]) -> list[int]:
        """The piece at each of these ordinals."""
        if len(self.stretches) == 1:
            first, _, place = self.stretches[0]
            return [first + ordinal - place for ordinal in ordinals]
        return [self.piece(ordinal) for ordinal in ordinals]

    def piece(self, ordinal: int) -> int:
        first, _, place = self.stretches[bisect_right(self.stretches, ordinal, key=lambda s: s[2]) - 1]
        return first + ordinal - place

    def translated(self, hit: TermHits) -> TermHits:
        """The same hits by ordinal; those on other branches left out."""
        if len(self.stretches) == 1:
            first, end, _ = self.stretches[0]
            if hit.pieces and hit.pieces[-1] < end and hit.pieces[0] >= first:
                return TermHits(hit.df, [p - first for p in hit.pieces], hit.positions, hit.capped)
        pairs = [(o, at) for p, at in zip(hit.pieces, hit.positions, strict=True) if (o := self.ordinal(p)) is not None]
        return TermHits(hit.df, [o for o, _ in pairs], [at for _, at in pairs], hit.capped)


async def rank_branch(
    branch: BranchReader, query: str, *, require_match: bool = False, predicate: Callable[[Piece], bool] | None = None
) -> Ranking:
    """Ranks the branch's pieces for a query; three reads, four where they have vectors.

    require_match: only pieces that hold words of the query count, even if all of these are too common to tell pieces
    apart. predicate: only some of these; then all of them are looked through, not just the likeliest to answer.
    """
    parsed = queries.parse(query, await _speakers(branch))
    if not parsed.terms:
        return Ranking(parsed, [])
    ordinals = await _ordinal_map(branch)
    search = await _match(branch, ordinals, parsed, TERM_CAP)
    if require_match and not search.matches.masks:
        search = await _match(branch, ordinals, parsed, branch.state.next_piece)
    wanted = search.candidates
    if predicate and len(wanted) < ordinals.n:
        wanted = sorted({*wanted, *await _best_matching(branch, ordinals, search, predicate)})
    wanted, meanings = await _add_nearest(branch, ordinals, query, wanted)
    pieces = dict(zip(wanted, await branch.pieces(ordinals.pieces(wanted)), strict=True))
    # When each was said is worked out only where the query names a time.
    facts = [
        PieceFacts(o, p.index, p.start, p.tokens, p.words, p.flags, p.leaf, p.sitting, p.role, p.name)
        for o, p in pieces.items()
    ]
    if parsed.periods:
        facts = [fact._replace(said_at=parse_iso(pieces[fact.ordinal].said_at)) for fact in facts]
    kinds = conversation_kinds(facts)
    ranked = search.rank(facts, load_weights(semantic=bool(meanings)).blend(kinds), meanings)
    found = [RankedPiece(pieces[ordinal], score, ordinal) for ordinal, score in ranked.pieces]
    return Ranking(parsed, found, ranked, kinds, search.matches.masks)


async def _match(branch: BranchReader, ordinals: OrdinalMap, parsed: ParsedQuery, cap: int) -> BranchRanker:
    hits = await branch.store.term_hits(branch.id, parsed.terms, cap)
    by_place = {term: ordinals.translated(hit) for term, hit in hits.items()}
    mean_words = branch.state.words / max(1, branch.state.next_piece - 1)
    return BranchRanker(parsed, by_place, ordinals.n, mean_words)


async def _best_matching(
    branch: BranchReader, ordinals: OrdinalMap, search: BranchRanker, predicate: Callable[[Piece], bool]
) -> list[int]:
    """Of all ordinals that hold the query's words the best that are admitted."""
    at = sorted(search.matches.masks)
    pieces = zip(at, await branch.pieces(ordinals.pieces(at)), strict=True)
    return nlargest(
        ADMITTED, (o for o, piece in pieces if predicate(piece)), key=lambda o: search.matches.rough_scores.get(o, 0.0)
    )


async def _add_nearest(
    branch: BranchReader, ordinals: OrdinalMap, query: str, wanted: list[int]
) -> tuple[list[int], dict[int, float]]:
    """The pieces to look at, those near the query in meaning added; and how near each is.

    Nothing is told of meaning unless it is known of all of them: some weighed by words and some by both can't be
    compared.
    """
    if branch.embedder is None:
        return wanted, {}
    embed, looked_at = branch.embedder, wanted if ordinals.n > MEANINGS_READ else range(ordinals.n)
    ordinal_of = {ordinals.piece(ordinal): ordinal for ordinal in looked_at}
    read = await branch.store.vectors(branch.id, list(ordinal_of))
    asked = embed.embed([query])[0]
    if len(read) < len(ordinal_of) or not all(embed.comparable(asked, vector) for vector in read.values()):
        return wanted, {}
    near = dict(zip((ordinal_of[i] for i in read), embed.cosines(asked, list(read.values())), strict=True))
    if len(wanted) < len(near):
        wanted = sorted({*wanted, *nlargest(NEAREST, near, key=near.__getitem__)})
    return wanted, near


async def _speakers(branch: BranchReader) -> list[str]:
    length = branch.lineage.length
    last = await branch.bare(length - SPEAKERS_FROM_TURNS, length - 1)
    return sorted({turn.name for turn in last if turn.name and not turn.call_id and turn.role != "tool"})


async def _ordinal_map(branch: BranchReader) -> OrdinalMap:
    state, place = branch.state, 0
    stretches: list[tuple[int, int, int]] = []
    for segment in branch.lineage.segments:
        end = run_end(state.runs, state.next_seq, segment.first_seq)
        if segment.last_seq < end:
            stop = (await branch.store.pieces_of(branch.id, [segment.last_seq]))[segment.last_seq][-1].id + 1
        else:
            later = [run.first_piece for run in state.runs if run.first_seq == end + 1]
            stop = later[0] if later else state.next_piece
        stretches.append((segment.first_piece, stop, place))
        place += stop - segment.first_piece
    return OrdinalMap(tuple(stretches))
