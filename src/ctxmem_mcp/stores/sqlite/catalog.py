"""The catalog: a rebuildable cache of what each conversation's file says of itself, and the folder-wide lock.

Appends never write it. A listing compares each file's fingerprint with the one the catalog has seen and reads only
those that changed; deleting catalog.db loses nothing. Its write transaction is the mutex for making and removing
files, so that no process makes a conversation anew while another still removes the old one's side files.
No WAL here and secure_delete on: once a row is gone, no byte of its title is in the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio

from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.errors import BrokenHistory, CtxmemError, StoreUnavailable
from ctxmem_mcp.models import ConversationInfo, id_digits
from ctxmem_mcp.stores.base import State, info_of
from ctxmem_mcp.stores.sqlite import queries
from ctxmem_mcp.stores.sqlite.connection import Connection, connected, opened, opener, transaction
from ctxmem_mcp.stores.sqlite.file_open import closed, open_checked
from ctxmem_mcp.stores.sqlite.schema import check_header

log = logging.getLogger(__name__)
T = TypeVar("T")

SUFFIX = ".ctxmem"
FOLDER = "conversations"
SIDE_FILES = ("", "-wal", "-shm", "-journal")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, id TEXT NOT NULL, space TEXT, title TEXT NOT NULL,
    turns INTEGER NOT NULL, tokens INTEGER NOT NULL, branches INTEGER NOT NULL, head TEXT, created TEXT NOT NULL,
    active TEXT NOT NULL, updated REAL NOT NULL, expires REAL NOT NULL, expires_at TEXT NOT NULL,
    retention_days INTEGER NOT NULL, bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roots (digest BLOB NOT NULL, name TEXT NOT NULL, PRIMARY KEY (digest, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (day INTEGER PRIMARY KEY, tokens INTEGER NOT NULL);
PRAGMA user_version = 3;
"""
_VERSION = 3
# File times are kept in ticks of a few milliseconds: two commits within one may leave one fingerprint.
_TICK_NS = 100_000_000
# To be deleted so often within one change, somebody has to mean it.
_TRIES = 5
_INFO = "id, title, space, turns, tokens, branches, head, created, active, expires_at, retention_days, bytes"


def file_name(conversation_id: str) -> str:
    """A name safe on any file system, different for ids that differ only in case."""
    slug = re.sub(r"[^A-Za-z0-9._-]", "_", conversation_id)[:48]
    return f"{slug}-{hashlib.sha256(conversation_id.encode()).hexdigest()[:10]}{SUFFIX}"


def side_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + end) for end in SIDE_FILES]


def inode_of(path: Path) -> int | None:
    """Which file lies there; None where there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def fingerprint(path: Path) -> str:
    """Changes whenever a commit does: size and time of the file and of its write-ahead log. One of a file written
    just now is never the same twice, for the next commit may leave the same size and time."""
    parts, now = [], time.time_ns()
    for file in side_files(path)[:2]:
        with contextlib.suppress(OSError):
            stat = file.stat()
            if stat.st_size or file == path:
                parts.append(f"{stat.st_size}.{stat.st_mtime_ns}")
                if abs(now - stat.st_mtime_ns) < _TICK_NS:
                    parts.append(f"~{now}")
    return "/".join(parts)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file says of itself."""

    info: ConversationInfo
    updated: float
    expires: float
    roots: list[bytes]


def entry_of(db: sqlite3.Connection, path: Path) -> Entry | None:
    """Read from an open file; None where it holds no conversation (any more)."""
    row = db.execute("SELECT id FROM conversation WHERE NOT forgotten").fetchone()
    state = queries.state(db, row[0], float("-inf")) if row else None
    if state is None:
        return None
    size = sum(file.stat().st_size for file in side_files(path) if file.exists())
    if (name := file_name(state.conversation_id)) != path.name:
        raise StoreUnavailable(f"It holds conversation {row[0]!r}, whose file is called {name}.", "Rename it.")
    info = info_of(state, _turn_id(db, state.head), size)
    return Entry(info, state.updated, state.expires, _roots(db, state))


