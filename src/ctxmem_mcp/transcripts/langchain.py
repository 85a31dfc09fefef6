"""LangChain's messages, as `messages_to_dict` and `dumps` write them: text, calls and results are a turn each."""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_document, objects
from ctxmem_mcp.transcripts.json_lines import Row, timestamp_of
from ctxmem_mcp.transcripts.parts import ANTHROPIC_PARTS, text_at

_FIELDS = Fields(role="type")
_SUFFIXES = ("MessageChunk", "Message")


def _messages(value: object) -> object:
    return value.get("messages") if isinstance(value, dict) else value


def _is_own(value: object) -> bool:
    return any(_kind(row) and _data(row) for _, row in objects(_messages(value)))


def _kind(row: Row) -> str:
    """Returns a message's type, such as `human`; empty if it is none."""
    if row.get("type") == "constructor" and isinstance(row.get("id"), list) and row["id"]:
        name = str(row["id"][-1])
        return next((name.removesuffix(end).lower() for end in _SUFFIXES if name.endswith(end)), "")
    kind = text_at(row, "type") or ""
    return kind if kind in ("human", "ai", "system", "tool", "function", "chat") and "data" in row else ""


def _data(row: Row) -> Row:
    data = row.get("data", row.get("kwargs"))
    return data if isinstance(data, dict) and "content" in data else {}


def _read(reader: Reader, value: object) -> Chat:
    rows = objects(_messages(value), reader.log)
    return Chat([reader.message(number, row, _turns(row), _FIELDS) for number, row in rows])


def _turns(row: Row) -> Iterator[NewTurn]:
    data = _data(row)
    role, name = _FIELDS.author({"type": text_at(data, "role") or _kind(row)})
    said_at = timestamp_of(data)
    if role == "tool":
        text = text_or_json(data.get("content", ""))
        yield NewTurn("tool", text, text_at(data, "name"), said_at, text_at(data, "tool_call_id"))
        return
    calls = objects(data.get("tool_calls"))
    parts = data.get("content")
    if calls and isinstance(parts, list):  # the calls are there a second time
        parts = [part for part in parts if not (isinstance(part, dict) and part.get("type") == "tool_use")]
    yield from ANTHROPIC_PARTS.turns(role, parts, said_at, name)
    for _, call in calls:
        yield NewTurn(
            "assistant", text_or_json(call.get("args", "")), text_at(call, "name"), said_at, text_at(call, "id")
        )


looks_like, parse = json_document("langchain", _is_own, _read)
