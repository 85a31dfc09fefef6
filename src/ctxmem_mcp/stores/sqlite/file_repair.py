"""Swaps a conversation's damaged file for a rebuilt one. Runs on the catalog's thread and under its lock."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ctxmem_mcp.errors import BrokenHistory, StoreUnavailable, UnknownConversation
from ctxmem_mcp.private_files import read_file
from ctxmem_mcp.stores.records import DENSE_PREFIX
from ctxmem_mcp.stores.sqlite.catalog import Catalog
from ctxmem_mcp.stores.sqlite.commits import UNINDEXED, write_forgotten
from ctxmem_mcp.stores.sqlite.connection import open_plain, transaction
from ctxmem_mcp.stores.sqlite.conversation_files import with_side_files
from ctxmem_mcp.stores.sqlite.file_lifecycle import DAMAGED_SUFFIX, sync_folder
from ctxmem_mcp.stores.sqlite.image import load_image
from ctxmem_mcp.stores.sqlite.queries import CALL_TYPES, GONE
from ctxmem_mcp.stores.sqlite.schema import check_header, check_not_link, unreadable

T = TypeVar("T")
_FIRST_WITH_CHECKSUMS = 4
_CALL_COLUMNS = "author, begun, tokens_in, tokens_out, outcome"


def copy_files(path: Path, copy: Path) -> None:
    """Copies a file, and its write-ahead log if there is one.

    Raises:
        UnknownConversation: There is no such file.
        StoreUnavailable: It is a link or not a regular file, or the system can't read it.
        NewerFormat: It has a newer format.
    """
    check_not_link(path)
    try:
        read_file(path, 1)
    except FileNotFoundError:
        raise UnknownConversation(path.name) from None
    except OSError as error:
        raise unreadable(path, error) from error
    _has_sound_header(path)

    def copy_all() -> None:
        for file, to in zip(with_side_files(path)[:2], with_side_files(copy), strict=False):
            if file.exists():
                shutil.copy2(file, to)
        sync_folder(copy.parent)

    _without_writers(path, lambda _: copy_all(), copy_all)


def copy_extras_and_calls(copy: Path, rebuilt: Path) -> None:
    """Copies the extras that can be read and that the rebuilt file does not have, and the model calls: their cost
    counts towards the limits. A call about a node that the rebuilt file lacks is about node GONE. In the rebuilt file
    all turns are indexed."""
    try:
        old, _ = load_image(copy)  # opening the copy itself would change it
        with contextlib.closing(old):
            extras = [
                row
                for row in _read(old, f"SELECT key, checksum, value FROM extra WHERE key != '{UNINDEXED}'")
                if not str(row[0]).startswith(DENSE_PREFIX)
            ]
            calls = _read(
                old,
                f"SELECT coalesce(digest, x''), {_CALL_COLUMNS}, number FROM model_calls LEFT JOIN nodes USING (node)",
            )
    except (BrokenHistory, StoreUnavailable, OSError, sqlite3.Error):
        return
    with contextlib.closing(open_plain(rebuilt)) as new, transaction(new):
        new.executemany("INSERT OR IGNORE INTO extra VALUES (?, ?, ?)", extras)
        new.executemany(
            f"INSERT OR IGNORE INTO model_calls (node, {_CALL_COLUMNS}, number) "
            f"VALUES (coalesce((SELECT node FROM nodes WHERE digest = ?), {GONE}), ?, ?, ?, ?, ?, ?)",
            [call for call in calls if all(map(isinstance, call, CALL_TYPES))],
        )


def _read(db: sqlite3.Connection, select: str) -> list[tuple[Any, ...]]:
    """Returns the rows up to the first that can't be read."""
    rows: list[tuple[Any, ...]] = []
    with contextlib.suppress(sqlite3.Error):
        rows.extend(db.execute(select))
    return rows


def swap(
    catalog: Catalog,
    db: sqlite3.Connection,
    path: Path,
    copy: Path,
    rebuilt: Path,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Puts the rebuilt file in the damaged one's place. before: called while nobody can write to the file, which
    is then known to be unchanged.

    A process that still has the damaged file open sees the mark that it was forgotten, and opens the new one.

    Raises:
        StoreUnavailable: The damaged file was changed since it was copied.
    """

    def prepare() -> None:
        if not _is_same(path, copy):
            raise StoreUnavailable(f"{path} was changed during the repair; nothing was replaced.", "Try again.")
        before()

    def mark(file: sqlite3.Connection) -> None:
        prepare()
        write_forgotten(file)

    _without_writers(path, mark, prepare)
    for side_file in with_side_files(path)[1:]:
        side_file.unlink(missing_ok=True)
    os.replace(rebuilt, path)
    sync_folder(path.parent)
    catalog.remove(db, [path.name])


def set_aside(catalog: Catalog, db: sqlite3.Connection, path: Path, copy: Path) -> None:
    """Removes a file of which nothing can be read and that was copied.

    Raises:
        StoreUnavailable: It was changed since it was copied, or has an old format, whose turns have no checksums.
        UnknownConversation: It is sound, but its first turn is not stored yet.
    """

    def prepare() -> None:
        if not _is_same(path, copy):
            raise StoreUnavailable(f"{path} was changed during the repair; it was not moved.", "Try again.")

    def mark(file: sqlite3.Connection) -> None:
        prepare()
        (version,) = file.execute("PRAGMA user_version").fetchone()
        if 0 < version < _FIRST_WITH_CHECKSUMS:
            raise StoreUnavailable(
                f"{path} has format {version}, which can't be repaired; it was not changed.", "Restore a backup."
            )
        if not file.execute("SELECT count(*) FROM conversation").fetchone()[0]:
            raise UnknownConversation(path.name)
        write_forgotten(file)

    _without_writers(path, mark, prepare)
    for file in with_side_files(path):
        file.unlink(missing_ok=True)
    sync_folder(path.parent)
    catalog.remove(db, [path.name])


def _is_same(path: Path, copy: Path) -> bool:
    pairs = ((path, copy), (path.with_name(f"{path.name}-wal"), copy.with_name(f"{copy.name}-wal")))
    return all(_bytes(file) == _bytes(of) for file, of in pairs)


def _bytes(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _without_writers(path: Path, work: Callable[[sqlite3.Connection], T], damaged: Callable[[], T]) -> T:
    """Runs `work` in a transaction, so that nobody writes; if the file is too damaged for one, runs `damaged`."""
    if not _has_sound_header(path):  # SQLite would write a header to an empty file
        return damaged()
    db = None
    try:
        db = open_plain(path)
        with transaction(db):
            return work(db)
    except sqlite3.DatabaseError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise
        return damaged()
    finally:
        if db is not None:
            db.close()


def _has_sound_header(path: Path) -> bool:
    """Raises NewerFormat if the file has a newer format."""
    try:
        check_header(path)
    except (BrokenHistory, StoreUnavailable):
        return False
    return True


def unused_name(path: Path) -> Path:
    """Returns a name for a copy of a damaged file, beside it."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    for number in range(1, 1_000):
        kept = path.with_name(f"{path.name}{DAMAGED_SUFFIX}-{stamp}{f'-{number}' if number > 1 else ''}")
        if not kept.exists():
            return kept
    raise StoreUnavailable(f"There are too many damaged copies of {path}.", "Remove some.")
