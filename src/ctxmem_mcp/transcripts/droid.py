"""Factory Droid's sessions: a tree of rows with Anthropic's blocks."""

from __future__ import annotations

from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_lines
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row
from ctxmem_mcp.transcripts.parts import ANTHROPIC_PARTS, text_at, value_at

_FIELDS = Fields(role="message.role", content="message.content", time="timestamp", id="id", parent="parentId")


def _is_own(rows: list[Row]) -> bool:
    return any(row.get("type") in ("session_start", "todo_state", "session_end") for row in rows) and any(
        row.get("type") == "session_start" or value_at(row, "message.role") for row in rows
    )


def _read(reader: Reader, rows: list[NumberedRow]) -> Chat:
    start = next((row for _, row in rows if row.get("type") == "session_start"), {})
    messages = reader.messages([pair for pair in rows if pair[1].get("type") == "message"], _FIELDS, ANTHROPIC_PARTS)
    title = text_at(start, "title") or text_at(start, "sessionTitle")
    return Chat(messages, text_at(start, "id"), title, text_at(start, "cwd"))


looks_like, parse = json_lines("droid", _is_own, _read)
