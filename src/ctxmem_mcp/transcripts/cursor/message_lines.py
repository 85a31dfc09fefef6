"""Cursor's transcripts: a message a line, in the folder `agent-transcripts` of a project.

A message's content is blocks, as Anthropic has them, without ids. What the user asked stands between `<user_query>`
tags and is the user's turn; what Cursor puts beside it is a system turn named 'injected'; `<timestamp>` is when it was
said. Cursor writes no results, no thoughts and no other times; where it took something out, its `[REDACTED]` stays as
it stands. Rows that say that a turn has ended are left out: Cursor takes them away again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePosixPath

from ctxmem_mcp.models import INJECTED, NewTurn, Role
from ctxmem_mcp.transcripts.base import Notes, Transcript
from ctxmem_mcp.transcripts.content_blocks import named_by_calls, turns_of_blocks
from ctxmem_mcp.transcripts.json_lines import Row, first_rows, rows, text_of

AGENT = "cursor"
_ENDED = "turn_ended"
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "tool": "tool", "system": "system"}
_CLOSED = "</user_query>"
_QUERY = re.compile(rf"<user_query>\n?(.*?)\n?{_CLOSED}", re.DOTALL)
_ELEMENT = re.compile(r"\s*<([a-z]+_[a-z_]+)[ >].*</\1>\s*", re.DOTALL)
_TIME = re.compile(r"\s*<timestamp>(.*?)</timestamp>\n?", re.DOTALL)
_CLOCK = re.compile(
    r"(?:\w+, )?(\w{3})\w* (\d{1,2}), (\d{4}),? (\d{1,2}):(\d{2}) ([AP]M) \(UTC(?:([+-])(\d{1,2})(?::(\d{2}))?)?\)"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def looks_like(name: str, head: str) -> bool:
    """Lines with a role beside a message, or nothing yet but that a turn has ended."""
    return name.endswith(".jsonl") and any(
        (row.get("role") in _ROLES and isinstance(row.get("message"), dict)) or row.get("type") == _ENDED
        for row in first_rows(head)
    )


def parse(text: str, name: str) -> Transcript:
    """The file's messages in order; its name is the conversation's id."""
    notes = Notes()
    turns = notes.mended(named_by_calls(_turns(rows(text, notes))))
    return Transcript(AGENT, PurePosixPath(name).stem, turns, warnings=tuple(notes.warnings))


def _turns(numbered: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, NewTurn]]:
    for number, row in numbered:
        if row.get("type") == _ENDED:
            continue
        role = _ROLES.get(str(row.get("role") or row.get("type")))
        told = turns_of_blocks(role or "system", _content(row))
        for turn in turns_of_message([*told]) if role == "user" else told:
            if turn.content or turn.call_id:
                yield number, turn if role else NewTurn("system", turn.content, INJECTED)


def _content(row: Row) -> object:
    message = row.get("message")
    if isinstance(message, dict):
        return message.get("content")
    return next((said for said in (message, row.get("content"), row.get("text")) if said is not None), None)


# ---------------------------------------------------------------- what the user said


def turns_of_message(told: list[NewTurn]) -> Iterator[NewTurn]:
    """A user message's parts: where one of them holds a query, all outside of queries is the host's."""
    asked = any(next(_queries(turn.content), None) for turn in told)
    said_at: str | None = None
    for turn in told:
        if turn.role != "user":
            yield turn
            continue
        text = turn.content
        timed = _TIME.match(text)
        if timed and (when := _instant(timed[1])):
            said_at, text = when, text[timed.end() :]
        at = 0
        for found in _queries(text):
            yield from _outside(text[at : found.start()], said_at, asked)
            yield NewTurn("user", found[1], None, said_at)
            at = found.end()
        yield from _outside(text[at:], said_at, asked)


def _queries(text: str) -> Iterator[re.Match[str]]:
    """Behind the last closing tag there is none, however many are opened."""
    end = text.rfind(_CLOSED)
    return _QUERY.finditer(text, 0, end + len(_CLOSED) if end >= 0 else 0)


def _outside(text: str, said_at: str | None, asked: bool) -> Iterator[NewTurn]:
    if text.strip():
        if asked or _ELEMENT.fullmatch(text):
            yield NewTurn("system", text.strip("\n"), INJECTED, said_at)
        else:
            yield NewTurn("user", text, None, said_at)


def _instant(written: str) -> str | None:
    """The instant that Cursor writes out ("Sunday, Sep 20, 2026, 12:31 AM (UTC+3)"), in ISO 8601."""
    found = _CLOCK.fullmatch(written.strip())
    if not found or found[1] not in _MONTHS:
        return None
    month, hour = _MONTHS.index(found[1]) + 1, int(found[4]) % 12 + (12 if found[6] == "PM" else 0)
    offset = f"{found[7] or '+'}{int(found[8] or 0):02}:{found[9] or '00'}"
    instant = f"{found[3]}-{month:02}-{int(found[2]):02}T{hour:02}:{found[5]}:00{offset}"
    try:
        return text_of(datetime.fromisoformat(instant).isoformat())
    except ValueError:
        return None
