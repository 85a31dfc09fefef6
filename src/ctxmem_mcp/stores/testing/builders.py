"""Builds states and commits by hand, valid ones and ones that a memory would never write."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from ctxmem_mcp.models import EXTRACTIVE, Node, Piece, Summary, Turn
from ctxmem_mcp.stores.records import Closing, Commit, Run, State, StoredPiece

# The time of the tests, in seconds since 1970, and a day in seconds.
NOW = 1_750_000_000.0
DAY = 86_400


def new_state(conversation_id: str = "c", space: str | None = None, title: str = "") -> State:
    """The state that a conversation's first commit is computed from."""
    return State(
        conversation_id, version=0, head=0, next_seq=1, next_piece=1, runs=(), turns=0, tokens=0, words=0, nodes=0,
        title=title, space=space, salt=b"", encoding="o200k_base", retention_days=30, created=NOW, updated=NOW,
        expires=NOW + 30 * DAY,
    )  # fmt: skip


def make_digest(of: str) -> bytes:
    return hashlib.sha256(of.encode()).digest()[:16]


def extend(
    state: State,
    contents: Sequence[str],
    *,
    terms: Sequence[Sequence[str]] = (),
    parent: int | None = None,
    pieces: int = 1,
    now: float = NOW,
) -> Commit:
    """A commit of user turns, each the child of the one before.

    Args:
        state: The state to compute it from.
        contents: The content of each turn.
        terms: The terms of each turn's chunks; turns beyond the end have none.
        parent: The seq that the first turn follows, 0 for none; by default the last stored turn.
        pieces: How many chunks to cut each turn into.
        now: The time of the commit.
    """
    last = state.next_seq - 1
    parent = last if parent is None else parent
    first_index = _index_of(state, parent) + 1
    turns, stored, next_piece = list[Turn](), list[StoredPiece](), state.next_piece
    for i, content in enumerate(contents):
        seq, index = state.next_seq + i, first_index + i
        turns.append(Turn(seq, index, make_digest(f"{seq}{content}"), "user", content, None, None, None, 1))
        words = terms[i] if i < len(terms) else ()
        bounds = [len(content) * n // pieces for n in range(pieces + 1)]
        for start, stop in pairwise(bounds):
            piece = Piece(next_piece, seq, index, start, stop, 1, len(words), 0, 0, 0, "user", None, None)
            stored.append(StoredPiece(piece, words))
            next_piece += 1
    new_runs = () if state.runs and parent == last else (Run(state.next_seq, parent, first_index, state.next_piece),)
    after = replace(
        state,
        version=state.version + 1,
        head=last + len(turns),
        next_seq=state.next_seq + len(turns),
        next_piece=next_piece,
        runs=(*state.runs, *new_runs),
        turns=state.turns + len(turns),
        tokens=state.tokens + len(turns),
        updated=now,
        expires=now + state.retention_days * DAY,
    )
    return Commit(after, turns, stored, (), new_runs)


def _index_of(state: State, seq: int) -> int:
    """The index of a turn in its chain; -1 for the turn before the first."""
    return next((run.first_index + seq - run.first_seq for run in reversed(state.runs) if run.first_seq <= seq), -1)


def make_closing(first: int, last: int, closer: int, level: int = 0, title: str = "a title") -> Closing:
    """A node over the turns first..last (indexes), closed by the turn `closer` (a seq)."""
    node = Node(make_digest(f"{level}:{first}-{last}"), level, first, last, 10, 1)
    return Closing(node, closer, Summary(EXTRACTIVE, title))
