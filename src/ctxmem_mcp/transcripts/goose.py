"""Goose's sessions: a header and a message a line; its database is read into the same shape."""

from __future__ import annotations

from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_lines
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row
from ctxmem_mcp.transcripts.parts import Call, PartTypes, Result, text_at

_FIELDS = Fields(time="created")
_PARTS = PartTypes(
    thinking={"thinking": "thinking"},
    calls={
        "toolRequest": Call("toolCall.value.name", "toolCall.value.arguments"),
        "frontendToolRequest": Call("toolCall.value.name", "toolCall.value.arguments"),
    },
    results={"toolResponse": Result("toolResult.value.content toolResult.value toolResult.error")},
    ignored=("redactedThinking", "toolConfirmationRequest", "systemNotification"),
)


def _is_own(rows: list[Row]) -> bool:
    has_header = any("working_dir" in row and ("message_count" in row or "description" in row) for row in rows[:1])
    return has_header or any(
        isinstance(part, dict) and part.get("type") in ("toolRequest", "toolResponse")
        for row in rows
        for part in (row["content"] if isinstance(row.get("content"), list) else ())
    )


def _read(reader: Reader, rows: list[NumberedRow]) -> Chat:
    header = rows[0][1] if rows and "role" not in rows[0][1] else {}
    messages = reader.messages([(number, row) for number, row in rows if row is not header], _FIELDS, _PARTS)
    return Chat(messages, text_at(header, "id"), text_at(header, "description"), text_at(header, "working_dir"))


looks_like, parse = json_lines("goose", _is_own, _read, named_by_file=True)
