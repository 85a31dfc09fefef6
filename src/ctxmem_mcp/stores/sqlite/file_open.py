"""Opens and closes a conversation's file safely while other processes may remove it.

Two rules of POSIX and SQLite meet here. A process loses all its locks on a file when it closes any descriptor of it,
so a header is read raw only while nobody in this process has the file open. And SQLite finds a file's write-ahead log
by name: a file is opened and closed under the catalog's lock, so that the log belongs to this very file and not to one
created in its place since.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ctxmem_mcp.stores.sqlite.connection import open_plain, transaction
from ctxmem_mcp.stores.sqlite.schema import check_header, check_not_link

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
