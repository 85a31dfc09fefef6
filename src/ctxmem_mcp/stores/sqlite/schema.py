"""The tables of a conversation's file, their migrations, and the check of a file's header.

The header identifies a file by an application id and a format version. Migrations are only ever added. A file of a
newer format is refused before SQLite opens it, so that neither the file nor anything beside it changes.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ctxmem_mcp.errors import BrokenHistory, NewerFormat, StoreUnavailable
from ctxmem_mcp.private_files import read_file
from ctxmem_mcp.stores.sqlite import old_formats
from ctxmem_mcp.stores.sqlite.connection import transaction
from ctxmem_mcp.stores.sqlite.old_formats import run_script

APPLICATION_ID = 0x63746D31  # "ctm1"
_MAGIC, _HEADER_BYTES = b"SQLite format 3\0", 100

# The tables of format 4. A row's checksum covers its other columns; see checksums.py. Bodies come last, so that a row's
# other columns are read without the pages that a long body fills.
_TABLES = """
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
    forgotten INTEGER NOT NULL DEFAULT 0,
    runs INTEGER NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE runs (
    first_seq INTEGER PRIMARY KEY,
    parent_seq INTEGER NOT NULL,
    first_index INTEGER NOT NULL,
    first_piece INTEGER NOT NULL,
    checksum INTEGER NOT NULL
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
    flags INTEGER NOT NULL,
    language TEXT,
    stored_at REAL NOT NULL,
    codec INTEGER NOT NULL,
    body_checksum INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
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
    session INTEGER NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE nodes (
    node INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    level INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    strength INTEGER NOT NULL,
    children BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE INDEX nodes_over ON nodes (first, last);
CREATE TABLE closings (
    closer INTEGER NOT NULL,
    level INTEGER NOT NULL,
    node INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (closer, level)
) WITHOUT ROWID;
CREATE INDEX closings_of ON closings (node);
CREATE TABLE summaries (
    place INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    author TEXT NOT NULL,
    created REAL NOT NULL,
    codec INTEGER NOT NULL,
    body_checksum INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX summaries_of ON summaries (node);
CREATE TABLE dictionaries (
    number INTEGER PRIMARY KEY,
    checksum INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE dictionary_copies (
    number INTEGER PRIMARY KEY,
    checksum INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE waiting (
    id INTEGER PRIMARY KEY,
    checksum INTEGER NOT NULL,
    words TEXT NOT NULL
);
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY,
    checksum INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE extra (
    key TEXT PRIMARY KEY,
    checksum INTEGER NOT NULL,
    value BLOB NOT NULL
) WITHOUT ROWID;
"""

_MODEL_CALLS = """
CREATE TABLE model_calls (
    number INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    author TEXT NOT NULL,
    begun REAL NOT NULL,
    tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    outcome TEXT NOT NULL
);
"""

# The index did not change since format 1.
_INDEX = """
CREATE VIRTUAL TABLE terms USING fts5 (
    words, content = '', columnsize = 0, detail = full, tokenize = "ascii tokenchars '=@._-/'"
);
CREATE VIRTUAL TABLE terms_counted USING fts5vocab (terms, row);
CREATE VIRTUAL TABLE terms_placed USING fts5vocab (terms, instance);
"""
MIGRATIONS: tuple[str | Callable[[sqlite3.Connection], None], ...] = (
    old_formats.FIRST,
    _MODEL_CALLS,
    old_formats.VECTORS,
    partial(old_formats.add_checksums, tables=_TABLES),
)
FORMAT = len(MIGRATIONS)
# A new file gets this format at once.
_CREATED_FORMAT = 4


def migrate(db: sqlite3.Connection) -> None:
    """Migrates a file of ours, or a new empty one, to the current format.

    Raises:
        NewerFormat: The file has a newer format than this version knows.
        sqlite3.Error: The file is damaged, or can't be written. It was not changed.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == FORMAT:
        return
    if version > FORMAT:  # the new header is still in the write-ahead log, where check_header does not look
        (_, _, path) = db.execute("PRAGMA database_list").fetchone()
        raise NewerFormat(path, version, FORMAT)
    with transaction(db):
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if not version and FORMAT >= _CREATED_FORMAT:
            for script in (_TABLES, _MODEL_CALLS, _INDEX):
                run_script(db, script)
            version = _CREATED_FORMAT
        for step in MIGRATIONS[version:]:
            if isinstance(step, str):
                run_script(db, step)
            else:
                step(db)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {FORMAT}")


def check_not_link(path: Path) -> None:
    """Refuses a symbolic link. SQLite would keep the write-ahead log beside the link's target, and forgetting would
    leave the target where it is.

    Raises:
        StoreUnavailable: The path is a link.
    """
    if path.is_symlink():
        raise StoreUnavailable(
            f"{path} is a symbolic link to {os.readlink(path)}; neither was changed.",
            "Move the file itself to where the link is, or remove the link.",
        )


def unreadable(path: Path, error: OSError) -> StoreUnavailable:
    """The error of ours for a file that the system can't read. It says nothing about the file's content."""
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "Check the file's permissions."
    elif error.errno == errno.EIO:
        hint = "The disk reports an error; check it. The file was not changed."
    else:
        hint = "Move it out of the data directory if it is not a conversation."
    return StoreUnavailable(f"{path} can't be read: {error.strerror}.", hint)


def _is_truncated(header: bytes) -> bool:
    """Whether these are the first bytes of a file of ours that ends within its header, or that lost them (after a power
    failure, some file systems return zeros)."""
    if not header.strip(b"\0"):
        return True
    ours = len(header) < 72 or int.from_bytes(header[68:72], "big") == APPLICATION_ID
    return len(header) < _HEADER_BYTES and header.startswith(_MAGIC[: len(header)]) and ours


def check_header(path: Path) -> None:
    """Checks from a file's first bytes, without changing anything, that it is ours and of a known format.

    Must not be called while this process has the file open: closing it again would drop SQLite's locks on it.

    Raises:
        FileNotFoundError: There is no such file.
        StoreUnavailable: The file is not ours or can't be read.
        BrokenHistory: The file was truncated.
        NewerFormat: The file has a newer format than this version knows.
    """
    try:
        header = read_file(path, _HEADER_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    if _is_truncated(header):
        raise BrokenHistory(f"{path} was truncated: nothing in its first {len(header)} bytes can be read.")
    application_id, version = int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big")
    if not header.startswith(_MAGIC) or application_id != APPLICATION_ID:
        raise StoreUnavailable(
            f"{path} is not a ctxmem-mcp conversation; it was not changed.", "Move it out of the data directory."
        )
    if version > FORMAT:
        raise NewerFormat(str(path), version, FORMAT)
