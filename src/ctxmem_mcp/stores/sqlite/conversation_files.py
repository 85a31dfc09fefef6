"""The files of a data folder: their names, the changes to them that can be seen from outside, errors about them."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ctxmem_mcp.errors import StoreReadOnly, StoreUnavailable
from ctxmem_mcp.private_files import FILE_MODE, create_folder
from ctxmem_mcp.stores.sqlite.connection import (
    is_damage,
    translate_error,
)
from ctxmem_mcp.stores.sqlite.file_open import open_read_only
from ctxmem_mcp.stores.sqlite.schema import check_header

SUFFIX = ".ctxmem"
FOLDER = "conversations"
# Suffixes of SQLite's side files; "" is the database itself.
SIDE_FILES = ("", "-wal", "-shm", "-journal")

# File times advance in ticks of a few milliseconds: two commits within one tick may leave the same fingerprint.
_TICK_NS = 100_000_000


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
    return _fingerprint(map(Path.stat, with_side_files(path)[:2]), time.time_ns())


def fingerprints(entries: Mapping[str, os.DirEntry[str]]) -> dict[str, str]:
    """Returns the fingerprint of each conversation's file, by the file's name, from all entries of its folder.

    Reading the folder once takes a fifth of the time that `fingerprint` of each file takes.
    """
    now, found = time.time_ns(), dict[str, str]()
    for name, entry in entries.items():
        if not name.endswith(SUFFIX):
            continue
        if (log := entries.get(name + SIDE_FILES[1])) is not None:
            found[name] = _fingerprint(map(os.DirEntry.stat, (entry, log)), now)
            continue
        try:
            state = entry.stat()
        except OSError:
            found[name] = ""
            continue
        changed = state.st_mtime_ns
        if abs(now - changed) < _TICK_NS:
            found[name] = f"{state.st_size}.{changed}/~{now}"
        else:  # nearly all, so this loop takes half the time that a call of _fingerprint for each takes
            found[name] = f"{state.st_size}.{changed}"
    return found


def _fingerprint(states: Iterator[os.stat_result], now: int) -> str:
    """states: those of the file and of its write-ahead log; reading one may raise OSError, as if there were none."""
    parts: list[str] = []
    for first in (True, False):
        try:
            state = next(states)
        except (OSError, StopIteration):
            continue
        size, changed = state.st_size, state.st_mtime_ns
        if size or first:
            parts.append(f"{size}.{changed}")
            if abs(now - changed) < _TICK_NS:
                parts.append(f"~{now}")
    return "/".join(parts)


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


def data_dir_error(folder: Path, error: OSError) -> StoreUnavailable:
    full_or_read_only = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
    return (StoreReadOnly if full_or_read_only else StoreUnavailable)(
        f"The data directory {folder} can't be used: {error.strerror}.",
        "Set CTXMEM_DATA_DIR or --data-dir to a folder that can be written.",
    )
