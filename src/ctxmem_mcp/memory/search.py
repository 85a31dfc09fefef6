"""Finds turns for a query: where they are in the tree, and what reading them costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, with_paths_to
from ctxmem_mcp.memory.reasons import explain_piece
from ctxmem_mcp.memory.retrieve import RankedPiece, rank_branch
from ctxmem_mcp.models import Hit, Node, Piece, Turn, parse_iso
from ctxmem_mcp.text import analyzer
from ctxmem_mcp.views.layout import TreeSnapshot
from ctxmem_mcp.views.render import shorten_name

SNIPPET_CHARS = 240


@dataclass(frozen=True, slots=True)
class Filter:
    """Which turns a search returns. since, until: seconds since 1970, inclusive. limit: how many."""

    role: str | None = None
    since: float | None = None
    until: float | None = None
    limit: int = 10

    @property
    def is_active(self) -> bool:
        """Whether it excludes any turns."""
        return (self.role, self.since, self.until) != (None, None, None)

    def accepts(self, piece: Piece) -> bool:
        if self.role is not None and piece.role != self.role:
            return False
        if self.since is None and self.until is None:
            return True
        at = parse_iso(piece.said_at)
        if at is None:
            return False
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)


async def search(branch: BranchReader, query: str, filter_by: Filter) -> list[Hit]:
    """Returns the best turns of a branch that contain words of the query, best first."""
    best: dict[int, RankedPiece] = {}
    ranking = await rank_branch(
        branch, query, require_match=True, predicate=filter_by.accepts if filter_by.is_active else None
    )
    for ranked in ranking.pieces:
        if ranking.matched and ranked.ordinal in ranking.matched and filter_by.accepts(ranked.piece):
            best.setdefault(ranked.piece.index, ranked)
    chosen = list(best)[: filter_by.limit]
    turns = await branch.turns(chosen)
    snapshot = await with_paths_to(branch, await load_snapshot(branch), chosen)
    paths = {index: _path(snapshot, index) for index in chosen}
    titles = await branch.summaries(node for path in paths.values() for node in path)
    return [
        _hit(
            branch.id,
            turns[i],
            best[i],
            [titles[n.digest].title for n in paths[i] if n.digest in titles],
            set(ranking.parsed.forms),
            explain_piece(ranking, best[i]),
        )
        for i in chosen
    ]


def _path(snapshot: TreeSnapshot, index: int) -> list[Node]:
    """Returns the nodes above a turn, outermost first."""
    path: list[Node] = []
    level: Sequence[Node] = snapshot.roots
    while above := [node for node in level if node.first <= index <= node.last]:
        path.append(above[0])
        level = [snapshot.nodes[digest] for digest in above[0].children]
    return path


def _hit(
    conversation_id: str, turn: Turn, ranked: RankedPiece, path: list[str], terms: set[str], why: list[str]
) -> Hit:
    snippet = _snippet(turn.content[ranked.piece.start : ranked.piece.stop], terms, turn.language)
    return Hit(
        turn.id, conversation_id, turn.role, shorten_name(turn.name), turn.said_at, snippet, path,
        turn.tokens, round(ranked.score, 3), why,
    )  # fmt: skip


def _snippet(text: str, terms: set[str], language: str | None) -> str:
    """Returns the line with the most terms of the query, and some of its surroundings."""
    lines = text.splitlines(keepends=True) or [""]
    scores = [len(terms & set(analyzer.analyze(line[:2_000], language))) for line in lines]
    best = max(range(len(lines)), key=lambda i: (scores[i], -i))
    start = sum(len(line) for line in lines[:best])
    at = _first_match(lines[best], terms, language)
    begin = max(start, start + at - SNIPPET_CHARS // 2) if len(lines[best]) > SNIPPET_CHARS else start
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
