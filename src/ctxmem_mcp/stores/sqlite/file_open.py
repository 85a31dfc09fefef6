"""Opens and closes a conversation's file safely while other processes may remove it.

Two rules of POSIX and SQLite meet here. A process loses all its locks on a file when it closes any descriptor of it,
so a header is read raw only while nobody in this process has the file open. And SQLite finds a file's write-ahead log
by name: a file is opened and closed under the catalog's lock, so that the log belongs to this very file and not to one
created in its place since.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ctxmem_mcp.errors import StoreReadOnly, StoreUnavailable
from ctxmem_mcp.stores.sqlite.connection import is_read_only, open_plain, transaction
from ctxmem_mcp.stores.sqlite.image import FileState, load_image
from ctxmem_mcp.stores.sqlite.schema import check_header, check_not_link, unreadable

_lock = threading.Lock()
# How many connections of this process have the file open.
_open_counts: Counter[Path] = Counter()


def open_checked(path: Path, open_it: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
    """Checks the header of a conversation's file, then opens it. After closing it, call `release`.

    Raises:
        FileNotFoundError: There is no such file.
        StoreUnavailable: The file is not ours or can't be read.
        BrokenHistory: The file was truncated.
        NewerFormat: The file has a newer format.
        sqlite3.Error: It can't be opened.
    """
    check_not_link(path)
    with _lock:
        if not _open_counts[path]:
            try:
                check_header(path)
            except BaseException:
                del _open_counts[path]
                raise
        elif not path.exists():  # the one that is open was removed
            raise FileNotFoundError(path)
        _open_counts[path] += 1
    try:
        return open_it()
    except BaseException:
        release(path)
        raise


def open_image(path: Path) -> tuple[sqlite3.Connection, FileState]:
    """Checks the header of a conversation's file and returns a copy of the file in memory; see `load_image`.

    Raises:
        FileNotFoundError: There is no such file.
        StoreUnavailable: The file is not ours or can't be read, or this process has it open.
        BrokenHistory: The file is damaged.
        NewerFormat: The file has a newer format.
    """
    check_not_link(path)
    with _lock:  # nobody in this process opens the file meanwhile
        if _open_counts.get(path):
            raise StoreUnavailable(f"{path} is open for writing.", "Try again.")
        check_header(path)
        try:
            return load_image(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unreadable(path, error) from error


def check_writable(path: Path) -> None:
    """Refuses a file that this process may not write, or whose folder it may not write, before SQLite opens it.

    SQLite would open it for reading and leave side files beside it.

    Raises:
        StoreReadOnly: It can't be written.
    """
    for one in (path, path.parent):
        if one.exists() and not _may_write(one):
            read_only = hasattr(os, "statvfs") and os.statvfs(one).f_flag & os.ST_RDONLY
            why = "its file system is read-only" if read_only else "its permissions do not allow it"
            raise StoreReadOnly(
                f"{one} can't be written: {why}. What is stored can be read.",
                "Make it writable, or set CTXMEM_DATA_DIR or --data-dir to a folder that is.",
            )


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


@contextlib.contextmanager
def open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A second, read-only connection to a conversation's file, or to its image if SQLite can't open it.

    The caller holds the catalog's lock, if it can be held.
    """
    try:
        check_writable(path)
        db = open_checked(path, partial(_open_probed, path))
    except StoreReadOnly:
        db, is_image = open_image(path)[0], True
    except sqlite3.Error as error:
        if not is_read_only(error):
            raise
        db, is_image = open_image(path)[0], True
    else:
        is_image = False
    try:
        db.execute("PRAGMA query_only = ON")
        yield db
    finally:
        db.close()
        if not is_image:
            release(path)


def _open_probed(path: Path) -> sqlite3.Connection:
    """Opens a file and reads from it, because SQLite opens the write-ahead log at the first read."""
    db = open_plain(path)
    try:
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def release(path: Path) -> None:
    """Records that one connection of this process to the file was closed."""
    with _lock:
        _open_counts[path] -= 1
        if not _open_counts[path]:
            del _open_counts[path]


@contextlib.contextmanager
def catalog_lock(catalog: Path) -> Iterator[None]:
    """Holds the catalog's lock, on a new connection, so that no process creates or removes a conversation's file.

    The caller must not hold the lock already.
    """
    db = open_plain(catalog, create=True)  # it may just have been deleted; `Catalog` creates its tables
    try:
        with transaction(db):
            yield
    finally:
        db.close()


def close_under_lock(db: sqlite3.Connection, path: Path, catalog: Path) -> None:
    """Closes a file under the catalog's lock, or without it if the catalog can't be opened."""
    try:
        with catalog_lock(catalog):
            db.close()
    except sqlite3.Error:
        db.close()
    finally:
        release(path)
