"""The tables of formats 1 to 3, and the step that rewrites them with checksums as format 4."""

from __future__ import annotations

import sqlite3
from binascii import crc32
from collections.abc import Iterator
from typing import Any

from ctxmem_mcp.stores.sqlite import checksums

FIRST = """
CREATE TABLE conversation (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    head INTEGER NOT NULL,
    next_seq INTEGER NOT NULL,
    next_piece INTEGER NOT NULL,
    turns INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    words INTEGER NOT NULL,
    nodes INTEGER NOT NULL,
    title TEXT NOT NULL,
    space TEXT,
    salt BLOB NOT NULL,
    encoding TEXT NOT NULL,
    retention_days INTEGER NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    expires REAL NOT NULL,
    frontier BLOB NOT NULL,
    text_bytes INTEGER NOT NULL DEFAULT 0,
    forgotten INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE runs (
    first_seq INTEGER PRIMARY KEY,
    parent_seq INTEGER NOT NULL,
    first_index INTEGER NOT NULL,
    first_piece INTEGER NOT NULL
);
CREATE TABLE turns (
    seq INTEGER PRIMARY KEY,
    at_index INTEGER NOT NULL,
    digest BLOB NOT NULL,
    role INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    first_piece INTEGER NOT NULL,
    pieces INTEGER NOT NULL,
    name TEXT,
    said_at TEXT,
    call_id TEXT,
    codec INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE pieces (
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    at_index INTEGER NOT NULL,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    words INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    leaf INTEGER NOT NULL,
    session INTEGER NOT NULL
);
CREATE TABLE nodes (
    node INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    level INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    strength INTEGER NOT NULL,
    children BLOB NOT NULL
);
CREATE INDEX nodes_over ON nodes (first, last);
CREATE TABLE closings (
    closer INTEGER NOT NULL,
    level INTEGER NOT NULL,
    node INTEGER NOT NULL,
    PRIMARY KEY (closer, level)
) WITHOUT ROWID;
CREATE INDEX closings_of ON closings (node);
CREATE TABLE summaries (
    place INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    author TEXT NOT NULL,
    created REAL NOT NULL,
    codec INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX summaries_of ON summaries (node);
CREATE TABLE dictionaries (
    number INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);
CREATE TABLE waiting (
    id INTEGER PRIMARY KEY,
    words TEXT NOT NULL
);
CREATE VIRTUAL TABLE terms USING fts5 (
    words, content = '', columnsize = 0, detail = full, tokenize = "ascii tokenchars '=@._-/'"
);
CREATE VIRTUAL TABLE terms_counted USING fts5vocab (terms, row);
CREATE VIRTUAL TABLE terms_placed USING fts5vocab (terms, instance);
"""

VECTORS = """
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);
"""

_INDEXES = ("nodes_over", "closings_of", "summaries_of")
_PIECES = "SELECT p.*, t.role, t.name, t.said_at FROM old_pieces p LEFT JOIN old_turns t USING (seq)"


def run_script(db: sqlite3.Connection, script: str) -> None:
    """Runs the statements of a script inside the open transaction, which `executescript` would commit."""
    for statement in script.split(";\n"):
        if statement.strip():
            db.execute(statement)


def add_checksums(db: sqlite3.Connection, tables: str) -> None:
    """Copies every row into format 4's tables, each with its checksum. The index and the model's calls stay.

    A row that holds something of a wrong type gets a checksum that never matches. The time at which a turn was stored
    is not known: it gets that of the last append.

    Args:
        tables: The script that creates format 4's tables.
    """
    copied = {
        "conversation": _conversations, "runs": _runs, "turns": _turns, "pieces": _pieces, "nodes": _nodes,
        "closings": _closings, "summaries": _summaries, "dictionaries": _dictionaries,
        "dictionary_copies": _dictionaries, "waiting": _waiting, "vectors": _vectors,
    }  # fmt: skip
    for index in _INDEXES:
        db.execute(f"DROP INDEX {index}")
    old = [table for table in copied if table != "dictionary_copies"]
    for table in old:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    run_script(db, tables)
    for table, rows in copied.items():
        columns = len(db.execute(f"PRAGMA table_info({table})").fetchall())
        db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})", rows(db))
    for table in old:
        db.execute(f"DROP TABLE old_{table}")


