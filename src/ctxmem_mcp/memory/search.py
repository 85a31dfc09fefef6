"""Finds turns that speak of a query, and says where they stand and what reading them costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, with_paths_to
from ctxmem_mcp.memory.retrieve import RankedPiece, rank_branch
from ctxmem_mcp.models import Hit, Node, Piece, Turn, parse_iso
from ctxmem_mcp.text import analyzer
from ctxmem_mcp.views.layout import TreeSnapshot
from ctxmem_mcp.views.render import shorten_name

SNIPPET_CHARS = 240


@dataclass(frozen=True, slots=True)
class Filter:
    """What a search looks for: a role, a time between two instants (seconds since 1970), how many."""

    role: str | None = None
    since: float | None = None
    until: float | None = None
    limit: int = 10

    @property
    def some(self) -> bool:
        """Whether it leaves out turns, whatever they say."""
        return (self.role, self.since, self.until) != (None, None, None)

    def admits(self, piece: Piece) -> bool:
        if self.role is not None and piece.role != self.role:
            return False
        if self.since is None and self.until is None:
            return True
        at = parse_iso(piece.said_at)
        if at is None:
            return False
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)


async def search(branch: BranchReader, query: str, wanted: Filter) -> list[Hit]:
    """The turns of a branch that answer best, best first."""
    best: dict[int, RankedPiece] = {}
    answer = await rank_branch(branch, query, require_match=True, predicate=wanted.admits if wanted.some else None)
    for found in answer.found:
        if answer.matched and found.ordinal in answer.matched and wanted.admits(found.piece):
            best.setdefault(found.piece.index, found)
    chosen = list(best)[: wanted.limit]
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
            query,
            answer.why(best[i]),
        )
        for i in chosen
    ]


def _path(snapshot: TreeSnapshot, index: int) -> list[Node]:
    """The nodes above a turn, outermost first."""
    path: list[Node] = []
    level: Sequence[Node] = snapshot.roots
    while above := [node for node in level if node.first <= index <= node.last]:
        path.append(above[0])
        level = [snapshot.nodes[digest] for digest in above[0].children]
    return path


def _hit(conversation_id: str, turn: Turn, found: RankedPiece, path: list[str], query: str, why: list[str]) -> Hit:
    text = turn.content[found.piece.start : found.piece.stop]
    return Hit(
        turn.id, conversation_id, turn.role, shorten_name(turn.name), turn.said_at, _snippet(text, query), path,
        turn.tokens, round(found.score, 3), why,
    )  # fmt: skip


def _snippet(text: str, query: str) -> str:
    """The line that says most of the query, with what stands around it."""
    wanted = set(analyzer.analyze(query))
    lines = text.splitlines(keepends=True) or [""]
    scores = [len(wanted & set(analyzer.analyze(line[:2_000]))) for line in lines]
    best = max(range(len(lines)), key=lambda i: (scores[i], -i))
    start = sum(len(line) for line in lines[:best])
    at = _first_place(lines[best], wanted)
    begin = max(start, start + at - SNIPPET_CHARS // 2) if len(lines[best]) > SNIPPET_CHARS else start
    snippet = text[begin : begin + SNIPPET_CHARS].strip()
    return f"{'…' if begin > 0 else ''}{snippet}{'…' if begin + SNIPPET_CHARS < len(text) else ''}"


def _first_place(line: str, wanted: set[str]) -> int:
    """Roughly where in a long line the first wanted word stands."""
    at = 0
    for word in line.split():
        at = line.find(word, at)
        if wanted & set(analyzer.analyze(word)):
            return at
        at += len(word)
    return 0
