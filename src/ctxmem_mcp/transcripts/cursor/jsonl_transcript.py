"""Cursor's transcripts as JSON Lines: a message a line, in a project's folder `agent-transcripts`.

A message's content is blocks as Anthropic has them, without ids. The user's text is in `<user_query>` tags and is the
user's turn; the text that Cursor puts beside it is a system turn named `injected`; `<timestamp>` is the message's time.
Cursor writes no results, no thoughts and no other times; where it removed something, its `[REDACTED]` stays as it is.
Rows of type `turn_ended` are left out: Cursor deletes them again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import PurePosixPath

from ctxmem_mcp.agents import CURSOR
from ctxmem_mcp.models import INJECTED, NewTurn, Role
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.base import NumberedTurn, ParseLog, Transcript
from ctxmem_mcp.transcripts.content_blocks import name_results, turns_from_blocks
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, count_unread, first_rows, read_rows, text_or_none

AGENT = CURSOR.id
_TURN_ENDED = "turn_ended"
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "tool": "tool", "system": "system"}
_QUERY_END = "</user_query>"
_QUERY = lazy_regex(rf"<user_query>\n?(.*?)\n?{_QUERY_END}", re.DOTALL)
# A text that is one element with an underscore in its tag: the host's.
_HOST_ELEMENT = lazy_regex(r"\s*<([a-z]+_[a-z_]+)[ >].*</\1>\s*", re.DOTALL)
_TIMESTAMP = lazy_regex(r"\s*<timestamp>(.*?)</timestamp>\n?", re.DOTALL)
_DATE_AND_TIME = lazy_regex(
    r"(?:\w+, )?(\w{3})\w* (\d{1,2}), (\d{4}),? (\d{1,2}):(\d{2}) ([AP]M) \(UTC(?:([+-])(\d{1,2})(?::(\d{2}))?)?\)"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def looks_like(name: str, head: str) -> bool:
    """Recognises lines with a role beside a message, or a row of type `turn_ended`, which may be all there is yet."""
    return name.endswith(".jsonl") and any(
        (str(row.get("role")) in _ROLES and isinstance(row.get("message"), dict)) or row.get("type") == _TURN_ENDED
        for row in first_rows(head)
    )


def parse(text: str, name: str) -> Transcript:
    """Returns the conversation in a file, which is named after its id."""
    log = ParseLog()
    rows = [*read_rows(text, log)]
    count_unread(rows, lambda pair: next(_turns([pair]), None) is not None, log)
    turns = log.sanitize(name_results(_turns(rows)))
    return Transcript(AGENT, PurePosixPath(name).stem, turns, warnings=tuple(log.warnings), unread=log.unread)


def _turns(numbered: Iterable[NumberedRow]) -> Iterator[NumberedTurn]:
    for number, row in numbered:
        if row.get("type") == _TURN_ENDED:
            continue
        role = _ROLES.get(str(row.get("role") or row.get("type")))
        turns = turns_from_blocks(role or "system", _content(row))
        for turn in split_user_message([*turns]) if role == "user" else turns:
            if turn.content or turn.call_id:
                yield number, turn if role else NewTurn("system", turn.content, INJECTED)


def _content(row: Row) -> object:
    message = row.get("message")
    if isinstance(message, dict):
        return message.get("content")
    return next((content for content in (message, row.get("content"), row.get("text")) if content is not None), None)


# ---------------------------------------------------------------- user messages


def split_user_message(parts: Sequence[NewTurn]) -> Iterator[NewTurn]:
    """Yields the turns of a user message: if any of its parts holds a query, all outside of queries is the host's."""
    has_query = any(next(_queries(part.content), None) for part in parts)
    said_at: str | None = None
    for part in parts:
        if part.role != "user":
            yield part
            continue
        text = part.content
        timestamp = _TIMESTAMP.match(text)
        if timestamp and (parsed := _parse_time(timestamp[1])):
            said_at, text = parsed, text[timestamp.end() :]
        at = 0
        for query in _queries(text):
            yield from _turns_outside(text[at : query.start()], said_at, has_query)
            yield NewTurn("user", query[1], None, said_at)
            at = query.end()
        yield from _turns_outside(text[at:], said_at, has_query)


def _queries(text: str) -> Iterator[re.Match[str]]:
    """Yields the queries. The search ends at the last closing tag: there is none after it, however many are opened."""
    end = text.rfind(_QUERY_END)
    return _QUERY.finditer(text, 0, end + len(_QUERY_END) if end >= 0 else 0)


def _turns_outside(text: str, said_at: str | None, has_query: bool) -> Iterator[NewTurn]:
    if text.strip():
        if has_query or _HOST_ELEMENT.fullmatch(text):
            yield NewTurn("system", text.strip("\n"), INJECTED, said_at)
        else:
            yield NewTurn("user", text, None, said_at)


def _parse_time(written: str) -> str | None:
    """Returns a time as Cursor writes it ("Sunday, Sep 20, 2026, 12:31 AM (UTC+3)") in ISO 8601."""
    found = _DATE_AND_TIME.fullmatch(written.strip())
    if not found or found[1] not in _MONTHS:
        return None
    month, hour = _MONTHS.index(found[1]) + 1, int(found[4]) % 12 + (12 if found[6] == "PM" else 0)
    offset = f"{found[7] or '+'}{int(found[8] or 0):02}:{found[9] or '00'}"
    timestamp = f"{found[3]}-{month:02}-{int(found[2]):02}T{hour:02}:{found[5]}:00{offset}"
    try:
        return text_or_none(datetime.fromisoformat(timestamp).isoformat())
    except ValueError:
        return None
