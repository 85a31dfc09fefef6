"""Reads the conversations in the database of Cursor's editor, `state.vscdb`, into a JSON document for the parser.

The file is opened read-only. Cursor may be running; what it writes in the meantime is not seen. Of each message only
the fields that the parser reads are copied: the context that was sent along with it is many times larger.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.transcripts.cursor.ide_db import COMPOSER_FIELDS, CONVERSATIONS_KEY, DATABASE_FILE, MESSAGE_FIELDS

_COMPOSER, _MESSAGE = "composerData:", "bubbleId:"
# The character after ":": the keys that start with "prefix:" are those from "prefix:" up to "prefix;".
_AFTER_COLON = ";"


def is_cursor_db(file: Path) -> bool:
    return file.name == DATABASE_FILE


def read_document(file: Path) -> str:
    """Returns every conversation in the database, as the JSON text that `registry.parse` takes.

    Raises:
        InvalidArgument: the file is not Cursor's database.
    """
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as store:
            return json.dumps({CONVERSATIONS_KEY: [*_conversations(store)]}, ensure_ascii=False)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise InvalidArgument(
            f"file {file}",
            f"can't be read as Cursor's database ({error})",
            "Name User/globalStorage/state.vscdb, or a copy of it made while Cursor was closed.",
        ) from error


def _conversations(store: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    for key, composer in _rows(store, _COMPOSER):
        identity = key.removeprefix(_COMPOSER)
        prefix = f"{_MESSAGE}{identity}:"
        messages = {name.removeprefix(prefix): message for name, message in _rows(store, prefix)}
        yield {
            "id": identity,
            "composer": None if composer is None else _pick(composer, COMPOSER_FIELDS),
            "messages": {name: None if row is None else _pick(row, MESSAGE_FIELDS) for name, row in messages.items()},
        }


def _rows(store: sqlite3.Connection, prefix: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yields the rows whose key starts with the prefix; None for a value that is not an object. Skips rows that Cursor
    emptied."""
    query = "SELECT key, value FROM cursorDiskKV WHERE key >= ? AND key < ? AND value IS NOT NULL ORDER BY key"
    for key, value in store.execute(query, (prefix, prefix[:-1] + _AFTER_COLON)).fetchall():
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            row = None
        yield str(key), row if isinstance(row, dict) else None


def _pick(row: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: row[name] for name in names if name in row}
