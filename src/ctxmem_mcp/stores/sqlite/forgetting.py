"""Making and removing files, always under the catalog's lock and on its thread.

A file is first marked forgotten inside its own transaction: whoever still has it open, in whichever process, sees the
mark before writing to a file that has no name any more. Then it is unlinked with its side files.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

from ctxmem_mcp.model import Receipt
from ctxmem_mcp.stores.sqlite.catalog import Catalog, side_files
from ctxmem_mcp.stores.sqlite.connection import BUSY_SECONDS, opener, transaction
from ctxmem_mcp.stores.sqlite.opening import closed, open_checked
from ctxmem_mcp.stores.sqlite.schema import migrate

_WIPED = ("turns", "pieces", "nodes", "closings", "summaries", "runs", "dictionary")


def forget(
    catalog: Catalog, db: sqlite3.Connection, conversation_id: str, path: Path, now: float | None
) -> Receipt | None:
    """Removes a conversation: whatever its state (now is None), or only if it has expired by `now`.

    None where there is nothing to remove. The caller holds the catalog's lock.
    """
    if not path.exists():
        catalog.strike(db, path.name)
        return None
    marked = _mark(path, now)
    if marked is None:
        return None
    turns, nodes = marked
    size = 0
    for file in side_files(path):
        with contextlib.suppress(FileNotFoundError):
            size += file.stat().st_size
            _unlink(file, path)
    catalog.strike(db, path.name)
    return Receipt(conversation_id, turns, nodes, size) if turns else None


def _mark(path: Path, now: float | None) -> tuple[int, int] | None:
    """Marks a file forgotten and gives its turns and nodes; None where it is to be kept."""
    file = open_checked(path, lambda: sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None))
    try:
        with transaction(file):
            row = file.execute("SELECT expires, forgotten, turns FROM conversation").fetchone()
            if row is not None and now is not None and row[0] > now and not row[1]:
                return None
            (nodes,) = file.execute("SELECT count(*) FROM nodes").fetchone()
            file.execute("UPDATE conversation SET forgotten = 1")
            return (row[2], nodes) if row and not row[1] else (0, nodes)
    finally:
        file.close()
        closed(path)


def _unlink(file: Path, path: Path) -> None:
    try:
        file.unlink()
    except PermissionError:  # Windows, where another process still has it open: nothing readable may stay in it
        if file == path:
            _wipe(path)


def _wipe(path: Path) -> None:
    file = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        file.execute("PRAGMA secure_delete = ON")
        with transaction(file):
            for table in _WIPED:
                file.execute(f"DELETE FROM {table}")
            file.execute("INSERT INTO terms (terms) VALUES ('delete-all')")
            file.execute("UPDATE conversation SET id = '', title = '', space = NULL, salt = x''")
        file.execute("VACUUM")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        file.close()


def make_room(catalog: Catalog, db: sqlite3.Connection, conversation_id: str, path: Path, now: float) -> None:
    """Sees to it that an empty or a living conversation's file is at `path`. The caller holds the catalog's lock."""
    if path.exists() and forget(catalog, db, conversation_id, path, now) is None and path.exists():
        return
    fresh = path.with_name(f"{path.name}.new-{os.getpid()}")
    for file in side_files(fresh):
        file.unlink(missing_ok=True)
    made = opener(fresh, "full")()
    try:
        migrate(made)
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        made.close()
    os.replace(fresh, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes a file's new name durable, where folders can be synced."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def checked(catalog: Catalog, db: sqlite3.Connection, receipt: Receipt, path: Path) -> Receipt:
    """The receipt with what was looked at once the removal was committed."""
    done = []
    if not any(file.exists() for file in side_files(path)):
        done.append(f"no file {path.name}, write-ahead log or side file of it is left")
    left = db.execute("SELECT count(*) FROM files WHERE name = ?", (path.name,)).fetchone()[0]
    left += db.execute("SELECT count(*) FROM roots WHERE name = ?", (path.name,)).fetchone()[0]
    if not left:
        done.append("the catalog has no row of it")
    # No transaction is open on the catalog in this process, so reading the raw file drops no lock of SQLite's.
    if receipt.conversation_id.encode() not in catalog.path.read_bytes():
        done.append("the catalog's bytes do not hold its id")
    return replace(receipt, checked=done)