def _turn_id(db: sqlite3.Connection, seq: int) -> str | None:
    row = db.execute("SELECT at_index, digest FROM turns WHERE seq = ?", (seq,)).fetchone()
    return f"t{row[0]}-{id_digits(row[1])}" if row else None


def _roots(db: sqlite3.Connection, state: State) -> list[bytes]:
    return [queries.digests(db, run.first_seq, run.first_seq)[0] for run in state.runs if not run.parent_seq]


class _CatalogDeleted(Exception):
    """The catalog that was locked is not in the folder any more."""


class Catalog:
    """The folder of conversations as a whole."""

    def __init__(self, data_dir: Path) -> None:
        data_dir = Path(os.path.realpath(data_dir))
        self.folder = data_dir / FOLDER
        self.path = data_dir / "catalog.db"
        self._connection: Connection | None = None
        self._inode: int | None = None
        self._opening = anyio.Lock()
        self._ended = False

    def path_of(self, conversation_id: str) -> Path:
        return self.folder / file_name(conversation_id)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` on the catalog's thread; a catalog that turns out to be damaged, or deleted, is made anew."""
        try:
            return await (await self.ready()).run(work)
        except BrokenHistory:
            await self.close()
            return await (await self.ready(anew=True)).run(work)
        except StoreUnavailable:
            if self._is_current():
                raise
            return await (await self.ready()).run(work)

    async def exclusively(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` while no other process makes or removes a file."""

        def alone(db: sqlite3.Connection) -> T:
            with transaction(db):
                if not self._is_current():
                    raise _CatalogDeleted
                return work(db)

        for _ in range(_TRIES):
            with contextlib.suppress(_CatalogDeleted):  # others lock the one made since
                return await self.run(alone)
        raise StoreUnavailable(f"{self.path} is deleted again and again.", "Leave it where it is and try again.")

    async def ready(self, *, anew: bool = False) -> Connection:
        """The open catalog. anew: whatever there is of it is thrown away."""
        async with self._opening:
            if self._connection is not None and not self._is_current():
                await self.close()
            connection = self._connection
            if connection is None:
                if self._ended:
                    raise StoreUnavailable("This memory was closed.", "Open it anew.")
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise unusable(self.folder.parent, error) from error
                connection = await run_to_completion(self._open(anew))
            return connection

    async def _open(self, anew: bool) -> Connection:
        connection = self._connection = await connected(lambda: _opened(self.path, anew))
        self._inode = inode_of(self.path)
        return connection

    def prevent_reopening(self) -> None:
        self._ended = True

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await run_to_completion(connection.close())

    def _is_current(self) -> bool:
        """Whether the catalog that is open still lies in the folder: anybody may delete it at any time."""
        return self._inode is not None and inode_of(self.path) == self._inode

    # Everything below runs on the catalog's thread.

    def refresh(self, db: sqlite3.Connection) -> None:
        """Brings the catalog up to date with the folder."""
        seen = dict(db.execute("SELECT name, fingerprint FROM files"))
        there = {entry.name: Path(entry.path) for entry in os.scandir(self.folder) if entry.name.endswith(SUFFIX)}
        changed = [(path, now) for name, path in there.items() if (now := fingerprint(path)) != seen.get(name)]
        gone = [name for name in seen if name not in there]
        if not changed and not gone:
            return
        with transaction(db):  # the lock covers the reading: files are opened and closed
            for name in gone:
                self.strike(db, name)
            for path, now in changed:
                self.note(db, path.name, now, _read(path))

    def note(self, db: sqlite3.Connection, name: str, seen: str, entry: Entry | None) -> None:
        self.strike(db, name)
        if entry is None:
            return
        i = entry.info
        db.execute(
            f"INSERT INTO files VALUES ({', '.join('?' * 16)})",
            (name, seen, i.conversation_id, i.space, i.title, i.turns, i.tokens, i.branches, i.head, i.created_at,
             i.last_activity, entry.updated, entry.expires, i.expires_at, i.retention_days, i.bytes),
        )  # fmt: skip
        db.executemany("INSERT OR IGNORE INTO roots VALUES (?, ?)", [(root, name) for root in entry.roots])

    def strike(self, db: sqlite3.Connection, name: str) -> None:
        db.execute("DELETE FROM files WHERE name = ?", (name,))
        db.execute("DELETE FROM roots WHERE name = ?", (name,))

    def infos(self, db: sqlite3.Connection, now: float, space: str | None) -> list[tuple[float, ConversationInfo]]:
        """Each with the instant of its last activity."""
        self.refresh(db)
        where, values = ("AND space = ?", [space]) if space is not None else ("", [])
        rows = db.execute(f"SELECT updated, {_INFO} FROM files WHERE expires > ? {where}", [now, *values])
        return [(row[0], _info(row[1:])) for row in rows]

    def with_root(self, db: sqlite3.Connection, root: bytes, now: float) -> list[str]:
        self.refresh(db)
        found = db.execute(
            "SELECT id FROM files JOIN roots USING (name) WHERE digest = ? AND expires > ? ORDER BY updated DESC, id",
            (root, now),
        )
        return [row[0] for row in found]

    def expired(self, db: sqlite3.Connection, now: float) -> list[str]:
        self.refresh(db)
        return [row[0] for row in db.execute("SELECT id FROM files WHERE expires <= ? ORDER BY id", (now,))]

    def remains(self, db: sqlite3.Connection) -> list[Path]:
        """Files that hold no living conversation though nobody swept them: whoever made or removed them was killed."""
        self.refresh(db)
        known = {row[0] for row in db.execute("SELECT name FROM files")}
        return [Path(e.path) for e in os.scandir(self.folder) if e.name.endswith(SUFFIX) and e.name not in known]


def _info(row: Sequence[object]) -> ConversationInfo:
    return ConversationInfo(*row)  # type: ignore[arg-type]


def _read(path: Path) -> Entry | None:
    """What a file says of itself; one that can't be read is told and passed over, never touched."""
    try:
        with reading_only(path) as db:
            return entry_of(db, path)
    except (CtxmemError, sqlite3.Error, OSError) as error:
        log.warning("%s is passed over: %s", path, error)
        return None


