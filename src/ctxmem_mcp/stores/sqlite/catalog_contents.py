"""Reads the conversations' files into the catalog, and answers from it: what there is, and where words occur."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ctxmem_mcp.errors import CtxmemError, with_name
from ctxmem_mcp.projects import Project
from ctxmem_mcp.results import ConversationInfo
from ctxmem_mcp.stores.sqlite import term_index
from ctxmem_mcp.stores.sqlite.catalog_entry import CatalogEntry, read_entry
from ctxmem_mcp.stores.sqlite.connection import (
    transaction,
    translate_error,
)
from ctxmem_mcp.stores.sqlite.conversation_files import SUFFIX, file_name, fingerprints
from ctxmem_mcp.stores.sqlite.file_open import open_read_only
from ctxmem_mcp.stores.sqlite.folder_watch import FolderWatch, note_change
from ctxmem_mcp.stores.sqlite.search_index import FILE, IndexedFile, SearchIndex

log = logging.getLogger(__name__)

_INFO = (
    "id, title, space, turns, tokens, branches, head, created, active, expires_at, retention_days, bytes, agent, ended"
)


class ListedFile(NamedTuple):
    """A row of the catalog, as a listing needs it."""

    happened: float
    expires: float
    name: str
    project: str | None
    root: str | None
    info: ConversationInfo


class LeftOutFile(NamedTuple):
    """A file that can't be in the index over all conversations: its conversation is too large, or it can't be read.

    fingerprint: The file's when it was read.
    read_again: When it is tried again if it does not change before, in seconds of the monotonic clock.
    """

    fingerprint: str
    read_again: float


class _Numbered(NamedTuple):
    """What `CatalogContents.numbered` returned, and as of what: it holds from `since` until `until`."""

    listed: list[ListedFile]
    files: Mapping[str, IndexedFile]
    additions: int
    since: float
    until: float
    ids: Mapping[int, str]
    live: int


class CatalogContents:
    """What the catalog holds, read on its thread with its connection."""

    def __init__(self, folder: Path, path: Path) -> None:
        """folder: that of the conversations. path: the catalog's."""
        self.folder, self.path = folder, path
        self._watch = FolderWatch(folder, path)
        self.index = SearchIndex(folder.parent / FILE)
        # The conversations' files that can't be read, each with the reason. As of the last refresh.
        self.unreadable: dict[str, str] = {}
        self._logged: set[tuple[str, str]] = set()
        # The fingerprints of the last refresh, by the connection that it was made with.
        self._seen: dict[int, dict[str, str]] = {}
        # What the catalog held when it was last listed: who has written to it until then, and its rows.
        self._changes = 0
        self._listed: tuple[tuple[int, int, int], list[ListedFile]] | None = None
        # The fingerprints that the index agrees with, and the index's state at that time.
        self._indexed: tuple[Mapping[str, str], Mapping[str, IndexedFile], int] | None = None
        # Files that can't be in it, by name. As of the last time that it was brought up to date.
        self.left_out: dict[str, LeftOutFile] = {}
        self._numbered: _Numbered | None = None
        # The conversations with turns that are not indexed, and the catalog's state at that time.
        self._unindexed: tuple[tuple[int, int, int], list[str]] | None = None
        # As of which of its states the catalog agrees with the fingerprints of the last refresh.
        self._current: tuple[int, int, int] | None = None

    def note_change(self) -> None:
        """Tells all processes that a conversation's file has changed; this one in any case. Any thread may call it."""
        if not note_change(self.path):
            self._watch.forget()

    def forget_reads(self) -> None:
        """Drops what was read with a connection that is closed now."""
        self._seen, self._listed, self._current = {}, None, None
        self._watch.forget()
        self._indexed = self._numbered = self._unindexed = None

    def path_of(self, conversation_id: str) -> Path:
        return self.folder / file_name(conversation_id)

    def refresh(self, db: sqlite3.Connection, *, listed: bool = False) -> dict[str, str]:
        """Brings the catalog up to date with the folder. Returns the fingerprint of each file.

        Args:
            db: The catalog's connection.
            listed: The caller has listed the folder just now, so that the last refresh is recent enough.
        """
        last = self._seen.get(id(db))
        if last is not None and (listed or (self._current == self._state(db) and self._watch.is_unchanged())):
            return last
        seen = fingerprints(self._watch.scan())
        if self._current == self._state(db) and seen == last:
            return last
        known = dict(db.execute("SELECT name, fingerprint FROM files"))
        changed = [(name, now) for name, now in seen.items() if now != known.get(name)]
        removed = [name for name in known if name not in seen]
        self.unreadable = {}
        self._seen = {id(db): seen}
        if not changed and not removed:
            self._current = self._state(db)
            return seen
        with transaction(db):  # the lock covers the reading: files are opened and closed
            self.remove(db, removed)
            for name, now in changed:
                self.update(db, name, now, self._try_read_entry(self.folder / name))
        return seen

    def _try_read_entry(self, path: Path) -> CatalogEntry | None:
        """Reads a file's entry; one that can't be read is skipped and never changed."""
        try:
            with open_read_only(path) as db:
                return read_entry(db, path)
        except FileNotFoundError:
            return None
        except sqlite3.Error as error:
            reason = translate_error(error).message
        except (CtxmemError, OSError) as error:
            reason = str(error)
        self.unreadable[str(path)] = reason
        if (path.name, reason) not in self._logged:  # a listing tries again each time
            self._logged.add((path.name, reason))
            log.info("Skipped %s", with_name(str(path), reason))  # each listing and search says so
        return None

    def update(self, db: sqlite3.Connection, name: str, seen: str, entry: CatalogEntry | None) -> None:
        """Replaces what the catalog holds of a file whose fingerprint is `seen`."""
        self.delete(db, name)  # counts as a change
        if entry is None:
            return
        i = entry.info
        db.execute(
            f"INSERT INTO files VALUES ({', '.join('?' * 22)})",
            (name, seen, i.conversation_id, i.space, i.title, i.turns, i.tokens, i.branches, i.head, i.created_at,
             i.last_activity, entry.happened, entry.updated, entry.expires, i.expires_at, i.retention_days, i.bytes,
             i.agent, not entry.is_indexed, i.ended, *entry.project),
        )  # fmt: skip
        db.executemany("INSERT OR IGNORE INTO roots VALUES (?, ?)", [(root, name) for root in entry.roots])

    def remove(self, db: sqlite3.Connection, names: Sequence[str]) -> None:
        """Deletes what the catalog and the index over all conversations hold of files that are gone or replaced."""
        self.index.remove(names)
        for name in names:
            self.delete(db, name)

    def delete(self, db: sqlite3.Connection, name: str) -> None:
        """Deletes what the catalog holds of a file."""
        self._changes += 1
        db.execute("DELETE FROM files WHERE name = ?", (name,))
        db.execute("DELETE FROM roots WHERE name = ?", (name,))

    def list_infos(
        self,
        db: sqlite3.Connection,
        now: float,
        space: str | None,
        project: Project | None = None,
        *,
        listed: bool = False,
    ) -> list[tuple[float, ConversationInfo]]:
        """Conversations that have not expired, each with the time of its last activity (seconds since 1970)."""
        self.refresh(db, listed=listed)
        return [
            (file.happened, file.info)
            for file in self.list_files(db)
            if file.expires > now
            and (space is None or file.info.space == space)
            and (project is None or project.contains(file.info.space, file.project, file.root))
        ]

    def list_files(self, db: sqlite3.Connection) -> list[ListedFile]:
        """Returns all rows, the most recently active first; from memory if nobody has written to the catalog since."""
        state = self._state(db)
        if self._listed is None or self._listed[0] != state:
            rows = db.execute(
                f"SELECT happened, expires, name, project, root, {_INFO} FROM files ORDER BY happened DESC, id"
            )
            self._listed = (
                state,
                [
                    ListedFile(happened, expires, name, project, root, _info(columns))
                    for happened, expires, name, project, root, *columns in rows
                ],
            )
        return self._listed[1]

    def _state(self, db: sqlite3.Connection) -> tuple[int, int, int]:
        """Returns what changes when somebody writes to the catalog."""
        (version,) = db.execute("PRAGMA data_version").fetchone()
        return id(db), version, self._changes

    def is_indexed(self, seen: Mapping[str, str]) -> bool:
        """Whether nothing has changed since all files that can be were in the index.

        seen: What the last refresh returned.
        """
        (files, additions), known = self.index.state, self._indexed
        return known is not None and known[0] is seen and known[1] is files and known[2] == additions

    def note_indexed(self, seen: Mapping[str, str]) -> None:
        """Records that all files that can be are in the index."""
        self._indexed = (seen, *self.index.state)

    def numbered(self, db: sqlite3.Connection, now: float) -> tuple[Mapping[int, str], int]:
        """Returns the conversations that have not expired by their numbers in the index, the most recently active
        first; and how many have not expired, with those that are not in it."""
        listed, (files, additions), known = self.list_files(db), self.index.state, self._numbered
        if (
            known is None
            or known.listed is not listed
            or known.files is not files
            or known.additions != additions
            or not known.since <= now < known.until
        ):
            live = [file for file in listed if file.expires > now]
            ids = {files[file.name].number: file.info.conversation_id for file in live if file.name in files}
            until = min((file.expires for file in live), default=now)
            known = self._numbered = _Numbered(listed, files, additions, now, until, ids, len(live))
        return known.ids, known.live

    def find_by_root(self, db: sqlite3.Connection, root: bytes, now: float) -> list[str]:
        self.refresh(db)
        found = db.execute(
            "SELECT id FROM files JOIN roots USING (name) WHERE digest = ? AND expires > ? ORDER BY updated DESC, id",
            (root, now),
        )
        return [row[0] for row in found]

    def list_expired(self, db: sqlite3.Connection, now: float) -> dict[str, float]:
        self.refresh(db)
        return dict(db.execute("SELECT id, expires FROM files WHERE expires <= ?", (now,)).fetchall())

    def list_unindexed(self, db: sqlite3.Connection) -> list[str]:
        self.refresh(db)
        state = self._state(db)
        if self._unindexed is None or self._unindexed[0] != state:
            rows = db.execute("SELECT id FROM files WHERE unindexed ORDER BY updated")
            self._unindexed = state, [row[0] for row in rows]
        return list(self._unindexed[1])

    def list_orphans(self, db: sqlite3.Connection) -> list[Path]:
        """Files without a conversation: the process that created or removed them was killed."""
        self.refresh(db)
        known = {row[0] for row in db.execute("SELECT name FROM files")}
        return [Path(e.path) for e in os.scandir(self.folder) if e.name.endswith(SUFFIX) and e.name not in known]

    def count_terms(
        self, db: sqlite3.Connection, conversation_ids: Sequence[str], terms: Sequence[str]
    ) -> dict[str, dict[str, int] | None]:
        """Reads the indexes of these conversations; see `Store.term_counts`. A file is open for a moment only."""
        found: dict[str, dict[str, int] | None] = {}
        with transaction(db):  # the lock covers the reading: files are opened and closed
            for conversation_id in conversation_ids:
                try:
                    with open_read_only(self.path_of(conversation_id)) as file:
                        counts: dict[str, int] | None = term_index.counts(file, terms)
                except FileNotFoundError:  # forgotten since it was listed
                    continue
                except (sqlite3.Error, CtxmemError, OSError):  # also a file of an earlier format
                    counts = None
                if counts or counts is None:
                    found[conversation_id] = counts
        return found


def _info(row: Sequence[object]) -> ConversationInfo:
    return ConversationInfo(*row)  # type: ignore[arg-type]
