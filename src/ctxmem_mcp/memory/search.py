"""Finds turns of one conversation for a query: where they are in the tree, and what reading them costs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, with_paths_to
from ctxmem_mcp.memory.reasons import explain_piece
from ctxmem_mcp.memory.retrieve import RankedPiece, Ranking, rank_branch
from ctxmem_mcp.models import Node, Piece, Turn, parse_iso
from ctxmem_mcp.results import Hit
from ctxmem_mcp.retrieval.query import parse
from ctxmem_mcp.text import analyzer
from ctxmem_mcp.text.media import shown_text
from ctxmem_mcp.views.layout import TreeSnapshot
from ctxmem_mcp.views.render import shorten_name

SNIPPET_CHARS = 240
# A search for a text that is not in the index reads this many turns at a time.
LITERAL_TURNS_READ = 200


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What a search is for.

    Attributes:
        query: The words. If none of them is indexed (an emoji, stop words), the text itself is searched for.
        role: Only turns of this role.
        since, until: Only turns of this period: seconds since 1970, inclusive. A turn without a time of its own has
            the time at which it was stored.
        limit: The most hits.
        explain: Say why each hit was chosen.
    """

    query: str
    role: str | None = None
    since: float | None = None
    until: float | None = None
    limit: int = 10
    explain: bool = False

    @property
    def has_period(self) -> bool:
        return (self.since, self.until) != (None, None)

    @property
    def has_filter(self) -> bool:
        """Whether it excludes any turns."""
        return self.role is not None or self.has_period

    @property
    def is_literal(self) -> bool:
        """Whether no word of the query is indexed."""
        return not any(parse(self.query).weights)

    def forms(self, languages: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Returns the query's index terms, each with its forms in these languages."""
        parsed = parse(self.query, (), languages)
        own = (term for term, weight in zip(parsed.terms, parsed.weights, strict=True) if weight)
        return {term: (term, *parsed.other_forms.get(term, ())) for term in own}

    def accepts(self, role: str, at: float) -> bool:
        """Whether a turn of this role and time (seconds since 1970) is wanted."""
        in_period = (self.since is None or at >= self.since) and (self.until is None or at <= self.until)
        return self.role in (None, role) and in_period


@dataclass(frozen=True, slots=True)
class FoundTurn:
    """A turn that was found; its text and its place in the tree are not read yet."""

    branch: BranchReader
    turn_id: str
    best: RankedPiece
    ranking: Ranking

    @property
    def score(self) -> float:
        return round(self.best.score, 3)


async def search(branch: BranchReader, request: SearchRequest) -> list[Hit]:
    """Returns the best turns of a branch that contain words of the query, best first.

    All have a score, none if the query's text itself was searched for: then the newest are first.
    """
    if request.is_literal:
        return await search_literally(branch, request)
    return await load_hits(await find_turns(branch, request), request)


async def find_turns(branch: BranchReader, request: SearchRequest) -> list[FoundTurn]:
    """Returns the best turns of a branch that contain words of the query, best first."""
    accepted_pieces = partial(_accepted, branch, request)
    ranking = await rank_branch(
        branch, request.query, require_match=True, predicate=accepted_pieces if request.has_filter else None
    )
    best: dict[int, RankedPiece] = {}
    if request.has_filter:
        matching = ranking.matching
        accepted = await accepted_pieces([ranked.piece for ranked in matching])
        for ranked in matching:
            if ranked.piece.id in accepted:
                best.setdefault(ranked.piece.index, ranked)
    else:
        for ranked in ranking.iter_matching():
            best.setdefault(ranked.piece.index, ranked)
            if len(best) == request.limit:
                break
    chosen = list(best.values())[: request.limit]
    ids = {turn.seq: turn.id for turn in await branch.metadata_of([one.piece.seq for one in chosen])}
    return [FoundTurn(branch, ids[one.piece.seq], one, ranking) for one in chosen]


async def load_hits(found: Sequence[FoundTurn], request: SearchRequest) -> list[Hit]:
    """Reads the turns that were found in one branch."""
    if not found:
        return []
    branch, terms = found[0].branch, set(found[0].ranking.parsed.forms)
    indexes = [one.best.piece.index for one in found]
    turns, titles = await branch.turns(indexes), await _load_paths(branch, indexes)
    return [
        _hit(
            branch.id,
            turns[index],
            _snippet(turns[index], one.best.piece, terms),
            titles[index],
            one.score,
            explain_piece(one.ranking, one.best) if request.explain else (),
        )
        for index, one in zip(indexes, found, strict=True)
    ]


async def _accepted(branch: BranchReader, request: SearchRequest, pieces: Sequence[Piece]) -> set[int]:
    """Returns the ids of the chunks that the request accepts."""
    if not request.has_period:
        return {piece.id for piece in pieces if request.accepts(piece.role, 0.0)}
    said = {piece.said_at: parse_iso(piece.said_at) for piece in pieces}
    untimed = sorted({piece.seq for piece in pieces if said[piece.said_at] is None})
    stored = {turn.seq: turn.stored_at for turn in await branch.metadata_of(untimed)}
    times = {piece.id: said[piece.said_at] or stored.get(piece.seq, 0.0) for piece in pieces}
    return {piece.id for piece in pieces if request.accepts(piece.role, times[piece.id])}


async def search_literally(branch: BranchReader, request: SearchRequest) -> list[Hit]:
    """Returns the newest turns that contain the query's text, whatever its case."""
    if not (text := request.query.strip()):
        return []
    pattern, found, after = re.compile(re.escape(text), re.IGNORECASE), dict[int, int](), branch.lineage.length
    turns: dict[int, Turn] = {}
    while after > 0 and len(found) < request.limit:
        first = max(0, after - LITERAL_TURNS_READ)
        for index, turn in sorted((await branch.turns(range(first, after))).items(), reverse=True):
            at = parse_iso(turn.said_at) or turn.stored_at
            if request.accepts(turn.role, at) and (match := pattern.search(shown_text(turn.content))):
                found[index], turns[index] = match.start(), turn
        after = first
    chosen = list(found)[: request.limit]
    titles = await _load_paths(branch, chosen)
    return [
        _hit(branch.id, turns[i], _cut(shown_text(turns[i].content), max(0, found[i] - SNIPPET_CHARS // 2)), titles[i])
        for i in chosen
    ]


async def _load_paths(branch: BranchReader, indexes: Sequence[int]) -> Mapping[int, list[str]]:
    """Returns the titles of the sections above each turn, outermost first."""
    snapshot = await with_paths_to(branch, await load_snapshot(branch), indexes)
    paths = {index: _path(snapshot, index) for index in indexes}
    titles = await branch.summaries(node for path in paths.values() for node in path)
    return {i: [titles[node.digest].title for node in path if node.digest in titles] for i, path in paths.items()}


def _path(snapshot: TreeSnapshot, index: int) -> list[Node]:
    """Returns the nodes above a turn, outermost first."""
    path: list[Node] = []
    level: Sequence[Node] = snapshot.roots
    while above := [node for node in level if node.first <= index <= node.last]:
        path.append(above[0])
        level = [snapshot.nodes[digest] for digest in above[0].children]
    return path


def _hit(
    conversation_id: str,
    turn: Turn,
    snippet: str,
    path: list[str],
    score: float | None = None,
    why: Sequence[str] = (),
) -> Hit:
    return Hit(
        turn.id, conversation_id, turn.role, shorten_name(turn.name), turn.said_at, snippet, path, turn.tokens,
        score=score, why=tuple(why),
    )  # fmt: skip


def _snippet(turn: Turn, piece: Piece, terms: set[str]) -> str:
    """Returns the line of a chunk with the most terms of the query, and some of its surroundings."""
    text, language = shown_text(turn.content, piece.start, piece.stop), turn.language
    lines = text.splitlines(keepends=True) or [""]
    scores = [len(terms & set(analyzer.analyze(line[:2_000], language))) for line in lines]
    best = max(range(len(lines)), key=lambda i: (scores[i], -i))
    start = sum(len(line) for line in lines[:best])
    at = _first_match(lines[best], terms, language)
    begin = max(start, start + at - SNIPPET_CHARS // 2) if len(lines[best]) > SNIPPET_CHARS else start
    return _cut(text, begin)


def _cut(text: str, begin: int) -> str:
    snippet = text[begin : begin + SNIPPET_CHARS].strip()
    return f"{'…' if begin > 0 else ''}{snippet}{'…' if begin + SNIPPET_CHARS < len(text) else ''}"


def _first_match(line: str, terms: set[str], language: str | None) -> int:
    """Returns roughly where in a long line the first of these terms is."""
    at = 0
    for word in line.split():
        at = line.find(word, at)
        if terms & set(analyzer.analyze(word, language)):
            return at
        at += len(word)
    return 0
