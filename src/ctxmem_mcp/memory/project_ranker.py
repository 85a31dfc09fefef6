"""Ranks the chunks of several conversations for a query, as if the conversations were one.

Their chunks, turns and sittings are numbered one after the other, in the order of time, so that the same features and
weights apply, and scores of different conversations can be compared.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from heapq import nlargest
from itertools import accumulate
from typing import Any

import anyio.to_thread

from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.retrieve import (
    LANGUAGES_WITH_VECTORS,
    NEAREST_RANKED_MAX,
    TERM_CAP,
    OrdinalMap,
    RankedPiece,
    know_language,
    languages_of,
    ordinal_map,
    speakers_of,
)
from ctxmem_mcp.models import parse_iso
from ctxmem_mcp.retrieval import query as queries
from ctxmem_mcp.retrieval.piece_table import PieceFacts
from ctxmem_mcp.retrieval.query import ParsedQuery
from ctxmem_mcp.retrieval.ranker import REGION_PIECES, BranchRanker, conversation_kinds, load_weights
from ctxmem_mcp.retrieval.term_forms import merge_forms
from ctxmem_mcp.stores.records import TermHits

# Of more chunks together only the vectors of those with matching words are compared.
VECTORS_READ_MAX = 5_000


@dataclass(frozen=True, slots=True)
class _Part:
    """A conversation's place among the others: what is added to its ordinals and to its turns' indexes."""

    branch: BranchReader
    ordinals: OrdinalMap
    first: int
    first_turn: int

    def own(self, candidates: Sequence[int]) -> list[int]:
        """Returns the ordinals in this conversation of those of all candidates, which ascend, that are its."""
        begin, end = (bisect_left(candidates, at) for at in (self.first, self.first + self.ordinals.n))
        return [one - self.first for one in candidates[begin:end]]


@dataclass(frozen=True, slots=True)
class ProjectRanking:
    """The chunks of several conversations for a query.

    Attributes:
        pieces: The chunks, best first, numbered over all conversations.
        kinds: The kinds of conversation these are, as shares.
        firsts: The number of each conversation's first chunk.
    """

    pieces: list[RankedPiece]
    kinds: Mapping[str, float]
    firsts: Sequence[int]

    def owner(self, found: RankedPiece) -> int:
        """Returns the position of the conversation that a chunk belongs to."""
        return bisect_right(self.firsts, found.ordinal) - 1


async def rank_project(branches: Sequence[BranchReader], query: str) -> ProjectRanking:
    """Ranks the chunks of these branches, which are in the order of time, for a query."""
    speakers = {name for branch in branches for name in await speakers_of(branch)}
    languages = dict.fromkeys([name for branch in branches for name in await languages_of(branch)])
    parsed = queries.parse(query, sorted(speakers), list(languages))
    parts = await _parts(branches)
    firsts = [part.first for part in parts]
    if not parsed.terms:
        return ProjectRanking([], {}, firsts)
    n = parts[-1].first + parts[-1].ordinals.n
    hits = _joined([await _hits(part, parsed) for part in parts])
    words = sum(branch.state.words for branch in branches)
    mean_words = words / max(1, sum(branch.state.next_piece - 1 for branch in branches))
    ranker = await anyio.to_thread.run_sync(BranchRanker, parsed, hits, n, mean_words)
    candidates = ranker.candidates
    similarities: dict[int, float] = {}
    if parsed.language in LANGUAGES_WITH_VECTORS:
        candidates, similarities = await _add_nearest(parts, parsed, candidates, n)
    pieces = {}
    facts = []
    for part in parts:
        own = part.own(candidates)
        for ordinal, p in zip(own, await part.branch.pieces(part.ordinals.pieces(own)), strict=True):
            at, turn = part.first + ordinal, part.first_turn
            pieces[at] = p
            said = parse_iso(p.said_at) if parsed.periods else None
            facts.append(
                PieceFacts(
                    at, p.index + turn, p.start, p.tokens, p.words, p.flags, p.leaf + turn, p.sitting + turn, p.role,
                    p.name, said,
                )
            )  # fmt: skip
    kinds = conversation_kinds(facts)
    weights = load_weights(semantic=bool(similarities)).blend(kinds, wants_work=parsed.wants_work)
    result = await anyio.to_thread.run_sync(partial(ranker.rank, facts, weights, similarities))
    ranked = [RankedPiece(pieces[ordinal], score, ordinal) for ordinal, score in result.pieces]
    return ProjectRanking(ranked, kinds, firsts)


async def _parts(branches: Sequence[BranchReader]) -> list[_Part]:
    maps = [await ordinal_map(branch) for branch in branches]
    # Two conversations share no region, and the last chunk of one is no neighbour of the first of the next.
    sizes = [(one.n // REGION_PIECES + 1) * REGION_PIECES + REGION_PIECES for one in maps]
    turns = [branch.lineage.length + 1 for branch in branches]
    firsts, first_turns = (list(accumulate(values, initial=0)) for values in (sizes, turns))
    return [_Part(*part) for part in zip(branches, maps, firsts, first_turns, strict=False)]


async def _hits(part: _Part, parsed: ParsedQuery) -> dict[str, TermHits]:
    hits = merge_forms(parsed, await part.branch.store.term_hits(part.branch.id, parsed.forms, TERM_CAP))
    return {term: _moved(part.ordinals.translated(hit), part.first) for term, hit in hits.items()}


def _moved(hit: TermHits, first: int) -> TermHits:
    pieces: Any = hit.pieces  # an array: they were translated
    return replace(hit, pieces=pieces + first)


def _joined(found: Sequence[dict[str, TermHits]]) -> dict[str, TermHits]:
    """Returns the hits of each term in all conversations. Its places count if it is not too common in any of them."""
    import numpy as np

    joined: dict[str, TermHits] = {}
    for term in dict.fromkeys(term for hits in found for term in hits):
        of_term = [hits[term] for hits in found if term in hits]
        df = sum(hit.df for hit in of_term)
        if any(hit.capped for hit in of_term):
            joined[term] = TermHits(df, capped=True)
        else:
            joined[term] = TermHits(
                df,
                np.concatenate([hit.pieces for hit in of_term]),  # type: ignore[arg-type]
                np.concatenate([hit.positions for hit in of_term]),  # type: ignore[arg-type]
            )
    return joined


async def _add_nearest(
    parts: Sequence[_Part], parsed: ParsedQuery, candidates: list[int], n: int
) -> tuple[list[int], dict[int, float]]:
    """Adds the candidates nearest to the query in meaning; returns all, and the similarity of each; see `retrieve`."""
    embed = parts[0].branch.embedder
    if embed is None:
        return candidates, {}
    near: dict[int, float] = {}
    for part in parts:
        own = part.own(candidates)
        compared = own if n > VECTORS_READ_MAX else range(part.ordinals.n)
        ordinal_of = {i: part.first + at for i, at in zip(part.ordinals.pieces(compared), compared, strict=True)}
        if not ordinal_of:
            continue
        read = await part.branch.vectors(list(ordinal_of))
        table = embed.table(list(read.values())) if len(read) == len(ordinal_of) else None
        if table is None or not know_language(table, parsed, await languages_of(part.branch)):
            return candidates, {}
        near.update(zip((ordinal_of[i] for i in read), embed.similarities(parsed.text, table).tolist(), strict=True))
    return sorted({*candidates, *nlargest(NEAREST_RANKED_MAX, near, key=near.__getitem__)}), near
