"""Opening and closing a conversation's file without stepping on somebody who removes it.

Two rules of POSIX and SQLite meet here. All of a process's locks on a file go when any of its descriptors is closed,
so a header is only read raw while nobody in this process has the file open. And SQLite finds a file's write-ahead log
by name: whoever opens or closes a file does it under the catalog's lock, so that the log is that of this very file
and not of one made in its place since.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ctxmem_mcp.stores.sqlite.connection import opened, transaction
from ctxmem_mcp.stores.sqlite.schema import check_header

_lock = threading.Lock()
_open: Counter[Path] = Counter()


def open_checked(path: Path, open_it: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
    """Opens a conversation's file after its header was found to be ours. Pair with `closed`."""
    with _lock:
        if not _open[path]:
            try:
                check_header(path)
            except BaseException:
                del _open[path]
                raise
        elif not path.exists():  # the one that is open was removed
            raise FileNotFoundError(path)
        _open[path] += 1
    try:
        return open_it()
    except BaseException:
        closed(path)
        raise


def closed(path: Path) -> None:
    with _lock:
        _open[path] -= 1
        if not _open[path]:
            del _open[path]


@contextlib.contextmanager
def nobody_removes(catalog: Path) -> Iterator[None]:
    """While it lasts, no process makes or removes a conversation's file: holds the catalog's lock, by a connection of
    its own. Not to be entered by who holds it already."""
    db = opened(catalog, make=True)  # it may have been deleted just now; who needs its tables makes them
    try:
        with transaction(db):
            yield
    finally:
        db.close()


def close_under_lock(db: sqlite3.Connection, path: Path, catalog: Path) -> None:
    """Closes a file; if need be without the lock: a catalog that can't be opened keeps nobody from closing."""
    try:
        with nobody_removes(catalog):
            db.close()
    except sqlite3.Error:
        db.close()
    finally:
        closed(path)
