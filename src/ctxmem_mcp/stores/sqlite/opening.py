"""Which files this process has open, so that a header is only read raw while nobody here has the file open.

POSIX drops all of a process's locks on a file when any of its descriptors is closed; SQLite knows that of its own,
not of a look at the first hundred bytes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ctxmem_mcp.stores.sqlite.schema import check_header

_lock = threading.Lock()
_open: Counter[Path] = Counter()


def open_checked(path: Path, open_it: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
    """Opens a conversation's file after its header was found to be ours. Pair with `closed`."""
    with _lock:
        if not _open[path]:
            check_header(path)
        db = open_it()
        _open[path] += 1
        return db


def closed(path: Path) -> None:
    with _lock:
        _open[path] -= 1
        if not _open[path]:
            del _open[path]
