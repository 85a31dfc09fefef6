"""A SQLite connection on its own thread, entered once per transaction.

aiosqlite provides the thread and the queue. Its statement-at-a-time interface is not used: between two awaits another
task's statement could join a transaction, and a cancelled statement would leave it open. Instead a whole function is
sent to the thread, where it begins, works, commits and returns; a cancelled caller just does not receive the result.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import aiosqlite

from ctxmem_mcp.errors import BrokenHistory, CtxmemError, StoreReadOnly, StoreUnavailable
from ctxmem_mcp.private_files import create_empty

T = TypeVar("T")

Durability = Literal["full", "normal"]
# Other processes hold the write lock for milliseconds; this is for a machine that is overloaded or suspended.
BUSY_SECONDS = 30
# The write-ahead log is truncated to this after a checkpoint, so that a burst leaves no big file behind.
WAL_BYTES_MAX = 1 << 20
# The longest path that SQLite opens on POSIX systems: 512 bytes with the suffix of a journal.
PATH_BYTES_MAX = 504
# The bits of an extended error code that hold the primary code.
_PRIMARY = 0xFF
_NOT_DAMAGE = frozenset(
    (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
     sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT)
)  # fmt: skip
_CAN_NOT_WRITE = frozenset((sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM))
# Errors in creating or growing a write-ahead log's index, which a full disk causes.
_NO_ROOM = frozenset((sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMMAP))
# In the messages of SQLite's operational errors that are not about the file's content.
_ENVIRONMENT = ("unable to open", "disk I/O", "readonly", "interrupted", "out of memory", "too many", "transaction")


class Connection(aiosqlite.Connection):
    """A connection to one database file that runs whole functions."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` on the connection's thread and returns its result.

        Raises:
            StoreUnavailable: The connection was closed, or SQLite failed.
            BrokenHistory: SQLite found the file damaged.
        """
        if self._connection is None:
            raise StoreUnavailable("The store or this conversation's file was closed during the call.", "Try again.")
        result: T = await self._execute(_run_translated, work, self._connection)  # type: ignore[no-untyped-call]
        return result

    def join_thread(self) -> None:
        """Waits for the thread to end after opening failed.

        The thread was asked to end, and its last message is for an event loop that may be closed by then. It has
        nothing left to do, so this takes an instant.
        """
        self._thread.join()


def _run_translated(work: Callable[[sqlite3.Connection], T], db: sqlite3.Connection) -> T:
    try:
        return work(db)
    except sqlite3.Error as error:
        raise translate_error(error) from error
    except OSError as error:
        what = f"{error.filename or 'A file'}: {error.strerror}."
        raise StoreUnavailable(what, "Check the data directory.") from error


def translate_error(error: sqlite3.Error) -> CtxmemError:
    """Returns the error of ours that says what went wrong and what the user can do."""
    message = str(error)
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    if code == sqlite3.SQLITE_FULL or "full" in message:
        return StoreReadOnly(
            "The disk is full; nothing was stored.", "Free some space and try again; ctxmem-mcp forget needs none."
        )
    if "locked" in message or "busy" in message:
        return StoreUnavailable(f"Another process held the file for over {BUSY_SECONDS} s.", "Try again.")
    if code in _CAN_NOT_WRITE or getattr(error, "sqlite_errorcode", 0) in _NO_ROOM:
        return StoreReadOnly(
            f"The data directory can't be written (SQLite: {message}).",
            "Check that it exists, that you may write to it, and that the disk has free space.",
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(
            f"The file can't be read or written: I/O error ({error.sqlite_errorname}).",
            "The disk or the file system reports it; check them. Nothing says that the file is damaged.",
        )
    if is_damage(error):
        what = "a text is not valid UTF-8" if "decode" in message else message  # SQLite would quote the text
        return BrokenHistory(f"The file is damaged ({what}).", "Restore it from a backup.")
    return StoreUnavailable(
        f"SQLite failed: {message}.", "Check that the data directory exists, is writable and has free space."
    )


def is_read_only(error: sqlite3.Error) -> bool:
    """Whether the error is that the disk is full, or that a file or folder can't be written."""
    return isinstance(translate_error(error), StoreReadOnly)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error is about the file's content. A damaged schema or header has many messages."""
    message = str(error)
    if getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _NOT_DAMAGE:
        return False
    if isinstance(error, sqlite3.OperationalError):
        return not any(words in message for words in _ENVIRONMENT)
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.ProgrammingError | sqlite3.NotSupportedError
    )


class Database(sqlite3.Connection):
    """A connection whose errors are SQLite's even if one quotes a damaged schema that is not valid UTF-8.

    Python would raise `UnicodeDecodeError` for the message.
    """

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        try:
            return super().execute(*arguments)
        except UnicodeDecodeError as error:
            raise sqlite3.DatabaseError("could not decode an error about the schema") from error


def open_plain(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Opens a database with SQLite's default settings.

    Args:
        create: Create the file if it is missing. Otherwise a missing file is an error: an empty database in its place
            would not be ours.

    Raises:
        StoreUnavailable: SQLite does not open so long a path.
        sqlite3.Error: It can't be opened.
    """
    _check_length(path)
    if create:
        create_empty(path)  # SQLite would create it with the umask's mode; its side files get the database's
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
    return sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=Database
    )


def _check_length(path: Path) -> None:
    size = len(os.fsencode(path.absolute()))
    if os.name == "posix" and size > PATH_BYTES_MAX:
        raise StoreUnavailable(
            f"{path} has {size} bytes; SQLite opens paths of up to {PATH_BYTES_MAX}.",
            "Set CTXMEM_DATA_DIR or --data-dir to a folder with a shorter path.",
        )


def open_database(
    path: Path, durability: Durability, *, journal: str = "WAL", create: bool = False
) -> sqlite3.Connection:
    """Opens a database with our settings: journal mode, synchronous, size of the write-ahead log.

    Raises:
        sqlite3.Error: It can't be opened.
    """
    db = open_plain(path, create=create)
    try:
        db.execute(f"PRAGMA journal_mode={journal}")
        db.execute(f"PRAGMA synchronous={'FULL' if durability == 'full' else 'NORMAL'}")
        db.execute(f"PRAGMA journal_size_limit={WAL_BYTES_MAX}")
    except BaseException:
        db.close()
        raise
    return db


async def connect(open_it: Callable[[], sqlite3.Connection]) -> Connection:
    """Runs `open_it` on a new thread and returns the connection. SQLite's errors are translated to ours."""
    connection = Connection(open_it, iter_chunk_size=64)
    try:
        return await connection  # type: ignore[return-value]
    except Exception as error:
        connection.join_thread()
        if isinstance(error, sqlite3.Error):
            raise translate_error(error) from error
        raise


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """A write transaction. The write lock is taken at once, so two writers never deadlock half-way."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """A read transaction: all reads in it see the same commit, whatever others write between them."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
