"""The open files of a store's conversations: each is opened on first use and closed when others need its place."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import anyio

from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.errors import BrokenHistory, CtxmemError, DamagedConversation, StoreReadOnly, UnknownConversation
from ctxmem_mcp.stores.sqlite import queries
from ctxmem_mcp.stores.sqlite.catalog import Catalog
from ctxmem_mcp.stores.sqlite.compression import TextCompression
from ctxmem_mcp.stores.sqlite.connection import Connection, Durability, connect, open_database
from ctxmem_mcp.stores.sqlite.conversation_files import data_dir_error, inode_of
from ctxmem_mcp.stores.sqlite.file_open import (
    catalog_lock,
    check_writable,
    close_under_lock,
    open_checked,
    open_image,
    release,
)
from ctxmem_mcp.stores.sqlite.image import FileState, file_state
from ctxmem_mcp.stores.sqlite.schema import migrate
from ctxmem_mcp.stores.sqlite.term_index import TermCache

log = logging.getLogger(__name__)
T = TypeVar("T")

# Each open file costs a thread, up to three descriptors and up to 3 MB of cache and dictionary. Beyond the limit each
# operation opens a file and closes another, 20 ms of disk writes that everyone waits for: with 16 files, calls of 64
# agents took five times as long as with 96.
_MOST, _LEAST = 96, 16
# Of the other open files, the contexts of Zstandard are freed: up to 2.3 MB a file, which grow with its longest text.
# New ones take 0.4 ms, at the next text.
FILES_WITH_CONTEXTS_MAX = 16


def _files_open_max() -> int:
    """Returns how many files are open at most: three eighths of this process's descriptors are theirs."""
    if sys.platform == "win32":
        return _MOST
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(_LEAST, min(_MOST, soft // 8))


FILES_OPEN_MAX = _files_open_max()


@dataclass(slots=True)
class OpenFile:
    """A conversation's open file. `inode` identifies the file that was opened; `users` counts operations on it."""

    connection: Connection
    path: Path
    inode: int
    # Of a file that SQLite can't open: the state in which it was copied into memory.
    image_of: FileState | None = None
    compression: TextCompression = field(default_factory=TextCompression)
    summaries: queries.SummaryCache = field(default_factory=queries.SummaryCache)
    terms: TermCache = field(default_factory=TermCache)
    users: int = 0

    def write_summaries(self, work: Callable[[sqlite3.Connection], T], db: sqlite3.Connection) -> T:
        """Runs `work`, which may write summaries, and clears the cache of summaries read before."""
        try:
            return work(db)
        finally:
            self.summaries.clear()

    def is_current(self) -> bool:
        """Whether the path still leads to this file, and not to none or to one created since, or changed since it was
        copied."""
        if self.image_of is not None:
            return file_state(self.path) == self.image_of
        return inode_of(self.path) == self.inode

    def is_suitable(self, write: bool) -> bool:
        return self.is_current() and not (write and self.image_of is not None)


class OpenFiles:
    """Opens and closes the files of one store."""

    def __init__(self, catalog: Catalog, durability: Durability) -> None:
        """Opens nothing yet."""
        self._catalog, self._durability = catalog, durability
        self._files: OrderedDict[str, OpenFile] = OrderedDict()
        # Those that may have contexts of Zstandard, the one used last at the end.
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._open_lock = anyio.Lock()

    async def close_all(self) -> None:
        for conversation_id in list(self._files):
            await self.close(conversation_id)

    @contextlib.asynccontextmanager
    async def use(self, conversation_id: str, *, write: bool = False) -> AsyncIterator[OpenFile]:
        """The conversation's file, which stays open while it is in use. Damage found in it names the conversation.

        Raises:
            StoreReadOnly: It is to be written, but can only be read.
        """
        try:
            file = self._files.get(conversation_id)
            if file is None or not file.is_suitable(write):
                file = await self._get_or_open(conversation_id, write)
            if next(reversed(self._files)) != conversation_id:
                self._files.move_to_end(conversation_id)
            self._release_contexts(conversation_id)
            file.users += 1
            try:
                yield file
            except asyncio.CancelledError:
                if write:  # the thread may commit only now
                    with contextlib.suppress(CtxmemError):
                        await run_to_completion(file.connection.run(lambda _: None))
                raise
            finally:
                file.users -= 1
                if write:
                    self._catalog.note_change()
        except BrokenHistory as error:
            raise DamagedConversation(conversation_id, error.message) from error

    async def _get_or_open(self, conversation_id: str, write: bool) -> OpenFile:
        async with self._open_lock:
            file = self._files.get(conversation_id)
            if file is None or not file.is_suitable(write):
                return await run_to_completion(self._reopen(conversation_id, write))
            return file

    async def _reopen(self, conversation_id: str, write: bool) -> OpenFile:
        await self.close(conversation_id)
        await self._close_idle()
        path = self._catalog.path_of(conversation_id)
        try:
            file = await self._open(conversation_id, path)
        except StoreReadOnly as error:
            if write:
                raise
            log.info("%s is read into memory: %s", path, error.message)
            file = await self._open_image(conversation_id, path)
        self._files[conversation_id] = file
        return file

    async def _open_image(self, conversation_id: str, path: Path) -> OpenFile:
        states: list[FileState] = []
        try:
            connection = await connect(partial(_open_migrated_image, path, states.append))
        except FileNotFoundError:
            raise UnknownConversation(conversation_id) from None
        return OpenFile(connection, path, inode_of(path) or 0, states[0])

    async def _open(self, conversation_id: str, path: Path) -> OpenFile:
        try:
            inode = os.stat(path).st_ino
            check_writable(path)
            await self._catalog.connect()
            connection = await connect(partial(self._open_current_format, path))
        except FileNotFoundError:
            raise UnknownConversation(conversation_id) from None
        except OSError as error:
            raise data_dir_error(path.parent.parent, error) from error
        return OpenFile(connection, path, inode)

    def _open_current_format(self, path: Path) -> sqlite3.Connection:
        with catalog_lock(self._catalog.path):  # nobody removes the file between the check and the opening
            db = open_checked(path, partial(open_database, path, self._durability))
            try:
                migrate(db)
            except BaseException:
                db.close()
                release(path)
                raise
            return db

    async def _close_idle(self) -> None:
        """Makes room for one more open file."""
        idle = [name for name, file in self._files.items() if not file.users]
        for name in idle[: max(0, len(self._files) + 1 - FILES_OPEN_MAX)]:
            await self.close(name)

    def _release_contexts(self, used: str) -> None:
        """Frees the contexts of all files but those used last. used: the one that is used now."""
        self._recent[used] = None
        self._recent.move_to_end(used)
        for name in list(islice(self._recent, max(0, len(self._recent) - FILES_WITH_CONTEXTS_MAX))):
            file = self._files.get(name)
            if file is not None and file.users:
                continue
            del self._recent[name]
            if file is not None:
                file.compression.release_contexts()

    async def close(self, conversation_id: str) -> None:
        file = self._files.pop(conversation_id, None)
        if file is not None:
            await run_to_completion(self._close_connection(file))

    async def _close_connection(self, file: OpenFile) -> None:
        if file.image_of is not None:
            await file.connection.close()
            return
        await file.connection.run(partial(close_under_lock, path=file.path, catalog=self._catalog.path))
        await file.connection.close()


def _open_migrated_image(path: Path, note: Callable[[FileState], None]) -> sqlite3.Connection:
    """Opens a read-only image in the current format. note: is given the state in which the file was copied."""
    db, state = open_image(path)
    try:
        migrate(db)
        db.execute("PRAGMA query_only = ON")
    except BaseException:
        db.close()
        raise
    note(state)
    return db
