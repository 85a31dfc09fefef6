"""Reads a conversation's file into memory if SQLite can't open it: on a full disk, or in a read-only folder.

SQLite needs an index of the write-ahead log to read a file, and has no room for it there, or may not create it. So the
file is copied into memory, with the log's committed pages, and nothing is written anywhere.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from pathlib import Path

from ctxmem_mcp.errors import BrokenHistory, StoreUnavailable
from ctxmem_mcp.private_files import read_file
from ctxmem_mcp.stores.sqlite.connection import Database

_LOG_HEADER, _FRAME_HEADER = struct.Struct(">8I"), struct.Struct(">6I")
_LITTLE_ENDIAN, _BIG_ENDIAN = 0x377F0682, 0x377F0683
_ATTEMPTS_MAX = 5
# Size, time and number of the file and of its write-ahead log.
FileState = tuple[tuple[int, int, int] | None, ...]


def file_state(path: Path) -> FileState:
    """Changes with every commit."""
    return tuple(_state_of(file) for file in (path, _log_of(path)))


def load_image(path: Path) -> tuple[sqlite3.Connection, FileState]:
    """Returns a connection to a copy in memory of the file, and the state in which the file was copied.

    The copy can be migrated; the caller makes it read-only afterwards. No other connection of this process may have
    the file open, for closing a descriptor of it drops the process's locks on it.

    Raises:
        OSError: The file can't be read.
        StoreUnavailable: Another process keeps changing it.
        BrokenHistory: It is damaged.
    """
    for _ in range(_ATTEMPTS_MAX):
        before = file_state(path)
        raw = bytearray(read_file(path))
        log = read_file(_log_of(path)) if before[1] is not None else b""
        if file_state(path) == before:
            break
    else:
        raise StoreUnavailable(f"{path} was changed while it was read.", "Try again.")
    apply_log(raw, log)
    raw[18:20] = b"\1\1"  # not in write-ahead mode: a database in memory has no log
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=Database)
    try:
        db.deserialize(bytes(raw))
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        db.close()
        raise BrokenHistory(f"The file is damaged ({error}).", "Restore it from a backup.") from error
    return db, before


def apply_log(raw: bytearray, log: bytes) -> None:
    """Writes the committed pages of a write-ahead log over a database's bytes.

    As SQLite does, it stops at the first frame that another salt or a wrong checksum marks as not written yet.
    """
    if len(log) < _LOG_HEADER.size:
        return
    magic, _, page_size, _, *salt, first, second = _LOG_HEADER.unpack_from(log)
    if magic not in (_LITTLE_ENDIAN, _BIG_ENDIAN) or not page_size:
        return
    order = "<" if magic == _LITTLE_ENDIAN else ">"
    checksum = _checksum(order, log[: _LOG_HEADER.size - 8], (0, 0))
    if checksum != (first, second):
        return
    pages: dict[int, int] = {}
    for at in range(_LOG_HEADER.size, len(log) - _FRAME_HEADER.size - page_size + 1, _FRAME_HEADER.size + page_size):
        number, pages_after, *frame_salt, first, second = _FRAME_HEADER.unpack_from(log, at)
        body = at + _FRAME_HEADER.size
        if frame_salt != salt:
            return
        checksum = _checksum(order, log[at : at + 8] + log[body : body + page_size], checksum)
        if checksum != (first, second):
            return
        pages[number] = body
        if pages_after:  # the frame ends a transaction
            raw.extend(bytes(max(0, pages_after * page_size - len(raw))))
            for page, start in pages.items():
                raw[(page - 1) * page_size : page * page_size] = log[start : start + page_size]
            del raw[pages_after * page_size :]
            pages.clear()


def _checksum(order: str, data: bytes, before: tuple[int, int]) -> tuple[int, int]:
    first, second = before
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _state_of(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = os.stat(file)
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
