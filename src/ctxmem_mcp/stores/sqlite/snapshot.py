"""Consistent copies of databases that other processes are writing."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection
from pathlib import Path

from ctxmem_mcp.models import REDACTED
from ctxmem_mcp.stores.sqlite.connection import Database, translate_error
from ctxmem_mcp.stores.sqlite.file_open import catalog_lock, open_read_only


def read_conversation_file(path: Path, catalog: Path) -> bytes | None:
    """Returns the bytes of a conversation's file as of its last commit; None if it holds no conversation.

    Nobody creates or removes a file meanwhile, and appends go on.

    Args:
        path: The file.
        catalog: The catalog of its folder, whose lock is held if it can be.

    Raises:
        CtxmemError: The file can't be read.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(sqlite3.Error):  # a read-only folder has no lock and needs none
            stack.enter_context(catalog_lock(catalog))
        try:
            db = stack.enter_context(open_read_only(path))
            db.execute("BEGIN")
            if db.execute("SELECT 1 FROM conversation WHERE NOT forgotten").fetchone() is None:
                return None
            return db.serialize()
        except FileNotFoundError:
            return None
        except sqlite3.Error as error:
            raise translate_error(error) from error


def read_database(path: Path) -> bytes:
    """Returns the bytes of another small database as of its last commit.

    Raises:
        CtxmemError: It can't be read.
    """
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, factory=Database)
        ) as db:
            db.execute("BEGIN")
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            return db.serialize()
    except sqlite3.Error as error:
        raise translate_error(error) from error


def holds_digest(path: Path, digests: Collection[bytes]) -> bool:
    """Returns whether a conversation's file that no process has open holds one of these turns, not redacted."""
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(uri, uri=True, factory=Database)) as db:
            rows = db.execute("SELECT digest, flags FROM turns")
            return any(digest in digests and not flags & REDACTED for digest, flags in rows)
    except sqlite3.Error:
        return False
