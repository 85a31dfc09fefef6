"""The catalog: a rebuildable cache of what each conversation's file contains, and the lock of the whole folder.

Appends never write to it. A listing compares each file's fingerprint with the one in the catalog and reads only the
files that changed; deleting catalog.db loses nothing. Its write transaction is the mutex for creating and removing
files, so that no process creates a conversation again while another still removes the old one's side files. It has no
write-ahead log and secure_delete is on: once a row is gone, no byte of its title is in the file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.errors import BrokenHistory, CtxmemError, StoreReadOnly, StoreUnavailable
from ctxmem_mcp.models import ConversationInfo, id_digits
from ctxmem_mcp.private_files import FILE_MODE, correct_modes, create_folder
from ctxmem_mcp.stores.base import AGENT, TIMED_TURNS_MAX, State, last_happened, to_info
from ctxmem_mcp.stores.sqlite import check, queries
from ctxmem_mcp.stores.sqlite.connection import (
    Connection,
    connect,
    is_damage,
    open_database,
    transaction,
    translate_error,
)
from ctxmem_mcp.stores.sqlite.file_open import catalog_lock, check_writable, open_read_only
from ctxmem_mcp.stores.sqlite.schema import FORMAT, check_header

log = logging.getLogger(__name__)
T = TypeVar("T")

SUFFIX = ".ctxmem"
FOLDER = "conversations"
# Suffixes of SQLite's side files; "" is the database itself.
SIDE_FILES = ("", "-wal", "-shm", "-journal")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, id TEXT NOT NULL, space TEXT, title TEXT NOT NULL,
    turns INTEGER NOT NULL, tokens INTEGER NOT NULL, branches INTEGER NOT NULL, head TEXT, created TEXT NOT NULL,
    active TEXT NOT NULL, happened REAL NOT NULL, updated REAL NOT NULL, expires REAL NOT NULL,
    expires_at TEXT NOT NULL, retention_days INTEGER NOT NULL, bytes INTEGER NOT NULL, agent TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roots (digest BLOB NOT NULL, name TEXT NOT NULL, PRIMARY KEY (digest, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (day INTEGER PRIMARY KEY, tokens INTEGER NOT NULL);
PRAGMA user_version = 4;
"""
_VERSION = 4
# File times advance in ticks of a few milliseconds: two commits within one tick may leave the same fingerprint.
_TICK_NS = 100_000_000
# A catalog that is deleted this often during a single change is deleted on purpose.
_ATTEMPTS_MAX = 5
_INFO = "id, title, space, turns, tokens, branches, head, created, active, expires_at, retention_days, bytes, agent"


def file_name(conversation_id: str) -> str:
    """A name that is safe on any file system and differs for ids that differ only in case."""
    slug = re.sub(r"[^A-Za-z0-9._-]", "_", conversation_id)[:48]
    return f"{slug}-{hashlib.sha256(conversation_id.encode()).hexdigest()[:10]}{SUFFIX}"


def with_side_files(path: Path) -> list[Path]:
    """The paths of a database and of its side files, whether they exist or not."""
    return [path.with_name(path.name + suffix) for suffix in SIDE_FILES]


