"""Reading JSON Lines as other programs leave them: a broken line is left out with a warning, the good ones are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ctxmem_mcp.transcripts.base import Notes

Row = dict[str, Any]
# As much of a broken line as helps to find it.
QUOTED_CHARS = 60


def rows(text: str, notes: Notes) -> Iterator[tuple[int, Row]]:
    """Each line's number (from 1) and object. Lines end at newlines alone: other separators are part of strings. The
    zeros that a machine which lost its power leaves in a file are no part of the line behind them."""
    for number, told in enumerate(text.split("\n"), 1):
        line = told.strip("\0")
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            notes.warn(number, f"is not JSON and was left out ({_reason(error)}): {line[:QUOTED_CHARS]!r}")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            notes.warn(number, f"holds no object and was left out: {line[:QUOTED_CHARS]!r}")


def first_rows(head: str, count: int = 20) -> list[Row]:
    """Up to `count` objects from a file's beginning, whose last line may be cut off."""
    found: list[Row] = []
    for _, row in rows(head, Notes()):
        found.append(row)
        if len(found) == count:
            break
    return found


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"


def text_of(value: object) -> str | None:
    """The value where it is text with something in it."""
    return value if isinstance(value, str) and value else None


def instant_of(value: object) -> str | None:
    """The value where it is a time in ISO 8601, as it is written."""
    text = text_of(value)
    try:
        return text if text and datetime.fromisoformat(text) else None
    except ValueError:
        return None


def instant_of_millis(value: object) -> str | None:
    """The value where it is a time in milliseconds since 1970, in ISO 8601 in UTC."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None
