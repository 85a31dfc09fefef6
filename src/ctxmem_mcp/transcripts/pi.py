"""pi's session files: one JSON object a line; since version 2 a tree by id and parentId, the last entry its tip.

Text is a turn; so is thinking, a call (its arguments as JSON) and each part of a result. A command that the user ran
with `!` is a user's turn named 'bash' and a tool's with what it printed. What extensions put in and what went wrong
with a request are system turns named 'injected'; summaries of compacted and of abandoned stretches are named 'recap'.
Settings, labels and extensions' own data are left out. Ways that the user came back from stand in `left`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import INJECTED, RECAP, THINKING, NewTurn, Role
from ctxmem_mcp.transcripts.base import Notes, Transcript, compact
from ctxmem_mcp.transcripts.json_lines import Row, first_rows, instant_of, rows, text_of

AGENT = "pi"
_SUMMARIES = ("compaction", "branch_summary", "compactionSummary", "branchSummary")
_ROLES: dict[str, tuple[Role, str | None]] = {"user": ("user", None), "assistant": ("assistant", None)}


def looks_like(name: str, head: str) -> bool:
    """A header of type session, or messages in rows of type message."""
    return any(
        (row.get("type") == "session" and "cwd" in row and "id" in row)
        or (row.get("type") == "message" and isinstance(row.get("message"), dict) and "role" in row["message"])
        for row in first_rows(head)
    )


def parse(text: str, name: str) -> Transcript:
    """The way to the file's last entry; other ways through the tree as those that were left."""
    notes = Notes()
    entries = [*_once(rows(text, notes))]
    header = next((row for _, row in entries if row.get("type") == "session"), {})
    before = _before([(line, row) for line, row in entries if row.get("type") != "session"])
    turns_at = {line: notes.mended((line, turn) for turn in _turns_of(row)) for line, row in entries}
    ends = [line for line in before if line not in set(before.values())]
    *left, turns = [tuple(_along(before, end, turns_at)) for end in ends] or [()]
    return Transcript(
        AGENT,
        text_of(header.get("id")) or "",
        turns,
        next((row["name"] for _, row in reversed(entries) if _is_name(row)), None),
        left=tuple(way for way in left if way and way != turns[: len(way)]),
        warnings=tuple(notes.warnings),
        cwd=text_of(header.get("cwd")),
    )


def _once(numbered: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    """Entries, those appended again left out: the same id with the same entry."""
    seen: set[str] = set()
    for line, row in numbered:
        if text_of(row.get("id")):
            if (key := compact(row)) in seen:
                continue
            seen.add(key)
        yield line, row


def _is_name(row: Row) -> bool:
    return row.get("type") == "session_info" and bool(text_of(row.get("name")))


# ---------------------------------------------------------------- the tree


def _before(entries: list[tuple[int, Row]]) -> dict[int, int | None]:
    """Each entry's line with its parent's. One that names no parent that is there (version 1 names none; a line may
    be broken) follows the entry before it in the file; one whose parent is null begins anew."""
    line_of: dict[str, int] = {}
    before: dict[int, int | None] = {}
    here: int | None = None
    for line, row in entries:
        parent = row.get("parentId")
        before[line] = None if parent is None and "parentId" in row else line_of.get(str(parent), here)
        if text_of(row.get("id")):
            line_of[row["id"]] = line
        here = line
    return before


def _along(before: dict[int, int | None], end: int, turns_at: dict[int, tuple[NewTurn, ...]]) -> Iterator[NewTurn]:
    way = []
    line: int | None = end
    while line is not None:
        way.append(line)
        line = before[line]
    for line in reversed(way):
        yield from turns_at[line]


# ---------------------------------------------------------------- turns


def _turns_of(row: Row) -> Iterator[NewTurn]:
    said_at, message = instant_of(row.get("timestamp")), row.get("message")
    if row.get("type") == "message" and isinstance(message, dict):
        yield from _turns_of_message(message, said_at)
    elif row.get("type") in _SUMMARIES and text_of(row.get("summary")):
        yield NewTurn("system", row["summary"], RECAP, said_at)
    elif row.get("type") == "custom_message":
        for part in _parts(row.get("content")):
            yield NewTurn("system", _text(part), INJECTED, said_at)


def _turns_of_message(message: Row, said_at: str | None) -> Iterator[NewTurn]:
    role = message.get("role")
    if role == "toolResult":
        call = text_of(message.get("toolCallId"))
        for part in _parts(message.get("content")) or [""]:
            yield NewTurn("tool", _text(part), text_of(message.get("toolName")), said_at, call)
    elif role == "bashExecution":
        yield NewTurn("user", _text(message.get("command", "")), "bash", said_at)
        yield NewTurn("tool", _text(message.get("output", "")), "bash", said_at)
    elif role in _SUMMARIES:
        yield NewTurn("system", _text(message.get("summary", "")), RECAP, said_at)
    else:
        speaker, known = _ROLES.get(str(role), ("system", INJECTED))
        for part in [*_parts(message.get("content")), *_parts(message.get("attachments"))]:
            yield from _turns_of_part(part, speaker, known, said_at)
    if text_of(message.get("errorMessage")):
        yield NewTurn("system", message["errorMessage"], INJECTED, said_at)


def _turns_of_part(part: object, role: Role, name: str | None, said_at: str | None) -> Iterator[NewTurn]:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind == "toolCall":
        given = part.get("arguments")
        content = given if isinstance(given, str) else compact(given)
        yield NewTurn("assistant", content, text_of(part.get("name")), said_at, text_of(part.get("id")))
    elif isinstance(part, dict) and kind == "thinking":
        if text_of(part.get("thinking")):
            yield NewTurn("assistant", part["thinking"], THINKING, said_at)
    else:
        yield NewTurn(role, _text(part), name, said_at)


def _parts(content: object) -> list[object]:
    return content if isinstance(content, list) else [] if content is None else [content]


def _text(part: object) -> str:
    """Text as it is, all else as JSON."""
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    return part if isinstance(part, str) else compact(part)
