"""Opens the catalog's file, which is a cache: one that is damaged, or of another format, is created again."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path

from ctxmem_mcp.stores.sqlite.connection import (
    Database,
    open_database,
    transaction,
)
from ctxmem_mcp.stores.sqlite.conversation_files import with_side_files
from ctxmem_mcp.stores.sqlite.file_open import check_writable

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, id TEXT NOT NULL, space TEXT, title TEXT NOT NULL,
    turns INTEGER NOT NULL, tokens INTEGER NOT NULL, branches INTEGER NOT NULL, head TEXT, created TEXT NOT NULL,
    active TEXT NOT NULL, happened REAL NOT NULL, updated REAL NOT NULL, expires REAL NOT NULL,
    expires_at TEXT NOT NULL, retention_days INTEGER NOT NULL, bytes INTEGER NOT NULL, agent TEXT,
    unindexed INTEGER NOT NULL, ended TEXT, project TEXT, root TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roots (digest BLOB NOT NULL, name TEXT NOT NULL, PRIMARY KEY (digest, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (day INTEGER PRIMARY KEY, tokens INTEGER NOT NULL);
PRAGMA user_version = 6;
"""
_VERSION = 6


def open_or_recreate(path: Path, recreate: bool = False) -> sqlite3.Connection:
    """Opens the catalog; creates it if it is missing, damaged or of another format, for it is only a cache."""
    if recreate:
        _delete_file(path)
    _move_odd_file(path)
    try:
        return _open_with_schema(path)
    except sqlite3.OperationalError:  # busy, disk full, no access: nothing is wrong with the file
        raise
    except sqlite3.DatabaseError:
        _delete_file(path)
        return _open_with_schema(path)


def _move_odd_file(path: Path) -> None:
    """Renames a folder, a pipe or the like that is at the path of the catalog. Nothing is deleted: it is not ours."""
    if os.path.lexists(path) and not (path.is_file() or path.is_symlink()):
        aside = path.with_name(f"{path.name}.{time.time_ns()}.aside")
        log.warning("%s is not a file; it was renamed to %s.", path, aside.name)
        os.rename(path, aside)


def copy_into_memory(path: Path) -> sqlite3.Connection:
    """Returns a copy of the catalog in memory; an empty one if the catalog can't be read."""
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=Database)
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, factory=Database)) as disk:
            disk.backup(db)
        return _with_schema(db)
    except sqlite3.Error:
        db.close()
    return _with_schema(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=Database))


def _open_with_schema(path: Path) -> sqlite3.Connection:
    check_writable(path)
    return _with_schema(open_database(path, "normal", journal="DELETE", create=True))


def _with_schema(db: sqlite3.Connection) -> sqlite3.Connection:
    try:
        db.execute("PRAGMA secure_delete = ON")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError("a catalog of another format")
        if version == 0:
            with transaction(db):
                for statement in _SCHEMA.split(";\n"):
                    db.execute(statement)
        db.execute("SELECT count(*) FROM files").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _delete_file(path: Path) -> None:
    log.warning("Rebuilding %s from the conversations.", path)
    for file in with_side_files(path):
        file.unlink(missing_ok=True)
