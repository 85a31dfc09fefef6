"""Commits made by hand, for what Memory would never make, and a Memory over a store, for what it does."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import EXTRACTIVE, NewTurn, Node, Piece, Summary, Turn
from ctxmem_mcp.stores.base import Closing, Commit, Run, State, Store, StoredPiece
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

NOW = 1_750_000_000.0
DAY = 86_400


def remembering(store: Store, clock: Callable[[], float]) -> Memory:
    return Memory(store, ExtractiveSummarizer(), clock=clock)


def fresh(conversation_id: str = "c", space: str | None = None, title: str = "") -> State:
    """The state that the first commit is computed from."""
    return State(
        conversation_id, version=0, head=0, next_seq=1, next_piece=1, runs=(), turns=0, tokens=0, words=0, nodes=0,
        title=title, space=space, salt=b"", encoding="o200k_base", retention_days=30, created=NOW, updated=NOW,
        expires=NOW + 30 * DAY,
    )  # fmt: skip


def digest(of: str) -> bytes:
    return hashlib.sha256(of.encode()).digest()[:16]


def extended(state: State, contents: Sequence[str], *, terms: Sequence[Sequence[str]] = (), now: float = NOW) -> Commit:
    """A commit of these turns on the head, each one piece, with these terms."""
    turns, pieces = [], []
    for i, content in enumerate(contents):
        seq = state.next_seq + i
        turns.append(Turn(seq, seq - 1, digest(f"{seq}{content}"), "user", content, None, None, None, 1))
        words = terms[i] if i < len(terms) else ()
        pieces.append(
            StoredPiece(
                Piece(state.next_piece + i, seq, seq - 1, 0, len(content), 1, len(words), 0, 0, 0, "user", None, None),
                words,
            )
        )
    begun = () if state.runs else (Run(1, 0, 0, 1),)
    after = replace(
        state,
        version=state.version + 1,
        head=state.next_seq + len(turns) - 1,
        next_seq=state.next_seq + len(turns),
        next_piece=state.next_piece + len(pieces),
        runs=(*state.runs, *begun),
        turns=state.turns + len(turns),
        tokens=state.tokens + len(turns),
        updated=now,
        expires=now + state.retention_days * DAY,
    )
    return Commit(after, turns, pieces, (), begun)


def closing(first: int, last: int, closer: int, level: int = 0, title: str = "a title") -> Closing:
    node = Node(digest(f"{level}:{first}-{last}"), level, first, last, 10, 1)
    return Closing(node, closer, Summary(EXTRACTIVE, title))


def talk(how_many: int, about: str = "the parser") -> list[NewTurn]:
    """Requests and answers, long enough that sections close."""
    return [
        NewTurn("user" if i % 2 == 0 else "assistant", f"Turn {i} about {about}: " + f"word{i} is said here. " * 30)
        for i in range(how_many)
    ]


def raw_files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, as it lies there. Read by another process: closing a look at a file in this one
    would drop the locks that SQLite holds on it."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root) / name
            found[str(path.relative_to(folder))] = _read_elsewhere(path)
    return found


def _read_elsewhere(path: Path) -> bytes:
    import subprocess

    return subprocess.run(["cat", str(path)], capture_output=True, check=False).stdout