_Rows = Iterator[tuple[Any, ...]]


def _conversations(db: sqlite3.Connection) -> _Rows:
    (runs,) = db.execute("SELECT count(*) FROM old_runs").fetchone()
    columns = checksums.CONVERSATION_COLUMNS.removesuffix(", runs")
    for values in db.execute(f"SELECT {columns} FROM old_conversation"):
        row = (*values, runs)
        yield (1, *row, checksums.row_checksum(row))


def _runs(db: sqlite3.Connection) -> _Rows:
    for row in db.execute(f"SELECT {checksums.RUN_COLUMNS} FROM old_runs"):
        yield (*row, checksums.row_checksum(row))


def _turns(db: sqlite3.Connection) -> _Rows:
    (updated,) = db.execute("SELECT max(updated) FROM old_conversation").fetchone()
    columns = "seq, at_index, digest, role, tokens, first_piece, pieces, name, said_at, call_id, codec, body"
    dictionaries = _dictionary_checksums(db)
    for *fields, codec, body in db.execute(f"SELECT {columns} FROM old_turns"):
        row = (*fields, 0, None, updated, codec, _body_checksum(codec, body, dictionaries))
        yield (*row, checksums.row_checksum(row), body)


def _dictionary_checksums(db: sqlite3.Connection) -> dict[int, int]:
    return {0: 0} | {number: checksum for number, checksum, _ in _dictionaries(db)}


def _body_checksum(codec: object, body: object, dictionaries: dict[int, int]) -> int:
    number = max(0, codec - 1) if isinstance(codec, int) else -1
    if number not in dictionaries or not isinstance(body, bytes):
        return checksums.NO_CHECKSUM
    return crc32(body, dictionaries[number])


def _pieces(db: sqlite3.Connection) -> _Rows:
    for row in db.execute(_PIECES):
        yield (*row[:10], checksums.row_checksum(row))


def _nodes(db: sqlite3.Connection) -> _Rows:
    for row in db.execute(f"SELECT {checksums.NODE_COLUMNS} FROM old_nodes"):
        yield (*row, checksums.row_checksum(row))


def _closings(db: sqlite3.Connection) -> _Rows:
    for row in db.execute("SELECT closer, level, node FROM old_closings"):
        yield (*row, checksums.row_checksum(row))


def _summaries(db: sqlite3.Connection) -> _Rows:
    dictionaries = _dictionary_checksums(db)
    for *fields, body in db.execute("SELECT place, node, author, created, codec, body FROM old_summaries"):
        row = (*fields, _body_checksum(fields[-1], body, dictionaries))
        yield (*row, checksums.row_checksum(row), body)


def _dictionaries(db: sqlite3.Connection) -> _Rows:
    return _blobs(db, "SELECT number, body FROM old_dictionaries")


def _vectors(db: sqlite3.Connection) -> _Rows:
    return _blobs(db, "SELECT id, body FROM old_vectors")


def _waiting(db: sqlite3.Connection) -> _Rows:
    for key, words in db.execute("SELECT id, words FROM old_waiting"):
        yield (
            key,
            checksums.blob_checksum(key, words.encode()) if isinstance(words, str) else checksums.NO_CHECKSUM,
            words,
        )


def _blobs(db: sqlite3.Connection, select: str) -> _Rows:
    for key, blob in db.execute(select):
        yield key, checksums.blob_checksum(key, blob) if isinstance(blob, bytes) else checksums.NO_CHECKSUM, blob