def copy_into(file: Path, data_dir: Path) -> Path:
    """A copy of a conversation's file in a data folder that nobody uses yet, under the name that it must have there.

    Raises StoreUnavailable where the file holds no conversation.
    """
    check_header(file)
    folder = data_dir / FOLDER
    folder.mkdir(parents=True)
    copy = Path(shutil.copy(file, folder / f"arriving{file.suffix}"))
    try:
        with reading_only(copy) as db:
            row = db.execute("SELECT id FROM conversation WHERE NOT forgotten").fetchone()
    except sqlite3.Error:
        row = None
    if row is None:
        raise StoreUnavailable(f"{file} holds no conversation.", "Was it copied whole?")
    return copy.rename(folder / file_name(row[0]))


@contextlib.contextmanager
def reading_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Another connection to a file, for a look. The caller holds the catalog's lock."""
    db = open_checked(path, lambda: opened(path))
    try:
        db.execute("PRAGMA query_only = ON")
        yield db
    finally:
        db.close()
        closed(path)


def _opened(path: Path, anew: bool = False) -> sqlite3.Connection:
    """The catalog, made anew where it is missing, damaged or of another format: it is only a cache."""
    if anew:
        _remove(path)
    try:
        return _prepared(path)
    except sqlite3.OperationalError:  # busy, no room, no access: nothing is wrong with the file
        raise
    except sqlite3.DatabaseError:
        _remove(path)
        return _prepared(path)


def _prepared(path: Path) -> sqlite3.Connection:
    db = opener(path, "normal", journal="DELETE", make=True)()
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


def unusable(folder: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"The data directory {folder} can't be used: {error.strerror}.",
        "Set CTXMEM_DATA_DIR or --data-dir to a folder that can be written.",
    )


def _remove(path: Path) -> None:
    log.warning("%s is made anew from the conversations", path)
    for file in side_files(path):
        file.unlink(missing_ok=True)
