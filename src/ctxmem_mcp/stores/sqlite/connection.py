"""A SQLite connection on a thread of its own, crossed once per transaction.

aiosqlite gives the thread and the queue. Its statement-at-a-time interface is not used: between two awaits another
task's statement could join a transaction, and a cancelled statement would leave it open. A whole function goes over
instead, begins, works, commits, and comes back; a cancelled caller just doesn't hear the answer.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import aiosqlite

from ctxmem_mcp.errors import BrokenHistory, CtxmemError, StoreUnavailable

T = TypeVar("T")

Durability = Literal["full", "normal"]
# Other processes hold a write for milliseconds; this is for the machine that stops breathing.
BUSY_SECONDS = 30
# The WAL is cut back to this after a checkpoint, so that a burst leaves no big file behind.
WAL_BYTES_KEPT = 1 << 20


class Connection(aiosqlite.Connection):
    """One database file, used by handing over whole functions."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` on the connection's thread; SQLite's errors come back as ours."""
        if self._connection is None:
            raise StoreUnavailable("The store, or this conversation's file, was closed meanwhile.", "Try again.")
        result: T = await self._execute(_told, work, self._connection)  # type: ignore[no-untyped-call]
        return result

    def wait_for_end(self) -> None:
        """After an opening that failed: its thread was told to end, and its last word is for an event loop that may
        be closed by then. It has nothing left to do, so this takes an instant."""
        self._thread.join()


def _told(work: Callable[[sqlite3.Connection], T], db: sqlite3.Connection) -> T:
    try:
        return work(db)
    except sqlite3.Error as error:
        raise translated(error) from error


def translated(error: sqlite3.Error) -> CtxmemError:
    """What went wrong, and what the user can do."""
    said = str(error)
    if "full" in said:
        return StoreUnavailable("The disk is full; nothing was stored.", "Free some space and try again.")
    if "locked" in said or "busy" in said:
        return StoreUnavailable(f"Another process held the file for over {BUSY_SECONDS} s.", "Try again.")
    if "malformed" in said or "not a database" in said:
        return BrokenHistory(f"The file is damaged ({said}).", "Restore it from a backup; run ctxmem-mcp verify.")
    return StoreUnavailable(
        f"SQLite could not do it: {said}.", "Check that the data directory is there, writable and has room."
    )


def opened(path: Path, *, make: bool = False) -> sqlite3.Connection:
    """A plain connection. Without `make` a file that is not there stays so: an empty one in its place would not be
    ours."""
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if make else 'rw'}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def opener(
    path: Path, durability: Durability, *, journal: str = "WAL", make: bool = False
) -> Callable[[], sqlite3.Connection]:
    """A function that opens a file with our settings; raises sqlite3.Error."""

    def open_it() -> sqlite3.Connection:
        db = opened(path, make=make)
        try:
            db.execute(f"PRAGMA journal_mode={journal}")
            db.execute(f"PRAGMA synchronous={'FULL' if durability == 'full' else 'NORMAL'}")
            db.execute(f"PRAGMA journal_size_limit={WAL_BYTES_KEPT}")
        except BaseException:
            db.close()
            raise
        return db

    return open_it


async def connected(open_it: Callable[[], sqlite3.Connection]) -> Connection:
    """An open connection; SQLite's errors come as ours."""
    connection = Connection(open_it, iter_chunk_size=64)
    try:
        return await connection  # type: ignore[return-value]
    except Exception as error:
        connection.wait_for_end()
        if isinstance(error, sqlite3.Error):
            raise translated(error) from error
        raise


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; the write lock is taken at once, so two writers never deadlock half-way."""
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
    """Reads that see one and the same commit, whatever others write between them."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
