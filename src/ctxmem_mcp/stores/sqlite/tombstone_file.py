"""The tombstones of a data folder, in one small file beside the conversations.

It holds a random key and slots of a fixed size, many of them free: a conversation can be forgotten on a full disk, for
its tombstone overwrites zeros. Slots are filled in order under the catalog's lock and never change again, so readers
need no lock: they read on from where they were, up to the first free slot.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ctxmem_mcp.errors import StoreReadOnly, StoreUnavailable
from ctxmem_mcp.models import NewTurn, Turn
from ctxmem_mcp.private_files import open_new
from ctxmem_mcp.stores.sqlite.file_lifecycle import sync_folder
from ctxmem_mcp.stores.tombstones import (
    KEY_BYTES,
    RECORD_BYTES,
    RedactedTurn,
    RemovedBranch,
    TombstoneRecords,
    Tombstones,
)

FILE = "tombstones"
_MAGIC = b"ctxmem tombstones 1".ljust(32, b"\n")
_HEADER_BYTES = len(_MAGIC) + KEY_BYTES
# Free slots: room for hundreds of conversations, in 64 KB.
RESERVE_SLOTS = 4_096
_CHUNK_SLOTS = 256
_BINARY = getattr(os, "O_BINARY", 0)


class TombstoneFile:
    """The file's records, read as far as they are needed. A missing file has none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode: int | None = None
        self._tombstones = Tombstones(b"")
        self._lock = threading.Lock()

    def read(self) -> Tombstones:
        """Returns the tombstones, with what other processes have added.

        Raises:
            StoreUnavailable: The file can't be read or is damaged.
        """
        with self._lock:
            try:
                handle = os.open(self._path, os.O_RDONLY | _BINARY)
            except FileNotFoundError:
                self._inode, self._tombstones = None, Tombstones(b"")
                return self._tombstones
            except OSError as error:
                raise self._unreadable(error.strerror or "") from error
            try:
                return self._read_on(handle)
            finally:
                os.close(handle)

    def _read_on(self, handle: int) -> Tombstones:
        inode = os.fstat(handle).st_ino
        if inode != self._inode:
            header = os.read(handle, _HEADER_BYTES)
            if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
                raise self._unreadable("it is damaged")
            self._inode, self._tombstones = inode, Tombstones(header[len(_MAGIC) :])
        os.lseek(handle, _HEADER_BYTES + self._tombstones.count * RECORD_BYTES, os.SEEK_SET)
        # Most often there is nothing new: the first slot is free, and reading more of them would cost as much again.
        size = RECORD_BYTES
        while True:
            chunk = os.read(handle, size)
            if len(chunk) < RECORD_BYTES or not chunk[0]:
                return self._tombstones
            slots = [chunk[i : i + RECORD_BYTES] for i in range(0, len(chunk), RECORD_BYTES)]
            used = next((i for i, slot in enumerate(slots) if not slot[0] or len(slot) < RECORD_BYTES), len(slots))
            self._tombstones.add(slots[:used])
            if used < len(slots):
                return self._tombstones
            size = _CHUNK_SLOTS * RECORD_BYTES

    def records(self) -> TombstoneRecords:
        """Returns all records, and the file's key."""
        count = self.read().count
        if self._inode is None:
            return TombstoneRecords(b"", [])
        raw = self._path.read_bytes()
        slots = raw[_HEADER_BYTES : _HEADER_BYTES + count * RECORD_BYTES]
        found = [slots[i : i + RECORD_BYTES] for i in range(0, len(slots), RECORD_BYTES)]
        return TombstoneRecords(raw[len(_MAGIC) : _HEADER_BYTES], found)

    def adopt(self, given: TombstoneRecords) -> None:
        """Takes over the records and the key of another store. The caller holds the catalog's lock."""
        own = self.records()
        missing = given.missing_in(own, str(self._path))
        if own.key != given.key:
            self._create(given.key)
        self.write(missing)

    def bury(self, conversation_id: str, branches: Iterable[Sequence[NewTurn | Turn]]) -> None:
        """Adds a conversation's tombstone. The caller holds the catalog's lock. branches: the first turns of each."""
        self.reserve()
        self.write(self.read().records_to_set(conversation_id, branches))

    def bury_branch(self, conversation_id: str, branch: RemovedBranch) -> None:
        """Adds a branch's tombstone. The caller holds the catalog's lock."""
        self.reserve()
        self.write(self.read().records_of_branch(conversation_id, branch))

    def bury_turns(self, turns: Iterable[RedactedTurn], marks: Mapping[bytes, bytes], titles: Iterable[str]) -> None:
        """Adds the marks of redacted turns. The caller holds the catalog's lock. See `records_of_redaction`."""
        self.reserve()
        self.write(self.read().records_of_redaction(turns, marks, titles))

    def write(self, records: list[bytes]) -> None:
        """Adds records durably. The caller holds the catalog's lock.

        Raises:
            StoreReadOnly: There is no room left for them, or the file can't be written. Nothing was added.
        """
        if not records:
            return
        self.reserve(len(records))
        at = _HEADER_BYTES + self.read().count * RECORD_BYTES
        try:
            handle = os.open(self._path, os.O_WRONLY | _BINARY)
            try:
                _write_all(handle, at, b"".join(records))
            finally:
                os.close(handle)
        except OSError as error:
            raise self._unwritable(error) from error

    def reserve(self, slots: int = 0) -> None:
        """Creates the file if it is missing, and keeps room in it for later. The caller holds the catalog's lock.

        A disk that is too full to enlarge the file is no error as long as there is room for `slots` records.
        """
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return self._create()
        except OSError as error:
            raise self._unwritable(error) from error
        count = self.read().count
        free = (size - _HEADER_BYTES) // RECORD_BYTES - count
        if free < RESERVE_SLOTS // 2:
            try:
                _extend(self._path, _HEADER_BYTES + (count + RESERVE_SLOTS) * RECORD_BYTES - size)
            except OSError as error:
                if free < slots:
                    raise self._unwritable(error) from error
        return None

    def _create(self, key: bytes = b"") -> None:
        unfinished = self._path.with_name(f"{FILE}.new")
        try:
            unfinished.unlink(missing_ok=True)
            handle = open_new(unfinished)
            try:
                key = key or secrets.token_bytes(KEY_BYTES)
                _write_all(handle, 0, _MAGIC + key + bytes(RESERVE_SLOTS * RECORD_BYTES))
            finally:
                os.close(handle)
            os.replace(unfinished, self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unreadable(self, why: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._path} can't be read: {why}.",
            "Restore it from a backup, or delete it: forgotten conversations may then be captured again.",
        )

    def _unwritable(self, error: OSError) -> StoreReadOnly:
        return StoreReadOnly(
            f"{self._path} can't be written: {error.strerror}.", "Free some space or check the file's permissions."
        )


def _write_all(handle: int, at: int, data: bytes) -> None:
    os.lseek(handle, at, os.SEEK_SET)
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
    os.fsync(handle)


def _extend(path: Path, size: int) -> None:
    """Adds zeros to the file's end. They are written, so that the disk has room for them."""
    handle = os.open(path, os.O_WRONLY | _BINARY)
    try:
        _write_all(handle, os.fstat(handle).st_size, bytes(size))
    finally:
        os.close(handle)
