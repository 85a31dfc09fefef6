"""Making and removing files, always under the catalog's lock and on its thread.

A file is first marked forgotten inside its own transaction: whoever still has it open, in whichever process, sees the
mark before writing to a file that has no name any more. Then it is unlinked with its side files.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

from ctxmem_mcp.errors import StoreUnavailable
from ctxmem_mcp.models import Receipt
from ctxmem_mcp.stores.sqlite.catalog import SIDE_FILES, SUFFIX, Catalog, side_files
from ctxmem_mcp.stores.sqlite.connection import opened, opener, transaction
from ctxmem_mcp.stores.sqlite.file_open import closed, open_checked
from ctxmem_mcp.stores.sqlite.schema import migrate

_WIPED = frozenset("turns pieces nodes closings summaries runs dictionaries waiting model_calls vectors".split())
# How the name of a file ends that is still being made.
UNFINISHED = ".new"
# A write-ahead log whose file is gone is nobody's after this long.
LEFT_SECONDS = 3_600
# Stands in a file that never got its first turn: whoever is about to write one sees the mark.
_TOMBSTONE = """
INSERT INTO conversation (one, id, version, head, next_seq, next_piece, turns, tokens, words, nodes, title, salt,
    encoding, retention_days, created, updated, expires, frontier, forgotten)
VALUES (1, '', 0, 0, 1, 1, 0, 0, 0, 0, '', x'', '', 1, 0, 0, 0, x'', 1)
"""


def forget(
    catalog: Catalog,
    db: sqlite3.Connection,
    conversation_id: str,
    path: Path,
    now: float | None,
    *,
    empty_too: bool = True,
) -> Receipt | None:
    """Removes a conversation: whatever its state (now is None), or only if it has expired by `now`. An empty file,
    whose maker is about to write to it or was killed, goes too if `empty_too`.

    None where no conversation was removed. The caller holds the catalog's lock.
    """
    if not path.exists():
        _clear(path)
        catalog.strike(db, path.name)
        return None
    damaged = False
    try:
        marked = _mark(path, now, empty_too)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        if now is not None:  # as an error of the catalog's connection it would say that the catalog is damaged
            raise StoreUnavailable(f"{path} is damaged ({error}).", "Restore or forget its conversation.") from error
        damaged = True
        marked = (0, 0)  # whoever asks for it to go gets it gone, readable or not
    if marked is None:
        return None
    turns, nodes = marked
    size = 0
    for file in side_files(path):
        with contextlib.suppress(FileNotFoundError):
            size += file.stat().st_size
            _unlink(file, path)
    catalog.strike(db, path.name)
    return Receipt(conversation_id, turns, nodes, size) if turns or damaged else None


def _mark(path: Path, now: float | None, empty_too: bool) -> tuple[int, int] | None:
    """Marks a file forgotten and gives its turns and nodes; None where it is to be kept."""
    file = open_checked(path, lambda: opened(path))
    try:
        with transaction(file):
            row = file.execute("SELECT expires, forgotten, turns FROM conversation").fetchone()
            if row is None:
                if empty_too:
                    file.execute(_TOMBSTONE)
                return (0, 0) if empty_too else None
            if row[1]:
                return (0, 0)
            if now is not None and row[0] > now:
                return None
            nodes = 0
            with contextlib.suppress(sqlite3.DatabaseError):  # damaged or not, its time is over
                (nodes,) = file.execute("SELECT count(*) FROM nodes").fetchone()
            file.execute("UPDATE conversation SET forgotten = 1")
            return (row[2], nodes)
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
    file = opened(path)
    try:
        file.execute("PRAGMA secure_delete = ON")
        with transaction(file):
            there = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in _WIPED.intersection(there):
                file.execute(f"DELETE FROM {table}")
            file.execute("INSERT INTO terms (terms) VALUES ('delete-all')")
            file.execute("UPDATE conversation SET id = '', title = '', space = NULL, salt = x''")
        file.execute("VACUUM")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        file.close()


def make_room(catalog: Catalog, db: sqlite3.Connection, conversation_id: str, path: Path, now: float) -> None:
    """Sees to it that an empty or a living conversation's file is at `path`. The caller holds the catalog's lock."""
    if path.exists():
        forget(catalog, db, conversation_id, path, now, empty_too=False)
        if path.exists():
            return
    _clear(path)  # SQLite would take what an earlier file left in its write-ahead log for the new one's
    fresh = path.with_name(path.name + UNFINISHED)
    _clear(fresh)
    made = opener(fresh, "full", make=True)()
    try:
        migrate(made)
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        made.close()
    os.replace(fresh, path)
    _sync_folder(path.parent)


def clear_unfinished(folder: Path) -> None:
    """Removes what a killed process was making, and what is left of files that it, or the user, removed. The caller
    holds the catalog's lock, so nobody makes one now."""
    for entry in folder.glob(f"*{UNFINISHED}"):
        _clear(entry)
    for end in SIDE_FILES[1:]:
        for entry in folder.glob(f"*{SUFFIX}{end}"):
            if not entry.with_name(entry.name.removesuffix(end)).exists() and _is_left(entry):
                entry.unlink(missing_ok=True)


def _is_left(file: Path) -> bool:
    """Whether it was there for a while: files that are copied in may come before the one they belong to."""
    try:
        return file.stat().st_ctime <= time.time() - LEFT_SECONDS
    except OSError:
        return False


def _clear(path: Path) -> None:
    for file in side_files(path):
        file.unlink(missing_ok=True)


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
    # The file's bytes as SQLite reads them: closing a raw look at it would drop this process's locks on it.
    if receipt.conversation_id.encode() not in db.serialize():
        done.append("the catalog's bytes do not hold its id")
    return replace(receipt, checked=done)
