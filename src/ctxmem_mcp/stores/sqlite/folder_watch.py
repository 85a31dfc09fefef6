"""Notices whether a conversation's file has changed, without reading the times of all: of 5,000 files that takes 20 ms.

Each commit, and whatever creates, removes or replaces a file, sets the time of the catalog's file, which takes a few
microseconds. The catalog's content is not touched. Files that other programs add or remove are noticed by their names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Set
from pathlib import Path
from typing import NamedTuple

from ctxmem_mcp.stores.sqlite.conversation_files import SUFFIX

# The files' times are read again after so many seconds: a process that was killed after a commit, one of an earlier
# version and other programs set no time.
RESCAN_SECONDS = 30.0
# File systems with times this coarse may give two commits the same time. There a time counts only once it has passed.
_COARSE_NS, _PASSED_NS = 1_000_000, 2_500_000_000


def note_change(catalog: Path) -> bool:
    """Tells all processes that a conversation's file has changed.

    Returns:
        Whether they notice now. If the catalog is missing or not ours, the change is noticed within RESCAN_SECONDS.
    """
    now = time.time_ns()
    try:
        os.utime(catalog, ns=(now, now))
    except OSError:
        return False
    return True


class _Known(NamedTuple):
    """The folder when the files' times were read.

    read_at: Seconds of the monotonic clock.
    mark: The time and the inode of the catalog.
    changed: The folder's own time, in nanoseconds.
    names: Those of the conversations' files.
    """

    read_at: float
    mark: tuple[int, int]
    changed: int
    names: Set[str]


class FolderWatch:
    """Whether the files of a folder are as they were when their times were last read."""

    def __init__(self, folder: Path, catalog: Path) -> None:
        self._folder, self._catalog = folder, catalog
        self._known: _Known | None = None

    def scan(self) -> dict[str, os.DirEntry[str]]:
        """Returns the folder's entries by name. From now on changes are noticed: the caller reads the times next."""
        self._known = None
        mark, changed, now = self._mark(), os.stat(self._folder).st_mtime_ns, time.time_ns()
        entries = {entry.name: entry for entry in os.scandir(self._folder)}
        if mark is not None and (mark[0] % _COARSE_NS or abs(now - mark[0]) > _PASSED_NS):
            self._known = _Known(time.monotonic(), mark, changed, _conversations(entries))
        return entries

    def is_unchanged(self) -> bool:
        """Whether no change was noted, and no file added or removed, since the last scan."""
        known = self._known
        if known is None or time.monotonic() - known.read_at > RESCAN_SECONDS or self._mark() != known.mark:
            return False
        changed, now = os.stat(self._folder).st_mtime_ns, time.time_ns()
        if changed == known.changed and abs(now - changed) > _PASSED_NS:
            return True
        # Mostly a side file that came or went: SQLite creates them when it opens a file.
        if _conversations(os.listdir(self._folder)) != known.names:
            return False
        if self._known is known:  # no other thread has called `forget`
            self._known = known._replace(changed=changed)
        return True

    def forget(self) -> None:
        """Makes the next look at the folder read the times again."""
        self._known = None

    def _mark(self) -> tuple[int, int] | None:
        try:
            state = os.stat(self._catalog)
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino


def _conversations(names: Iterable[str]) -> Set[str]:
    return {name for name in names if name.endswith(SUFFIX)}
