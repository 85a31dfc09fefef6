"""Finds the damaged files in the folder of the conversations, and other files that do not belong there."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from ctxmem_mcp.errors import BrokenHistory, CtxmemError, with_name
from ctxmem_mcp.private_files import is_regular
from ctxmem_mcp.stores.sqlite import check
from ctxmem_mcp.stores.sqlite.catalog_entry import read_entry
from ctxmem_mcp.stores.sqlite.connection import translate_error
from ctxmem_mcp.stores.sqlite.conversation_files import SUFFIX, file_name
from ctxmem_mcp.stores.sqlite.file_open import open_read_only
from ctxmem_mcp.stores.sqlite.schema import FORMAT


def find_damaged(folder: Path, until: float) -> dict[str, str]:
    """Returns a fault of each damaged file, by the id of its conversation, or by its path if the id is lost.

    Checks the files last changed first.

    Args:
        folder: The folder of the conversations.
        until: When to stop, on the monotonic clock.
    """
    found: dict[str, str] = {}
    for path in sorted(_visible_files(folder), key=_changed_at, reverse=True):
        if time.monotonic() > until:
            break
        if SUFFIX not in path.name:
            found[str(path)] = f"{path} is not a file of ctxmem-mcp. Move it out of the data directory."
        elif path.name.endswith(SUFFIX):
            found |= _quick_faults(path, until)
    return found


def _visible_files(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")]


def _changed_at(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _quick_faults(path: Path, until: float) -> dict[str, str]:
    """Returns a fault of a file, by its conversation's id, or by its path if it has none or is not damaged."""
    error: CtxmemError | OSError
    try:
        with open_read_only(path) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != FORMAT:
                return {}
            if faults := check.find_quickly(db, until):
                return {_id_of(path): faults[0]}
            read_entry(db, path)
            return {}
    except sqlite3.Error as failure:
        error = translate_error(failure)
        if not isinstance(error, BrokenHistory):
            return {}
    except (CtxmemError, OSError) as failure:
        error = failure
    if isinstance(error, BrokenHistory) and (conversation_id := _id_of(path)) != str(path):
        return {conversation_id: error.message}
    return {str(path): with_name(str(path), str(error))} if os.path.lexists(path) else {}


def _id_of(path: Path) -> str:
    """Returns the conversation's id, from its row or else the file's name; the path if neither holds one."""
    if not is_regular(path):
        return str(path)
    with contextlib.suppress(CtxmemError, sqlite3.Error, OSError), open_read_only(path) as db:
        row = db.execute("SELECT id FROM conversation").fetchone()
        if row and isinstance(row[0], str) and file_name(row[0]) == path.name:
            return row[0]
    named = path.name.removesuffix(SUFFIX)[:-11]
    return named if file_name(named) == path.name else str(path)
