"""Reads JSON Lines as other programs leave them: a broken line is skipped with a warning, the others are returned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any

from ctxmem_mcp.transcripts.base import ParseLog

Row = dict[str, Any]
NumberedRow = tuple[int, Row]
"""A row with the number of its line, counted from 1."""

# How much of a broken line a warning quotes: enough to find it.
_QUOTED_CHARS = 60
_NOT_JSON = "skipped, not valid JSON"
_IGNORED = "\0\ufeff"
_SPACES = _IGNORED + " \t\r"
_DECODER = json.JSONDecoder()
# Where agents keep words, and the types of rows that do so without a role.
_WORD_FIELDS = (
    "content", "parts", "text", "thinking", "summary", "output", "arguments", "input", "functionCall",
    "functionResponse", "response", "args",
)  # fmt: skip
_WORD_TYPES = frozenset((
    "user", "assistant", "message", "tool_use", "tool_result", "function_call", "function_call_output",
    "function_call_result", "user.message", "assistant.message",
))  # fmt: skip
# How often a broken line is searched for the beginning of an object.
_SPLICES_MAX = 1_000


def parse_json(text: str) -> Any:
    """Returns the value of a JSON text. An integer with more digits than Python converts becomes a string.

    Raises:
        json.JSONDecodeError: the text is not valid JSON.
        RecursionError: it is nested too deeply.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits


def read_rows(text: str, log: ParseLog) -> Iterator[NumberedRow]:
    """Yields the object on each line, with the line's number; if a line holds several, each of them.

    Only a newline ends a line: the other separators that Unicode has may be part of a string. NUL bytes around a line
    are ignored: a machine that lost power leaves them in the file, before the next line. Two processes that write one
    file leave two objects on a line, or the beginning of one before another.
    """
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(_IGNORED)
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except (ValueError, RecursionError) as error:
            rows, has_rest = _spliced_rows(line)
            yield from ((number, row) for row in rows)
            if has_rest:
                what = f"skipped a part that is not valid JSON beside {len(rows)} rows" if rows else _NOT_JSON
                log.add_warning(number, f"{what} ({_reason(error)}): {line[:_QUOTED_CHARS]!r}")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            log.add_warning(number, f"skipped, not a JSON object: {line[:_QUOTED_CHARS]!r}")


def _spliced_rows(line: str) -> tuple[list[Row], bool]:
    """Returns the whole objects in a line that is not valid JSON, and whether there is anything else in it.

    What is inside a torn object is not a row: it is followed by a comma or a bracket, a row by another or by the end.
    """
    rows: list[Row] = []
    at, end, has_rest = line.find("{"), 0, False
    for _ in range(_SPLICES_MAX):
        if at < 0:
            break
        try:
            value, stop = _DECODER.raw_decode(line, at)
        except (ValueError, RecursionError):
            at = line.find("{", at + 1)
            continue
        rest = line[stop:].lstrip(_SPACES)
        if value and (not rest or rest[0] == "{"):
            has_rest = has_rest or bool(line[end:at].strip(_SPACES))
            rows.append(value)
            end = stop
        at = line.find("{", stop)
    return rows, has_rest or bool(line[end:].strip(_SPACES))


def first_rows(head: str, count: int = 20) -> list[Row]:
    """Returns up to `count` objects from the beginning of a file, whose last line may be cut off."""
    return [*_first_rows(head, count)]


# Every format looks at the head of a file.
@lru_cache(maxsize=4)
def _first_rows(head: str, count: int) -> tuple[Row, ...]:
    return tuple(row for _, row in islice(read_rows(head, ParseLog()), count))


def count_unread(numbered: Iterable[NumberedRow], understood: Callable[[NumberedRow], bool], log: ParseLog) -> None:
    """Notes in the log how many of the rows that carry words are not understood."""
    with_words = [pair for pair in numbered if carries_words(pair[1])]
    log.count_unread(sum(not understood(pair) for pair in with_words), len(with_words))


def carries_words(row: Row) -> bool:
    """Returns whether a row looks like somebody's words, in any agent's format: a message, a call or a result."""
    bodies = [row, *(row[field] for field in ("message", "payload", "data") if isinstance(row.get(field), dict))]
    if not any(text_or_none(body.get("role")) for body in bodies) and text_or_none(row.get("type")) not in _WORD_TYPES:
        return False
    return any(_has_text(body[field]) for body in bodies for field in _WORD_FIELDS if field in body)


def _has_text(value: object) -> bool:
    """Returns whether a field holds text. Of deeper ones only the first levels count: no format nests its words far."""
    values = [value]
    for _ in range(4):
        if any(isinstance(one, str) and one.strip() for one in values):
            return True
        values = [
            inner
            for one in values
            for inner in (one if isinstance(one, list) else _texts_of(one) if isinstance(one, dict) else ())
        ]
    return False


def _texts_of(block: Row) -> list[object]:
    return [block[field] for field in (*_WORD_FIELDS, "value", "result") if field in block]


def _reason(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"


def text_or_none(value: object) -> str | None:
    """Returns the value if it is a non-empty string."""
    return value if isinstance(value, str) and value else None


def timestamp_or_none(value: object) -> str | None:
    """Returns the value, unchanged, if it is a time in ISO 8601."""
    text = text_or_none(value)
    try:
        return text if text and datetime.fromisoformat(text) else None
    except ValueError:
        return None


# Where programs put a message's time, and from which number on a time is in milliseconds rather than seconds.
_TIME_FIELDS = ("timestamp", "created_at", "createdAt", "create_time", "created", "ts")
_MILLIS_MIN = 100_000_000_000


def timestamp_of(message: Row) -> str | None:
    """Returns a message's time in ISO 8601, from the first usual field that has one."""
    return next((found for field in _TIME_FIELDS if (found := timestamp_of_value(message.get(field)))), None)


def timestamp_of_value(value: object) -> str | None:
    """Returns a time in ISO 8601: text in that form, or a number of seconds or milliseconds since 1970."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return timestamp_from_millis(value if value >= _MILLIS_MIN else value * 1000)
    return timestamp_or_none(value)


def timestamp_from_millis(value: object) -> str | None:
    """Returns a number of milliseconds since 1970 as ISO 8601 in UTC; None if the value is no such number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None
