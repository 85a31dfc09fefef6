"""pi's session files: one JSON object a line; since version 2 a tree by `id` and `parentId`, the last entry its tip.

Text is a turn; so are thinking, a call (its arguments as JSON) and each part of a result. A command that the user ran
with `!` is a user's turn named `bash` and a tool's with its output. Messages of extensions and errors of requests are
system turns named `injected`; summaries of compacted and of abandoned parts are named `recap`. Settings, labels and
extensions' own data are left out. Branches that the user came back from are in `abandoned_branches`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ctxmem_mcp.agents import PI
from ctxmem_mcp.models import INJECTED, RECAP, THINKING, NewTurn, Role
from ctxmem_mcp.transcripts.base import ParseLog, Transcript, compact_json, text_or_json
from ctxmem_mcp.transcripts.content_blocks import part_text
from ctxmem_mcp.transcripts.json_lines import (
    NumberedRow,
    Row,
    count_unread,
    first_rows,
    read_rows,
    text_or_none,
    timestamp_or_none,
)
from ctxmem_mcp.transcripts.message_tree import Message, split_branches

AGENT = PI.id
_SUMMARY_TYPES = ("compaction", "branch_summary", "compactionSummary", "branchSummary")
_ROLES: dict[str, tuple[Role, str | None]] = {"user": ("user", None), "assistant": ("assistant", None)}


def looks_like(name: str, head: str) -> bool:
    """Recognises a header of type session, or messages in rows of type message, unless they are Factory Droid's."""
    rows = first_rows(head)
    return not any(_is_droids(row) for row in rows) and any(
        (row.get("type") == "session" and "cwd" in row and "id" in row)
        or (row.get("type") == "message" and isinstance(row.get("message"), dict) and "role" in row["message"])
        for row in rows
    )


def _is_droids(row: Row) -> bool:
    message = row.get("message")
    blocks = _parts(message.get("content")) if isinstance(message, dict) else []
    return row.get("type") in ("session_start", "session_end", "todo_state") or any(
        isinstance(block, dict) and block.get("type") in ("tool_use", "tool_result") for block in blocks
    )


def parse(text: str, name: str) -> Transcript:
    """Returns the branch that ends in the file's last entry, with the other branches as abandoned ones."""
    log = ParseLog()
    entries = [*_without_duplicates(read_rows(text, log))]
    header = next((row for _, row in entries if row.get("type") == "session"), {})
    messages = [
        Message(
            line,
            log.sanitize((line, turn) for turn in _turns_from_row(row)),
            text_or_none(row.get("id")) or "",
            text_or_none(row.get("parentId")),
            is_root="parentId" in row and row["parentId"] is None,
        )
        for line, row in entries
        if row.get("type") != "session"
    ]
    understood = {message.number for message in messages if message.turns}
    count_unread(entries, lambda pair: pair[0] in understood, log)
    turns, abandoned = split_branches(messages)
    return Transcript(
        AGENT,
        text_or_none(header.get("id")) or "",
        turns,
        next((row["name"] for _, row in reversed(entries) if _names_session(row)), None),
        abandoned_branches=abandoned,
        warnings=tuple(log.warnings),
        cwd=text_or_none(header.get("cwd")),
        unread=log.unread,
    )


def _without_duplicates(numbered: Iterable[NumberedRow]) -> Iterator[NumberedRow]:
    """Drops entries appended again: the same entry under the same id."""
    seen: set[str] = set()
    for line, row in numbered:
        if text_or_none(row.get("id")):
            if (key := compact_json(row)) in seen:
                continue
            seen.add(key)
        yield line, row


def _names_session(row: Row) -> bool:
    return row.get("type") == "session_info" and bool(text_or_none(row.get("name")))


# ---------------------------------------------------------------- turns


def _turns_from_row(row: Row) -> Iterator[NewTurn]:
    said_at, message = timestamp_or_none(row.get("timestamp")), row.get("message")
    if row.get("type") == "message" and isinstance(message, dict):
        yield from _turns_from_message(message, said_at)
    elif row.get("type") in _SUMMARY_TYPES and text_or_none(row.get("summary")):
        yield NewTurn("system", row["summary"], RECAP, said_at)
    elif row.get("type") == "custom_message":
        for part in _parts(row.get("content")):
            yield NewTurn("system", part_text(part), INJECTED, said_at)


def _turns_from_message(message: Row, said_at: str | None) -> Iterator[NewTurn]:
    role = message.get("role")
    if role == "toolResult":
        call_id = text_or_none(message.get("toolCallId"))
        for part in _parts(message.get("content")) or [""]:
            yield NewTurn("tool", part_text(part), text_or_none(message.get("toolName")), said_at, call_id)
    elif role == "bashExecution":
        yield NewTurn("user", part_text(message.get("command", "")), "bash", said_at)
        yield NewTurn("tool", part_text(message.get("output", "")), "bash", said_at)
    elif role in _SUMMARY_TYPES:
        yield NewTurn("system", part_text(message.get("summary", "")), RECAP, said_at)
    else:
        turn_role, name = _ROLES.get(str(role), ("system", INJECTED))
        for part in [*_parts(message.get("content")), *_parts(message.get("attachments"))]:
            yield from _turns_from_part(part, turn_role, name, said_at)
    if text_or_none(message.get("errorMessage")):
        yield NewTurn("system", message["errorMessage"], INJECTED, said_at)


def _turns_from_part(part: object, role: Role, name: str | None, said_at: str | None) -> Iterator[NewTurn]:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind == "toolCall":
        tool, call_id = text_or_none(part.get("name")), text_or_none(part.get("id"))
        yield NewTurn("assistant", text_or_json(part.get("arguments")), tool, said_at, call_id)
    elif isinstance(part, dict) and kind == "thinking":
        if text_or_none(part.get("thinking")):
            yield NewTurn("assistant", part["thinking"], THINKING, said_at)
    else:
        yield NewTurn(role, part_text(part), name, said_at)


def _parts(content: object) -> list[object]:
    return content if isinstance(content, list) else [] if content is None else [content]
