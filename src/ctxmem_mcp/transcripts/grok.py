"""Grok Build's sessions: a row for each message, thought and result."""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import INJECTED, THINKING, NewTurn
from ctxmem_mcp.transcripts.base import compact_json, text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_lines, objects
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, text_or_none, timestamp_of
from ctxmem_mcp.transcripts.parts import PartTypes, text_at

_FIELDS = Fields(role="type")
_PARTS = PartTypes()
_TYPES = ("system", "user", "assistant", "reasoning", "tool_result", "backend_tool_call")


def _is_own(rows: list[Row]) -> bool:
    has_own = any(row.get("type") in ("tool_result", "reasoning") or "prompt_index" in row for row in rows)
    has_user = any(row.get("type") == "user" and "content" in row for row in rows)
    return (
        has_own and has_user and all(row.get("type") in _TYPES and not {"message", "role"} & row.keys() for row in rows)
    )


def _read(reader: Reader, rows: list[NumberedRow]) -> Chat:
    return Chat([reader.message(number, row, _turns(row), _FIELDS) for number, row in rows])


def _turns(row: Row) -> Iterator[NewTurn]:
    kind, said_at = row.get("type"), timestamp_of(row)
    if kind == "reasoning":
        for _, part in objects(row.get("summary")):
            if text := text_or_none(part.get("text")):
                yield NewTurn("assistant", text, THINKING, said_at)
    elif kind == "tool_result":
        yield NewTurn("tool", text_or_json(row.get("content", "")), None, said_at, text_at(row, "tool_call_id"))
    elif kind == "backend_tool_call":
        yield NewTurn("assistant", compact_json(row), text_at(row, "name") or "backend_tool_call", said_at)
    elif kind in ("user", "assistant", "system"):
        role, name = ("system", INJECTED) if row.get("synthetic_reason") else _FIELDS.author(row)
        yield from _PARTS.turns(role, row.get("content"), said_at, name)
        for _, call in objects(row.get("tool_calls")):
            arguments = text_or_json(call.get("arguments", ""))
            yield NewTurn("assistant", arguments, text_at(call, "name"), said_at, text_at(call, "id"))


looks_like, parse = json_lines("grok", _is_own, _read)
