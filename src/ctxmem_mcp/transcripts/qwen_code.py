"""Qwen Code's sessions: a tree of rows like Claude Code's, with the parts of Gemini's messages.

Text, thoughts, calls and results are a turn each. The summary that replaces compacted messages is named `recap`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import RECAP, NewTurn
from ctxmem_mcp.transcripts.base import compact_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_lines, objects
from ctxmem_mcp.transcripts.gemini_contents import PARTS
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row
from ctxmem_mcp.transcripts.parts import text_at, value_at

_FIELDS = Fields(role="message.role", content="message.parts", time="timestamp", id="uuid", parent="parentUuid")


def _is_own(rows: list[Row]) -> bool:
    return any("uuid" in row and isinstance(value_at(row, "message.parts"), list) for row in rows)


def _read(reader: Reader, rows: list[NumberedRow]) -> Chat:
    messages = [reader.message(number, row, _turns(row), _FIELDS) for number, row in rows]
    session, cwd = (next((text_at(row, key) for _, row in rows if key in row), None) for key in ("sessionId", "cwd"))
    return Chat(messages, session, cwd=cwd)


def _turns(row: Row) -> Iterator[NewTurn]:
    if value_at(row, "message.parts") is not None:
        role, name = _FIELDS.author(row)
        yield from PARTS.turns(role, _FIELDS.body(row), _FIELDS.said_at(row), name)
    elif row.get("subtype") == "chat_compression":
        history = objects(value_at(row, "systemPayload.compressedHistory"))
        texts = [turn.content for _, content in history for turn in PARTS.turns("system", content.get("parts"))]
        yield NewTurn("system", "\n".join(texts) or compact_json(row.get("systemPayload")), RECAP, _FIELDS.said_at(row))


looks_like, parse = json_lines("qwen-code", _is_own, _read)