def inode_of(path: Path) -> int | None:
    """Identifies the file that is at a path now; None if there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def fingerprint(path: Path) -> str:
    """Changes with every commit: made of the size and time of the file and of its write-ahead log.

    The fingerprint of a file written just now never repeats, because the next commit may leave the same size and time.
    """
    parts, now = [], time.time_ns()
    for file in with_side_files(path)[:2]:
        with contextlib.suppress(OSError):
            stat = file.stat()
            if stat.st_size or file == path:
                parts.append(f"{stat.st_size}.{stat.st_mtime_ns}")
                if abs(now - stat.st_mtime_ns) < _TICK_NS:
                    parts.append(f"~{now}")
    return "/".join(parts)


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """What the catalog holds of a file. Times are in seconds since 1970; roots are digests of first turns."""

    info: ConversationInfo
    happened: float
    updated: float
    expires: float
    roots: list[bytes]


def read_entry(db: sqlite3.Connection, path: Path) -> CatalogEntry | None:
    """Reads an open file; returns None if it holds no conversation, or a forgotten one.

    Raises:
        StoreUnavailable: The file does not have the name that its conversation's file must have.
    """
    row = db.execute("SELECT id FROM conversation WHERE NOT forgotten").fetchone()
    state = queries.state(db, row[0], float("-inf")) if row else None
    if state is None:
        return None
    size = sum(file.stat().st_size for file in with_side_files(path) if file.exists())
    if (name := file_name(state.conversation_id)) != path.name:
        raise StoreUnavailable(f"It holds conversation {row[0]!r}, whose file must be called {name}.", "Rename it.")
    last = state.next_seq - 1
    happened = last_happened(
        state,
        db.execute(
            "SELECT said_at, stored_at FROM turns WHERE seq BETWEEN ? AND ? ORDER BY seq DESC",
            (last - TIMED_TURNS_MAX + 1, last),
        ),
    )
    info = to_info(state, _turn_id(db, state.head), size, happened, queries.extra(db, AGENT))
    return CatalogEntry(info, happened, state.updated, state.expires, _roots(db, state))


def _turn_id(db: sqlite3.Connection, seq: int) -> str | None:
    row = db.execute("SELECT at_index, digest FROM turns WHERE seq = ?", (seq,)).fetchone()
    return f"t{row[0]}-{id_digits(row[1])}" if row else None


def _roots(db: sqlite3.Connection, state: State) -> list[bytes]:
    return [queries.digests(db, run.first_seq, run.first_seq)[0] for run in state.runs if not run.parent_seq]


class _CatalogDeleted(Exception):
    """The catalog that was locked is no longer in the folder."""


class Catalog:
    """The folder of conversations as a whole."""

    def __init__(self, data_dir: Path) -> None:
        data_dir = Path(os.path.realpath(data_dir))
        self.folder = data_dir / FOLDER
        self.path = data_dir / "catalog.db"
        self._connection: Connection | None = None
        self._in_memory: Connection | None = None
        # The conversations' files that can't be read, each with the reason. As of the last refresh.
        self.unreadable: dict[str, str] = {}
        self._logged: set[tuple[str, str]] = set()
        self._inode: int | None = None
        self._connect_lock = anyio.Lock()
        self._may_open = True

    def path_of(self, conversation_id: str) -> Path:
        return self.folder / file_name(conversation_id)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work`, which reads, on the catalog's thread. Creates a damaged or deleted catalog again.

        If the catalog can't be written (a full disk, a read-only folder), `work` gets a copy in memory.
        """
        try:
            return await self._run(work)
        except StoreReadOnly as error:
            log.info("The catalog can't be written, so the conversations are listed without it: %s", error.message)
            return await (await self._connect_in_memory()).run(work)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await (await self.connect()).run(work)
        except BrokenHistory:
            await self.close()
            return await (await self.connect(recreate=True)).run(work)
        except StoreUnavailable:
            if self._is_current():
                raise
            return await (await self.connect()).run(work)

    async def run_locked(self, work: Callable[[sqlite3.Connection], T], *, removes: bool = False) -> T:
        """Runs `work` while no other process creates or removes a file.

        Args:
            work: What to run.
            removes: It only removes files, so it runs on a full disk too, on a copy of the catalog in memory. If there
                is no catalog and no room for one, nothing is locked: without room nobody creates a file.

        Raises:
            StoreReadOnly: The folder can't be written.
        """

        started = False

        def locked(db: sqlite3.Connection) -> T:
            nonlocal started
            with transaction(db):
                if not self._is_current():
                    raise _CatalogDeleted
                started = True
                return work(db)

        for _ in range(_ATTEMPTS_MAX):
            try:
                return await self._run(locked)
            except _CatalogDeleted:  # other processes lock the one created since
                continue
            except StoreReadOnly:
                if started or not removes:
                    raise
                return await self._remove_without_room(work)
        raise StoreUnavailable(f"{self.path} is deleted again and again.", "Leave it in place and try again.")

    async def _remove_without_room(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def locked(db: sqlite3.Connection) -> T:
            check_writable(self.path)
            with contextlib.ExitStack() as lock:
                with contextlib.suppress(sqlite3.Error):
                    lock.enter_context(catalog_lock(self.path))
                with transaction(db):
                    return work(db)

        return await (await self._connect_in_memory()).run(locked)

    async def _connect_in_memory(self) -> Connection:
        """Returns the copy of the catalog in memory, which is made once."""
        async with self._connect_lock:
            if self._in_memory is None:
                if not self._may_open:
                    raise StoreUnavailable("This memory was closed.", "Open a new one.")
                self._in_memory = await run_to_completion(connect(partial(_copy_into_memory, self.path)))
            return self._in_memory

    async def connect(self, *, recreate: bool = False) -> Connection:
        """Returns the open catalog.

        Args:
            recreate: Delete the file first if it is not open.

        Raises:
            StoreUnavailable: The data directory can't be used, or `prevent_reopening` was called.
        """
        async with self._connect_lock:
            if self._connection is not None and not self._is_current():
                await self.close()
            connection = self._connection
            if connection is None:
                if not self._may_open:
                    raise StoreUnavailable("This memory was closed.", "Open a new one.")
                try:
                    create_folder(self.folder)
                except OSError as error:
                    raise data_dir_error(self.folder.parent, error) from error
                connection = await run_to_completion(self._open(recreate))
            return connection

    async def _open(self, recreate: bool) -> Connection:
        try:
            connection = self._connection = await connect(partial(self._open_private, recreate))
        except OSError as error:
            raise data_dir_error(self.folder.parent, error) from error
        self._inode = inode_of(self.path)
        return connection

    def _open_private(self, recreate: bool) -> sqlite3.Connection:
        """Opens the catalog; makes the folder private first, in case other programs have written to it."""
        if corrected := correct_modes(self.folder.parent):
            log.warning("Made %d files and folders in %s private: others could read them.", corrected, self.path.parent)
        return _open_or_recreate(self.path, recreate)

    def prevent_reopening(self) -> None:
        self._may_open = False

    async def close(self) -> None:
        for connection in (self._connection, self._in_memory):
            if connection is not None:
                await run_to_completion(connection.close())
        self._connection = self._in_memory = None

    def _is_current(self) -> bool:
        """Whether the open catalog is still the one in the folder: anybody may delete it at any time."""
        return self._inode is not None and inode_of(self.path) == self._inode

    # Everything below runs on the catalog's thread.

    def refresh(self, db: sqlite3.Connection) -> None:
        """Brings the catalog up to date with the folder."""
        known = dict(db.execute("SELECT name, fingerprint FROM files"))
        paths = {entry.name: Path(entry.path) for entry in os.scandir(self.folder) if entry.name.endswith(SUFFIX)}
        changed = [(path, now) for name, path in paths.items() if (now := fingerprint(path)) != known.get(name)]
        removed = [name for name in known if name not in paths]
        self.unreadable = {}
        if not changed and not removed:
            return
        with transaction(db):  # the lock covers the reading: files are opened and closed
            for name in removed:
                self.delete(db, name)
            for path, now in changed:
                self.update(db, path.name, now, self._try_read_entry(path))

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
            log.warning("Skipped %s: %s", path, reason)
        return None

    def update(self, db: sqlite3.Connection, name: str, seen: str, entry: CatalogEntry | None) -> None:
        """Replaces what the catalog holds of a file whose fingerprint is `seen`."""
        self.delete(db, name)
        if entry is None:
            return
        i = entry.info
        db.execute(
            f"INSERT INTO files VALUES ({', '.join('?' * 18)})",
            (name, seen, i.conversation_id, i.space, i.title, i.turns, i.tokens, i.branches, i.head, i.created_at,
             i.last_activity, entry.happened, entry.updated, entry.expires, i.expires_at, i.retention_days, i.bytes,
             i.agent),
        )  # fmt: skip
        db.executemany("INSERT OR IGNORE INTO roots VALUES (?, ?)", [(root, name) for root in entry.roots])

    def delete(self, db: sqlite3.Connection, name: str) -> None:
        """Deletes what the catalog holds of a file."""
        db.execute("DELETE FROM files WHERE name = ?", (name,))
        db.execute("DELETE FROM roots WHERE name = ?", (name,))

    def list_infos(self, db: sqlite3.Connection, now: float, space: str | None) -> list[tuple[float, ConversationInfo]]:
        """Conversations that have not expired, each with the time of its last activity (seconds since 1970)."""
        self.refresh(db)
        condition, values = ("AND space = ?", [space]) if space is not None else ("", [])
        rows = db.execute(f"SELECT happened, {_INFO} FROM files WHERE expires > ? {condition}", [now, *values])
        return [(row[0], _info(row[1:])) for row in rows]

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
                        counts: dict[str, int] | None = queries.term_counts(file, terms)
                except FileNotFoundError:  # forgotten since it was listed
                    continue
                except (sqlite3.Error, CtxmemError, OSError):  # also a file of an earlier format
                    counts = None
                if counts or counts is None:
                    found[conversation_id] = counts
        return found

    def find_damaged(self, until: float) -> dict[str, str]:
        """Returns what is wrong with each damaged file, by the id of its conversation, or its path if that is lost.

        Args:
            until: When to stop, on the monotonic clock; the files last changed are looked at first.
        """
        found: dict[str, str] = {}
        for path in sorted(self.folder.glob(f"*{SUFFIX}"), key=_changed_at, reverse=True):
            if time.monotonic() > until:
                break
            if faults := _quick_faults(path, until):
                found[_id_of(path)] = faults[0]
        return found


def _changed_at(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _quick_faults(path: Path, until: float) -> list[str]:
    try:
        with open_read_only(path) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            return check.find_quickly(db, until) if version == FORMAT else []
    except sqlite3.Error as error:
        translated = translate_error(error)
        return [translated.message] if isinstance(translated, BrokenHistory) else []
    except (CtxmemError, OSError):  # not ours, newer, gone
        return []


def _id_of(path: Path) -> str:
    """The id of the conversation in a file that may be damaged: from its row, or its name."""
    with contextlib.suppress(CtxmemError, sqlite3.Error, OSError), open_read_only(path) as db:
        row = db.execute("SELECT id FROM conversation").fetchone()
        if row and isinstance(row[0], str) and file_name(row[0]) == path.name:
            return row[0]
    named = path.name.removesuffix(SUFFIX)[:-11]
    return named if file_name(named) == path.name else str(path)


def _info(row: Sequence[object]) -> ConversationInfo:
    return ConversationInfo(*row)  # type: ignore[arg-type]


def copy_into(file: Path, data_dir: Path) -> Path:
    """Copies a conversation's file into a data directory that nobody uses yet, under the name that it must have there.

    Returns:
        The path of the copy.

    Raises:
        StoreUnavailable: The file holds no conversation.
    """
    check_header(file)
    folder = data_dir / FOLDER
    create_folder(folder)
    copy = Path(shutil.copyfile(file, folder / f"arriving{file.suffix}"))
    copy.chmod(FILE_MODE)
    try:
        with open_read_only(copy) as db:
            row = db.execute("SELECT id FROM conversation WHERE NOT forgotten").fetchone()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise translate_error(error) from error
        row = None
    if row is None:
        raise StoreUnavailable(f"{file} holds no conversation.", "Check that it was copied completely.")
    return copy.rename(folder / file_name(row[0]))


def _open_or_recreate(path: Path, recreate: bool = False) -> sqlite3.Connection:
    """Opens the catalog; creates it if it is missing, damaged or of another format, for it is only a cache."""
    if recreate:
        _delete_file(path)
    _move_odd_file(path)
    try:
        return _open_with_schema(path)
    except sqlite3.OperationalError:  # busy, disk full, no access: nothing is wrong with the file
        raise
    except sqlite3.DatabaseError:
        _delete_file(path)
        return _open_with_schema(path)


def _move_odd_file(path: Path) -> None:
    """Renames a folder, a pipe or the like that is at the path of the catalog. Nothing is deleted: it is not ours."""
    if os.path.lexists(path) and not (path.is_file() or path.is_symlink()):
        aside = path.with_name(f"{path.name}.{time.time_ns()}.aside")
        log.warning("%s is not a file; it was renamed to %s.", path, aside.name)
        os.rename(path, aside)


def _copy_into_memory(path: Path) -> sqlite3.Connection:
    """Returns a copy of the catalog in memory; an empty one if the catalog can't be read."""
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as disk:
            disk.backup(db)
        return _with_schema(db)
    except sqlite3.Error:
        db.close()
    return _with_schema(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))


def _open_with_schema(path: Path) -> sqlite3.Connection:
    check_writable(path)
    return _with_schema(open_database(path, "normal", journal="DELETE", create=True))


def _with_schema(db: sqlite3.Connection) -> sqlite3.Connection:
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


def data_dir_error(folder: Path, error: OSError) -> StoreUnavailable:
    full_or_read_only = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
    return (StoreReadOnly if full_or_read_only else StoreUnavailable)(
        f"The data directory {folder} can't be used: {error.strerror}.",
        "Set CTXMEM_DATA_DIR or --data-dir to a folder that can be written.",
    )


def _delete_file(path: Path) -> None:
    log.warning("Rebuilding %s from the conversations.", path)
    for file in with_side_files(path):
        file.unlink(missing_ok=True)
