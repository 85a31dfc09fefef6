"""Reads the facts that the catalog holds about a conversation from its file."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.errors import StoreUnavailable
from ctxmem_mcp.models import id_digits
from ctxmem_mcp.projects import parse_record
from ctxmem_mcp.results import ConversationInfo
from ctxmem_mcp.stores.listing import TIMED_TURNS_MAX, find_last_words, last_happened, to_info
from ctxmem_mcp.stores.records import AGENT, PROJECT, State
from ctxmem_mcp.stores.sqlite import queries
from ctxmem_mcp.stores.sqlite.compression import TextCompression
from ctxmem_mcp.stores.sqlite.conversation_files import file_name, with_side_files


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """The catalog's facts about a file.

    Times are in seconds since 1970; roots are digests of first turns; project is the key and the root of the project
    that the conversation was captured in.

    is_indexed: All of its turns are indexed.
    """

    info: ConversationInfo
    happened: float
    updated: float
    expires: float
    roots: list[bytes]
    is_indexed: bool
    project: tuple[str | None, str | None]


def read_entry(db: sqlite3.Connection, path: Path) -> CatalogEntry | None:
    """Reads an open file; returns None if it holds no conversation, or a forgotten one.

    Raises:
        StoreUnavailable: The file does not have the name that its conversation's file must have.
    """
    row = db.execute("SELECT id FROM conversation WHERE NOT forgotten").fetchone()
    state = queries.state(db, row[0], float("-inf")) if row else None
    if state is None:
        return None
    size = sum(file.stat().st_size for file in with_side_files(path) if file.exists())
    if (name := file_name(state.conversation_id)) != path.name:
        raise StoreUnavailable(f"It holds conversation {row[0]!r}, whose file must be called {name}.", "Rename it.")
    last = state.next_seq - 1
    happened = last_happened(
        state,
        db.execute(
            "SELECT said_at, stored_at FROM turns WHERE seq BETWEEN ? AND ? ORDER BY seq DESC",
            (last - TIMED_TURNS_MAX + 1, last),
        ),
    )
    ended = _last_words(db, last)
    info = to_info(state, _turn_id(db, state.head), size, happened, queries.extra(db, AGENT), ended)
    project = parse_record(queries.extra(db, PROJECT))
    is_indexed = not state.unindexed
    return CatalogEntry(info, happened, state.updated, state.expires, _roots(db, state), is_indexed, project)


def _last_words(db: sqlite3.Connection, last: int) -> str | None:
    """Reads the agent's last words, if they are among the last turns."""
    compression = TextCompression()
    seqs = range(max(1, last - TIMED_TURNS_MAX + 1), last + 1)
    turn = find_last_words(reversed(queries.turns(db, seqs, compression, metadata_only=True)))
    return queries.turns(db, [turn.seq], compression, metadata_only=False)[0].content if turn else None


def _turn_id(db: sqlite3.Connection, seq: int) -> str | None:
    row = db.execute("SELECT at_index, digest FROM turns WHERE seq = ?", (seq,)).fetchone()
    return f"t{row[0]}-{id_digits(row[1])}" if row else None


def _roots(db: sqlite3.Connection, state: State) -> list[bytes]:
    return [queries.digests(db, run.first_seq, run.first_seq)[0] for run in state.runs if not run.parent_seq]
