"""The catalog: a rebuildable cache of what each conversation's file contains, and the lock of the whole folder.

Appends never write to it. A listing compares each file's fingerprint with the one in the catalog and reads only the
files that changed; deleting catalog.db loses nothing. Its write transaction is the mutex for creating and removing
files, so that no process creates a conversation again while another still removes the old one's side files. It has no
write-ahead log and secure_delete is on: once a row is gone, no byte of its title is in the file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.errors import BrokenHistory, StoreReadOnly, StoreUnavailable
from ctxmem_mcp.private_files import correct_modes, create_folder
from ctxmem_mcp.stores.sqlite.catalog_contents import CatalogContents
from ctxmem_mcp.stores.sqlite.catalog_file import copy_into_memory, open_or_recreate
from ctxmem_mcp.stores.sqlite.connection import (
    Connection,
    connect,
    transaction,
)
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, data_dir_error, inode_of
from ctxmem_mcp.stores.sqlite.file_open import catalog_lock, check_writable

log = logging.getLogger(__name__)

T = TypeVar("T")

# A catalog that is deleted this often during a single change is deleted on purpose.
_ATTEMPTS_MAX = 5


class _CatalogDeleted(Exception):
    """The catalog that was locked is no longer in the folder."""


class Catalog(CatalogContents):
    """The folder of conversations as a whole."""

    def __init__(self, data_dir: Path) -> None:
        data_dir = Path(os.path.realpath(data_dir))
        super().__init__(data_dir / FOLDER, data_dir / "catalog.db")
        self._connection: Connection | None = None
        self._in_memory: Connection | None = None
        self._inode: int | None = None
        self._connect_lock = anyio.Lock()
        self._may_open = True

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
                try:
                    return work(db)
                finally:
                    self.note_change()

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
                self._in_memory = await run_to_completion(connect(partial(copy_into_memory, self.path)))
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
        return open_or_recreate(self.path, recreate)

    def prevent_reopening(self) -> None:
        self._may_open = False

    async def close(self) -> None:
        if self._connection is not None:
            await run_to_completion(self._connection.run(lambda _: self.index.close()))
        for connection in (self._connection, self._in_memory):
            if connection is not None:
                await run_to_completion(connection.close())
        self._connection = self._in_memory = None
        self.forget_reads()

    def _is_current(self) -> bool:
        """Whether the open catalog is still the one in the folder: anybody may delete it at any time."""
        return self._inode is not None and inode_of(self.path) == self._inode
