"""Zed's threads, as its database has them: of now, with `User` and `Agent` messages, and of before, with segments."""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_document, objects
from ctxmem_mcp.transcripts.json_lines import Row
from ctxmem_mcp.transcripts.parts import Call, PartTypes, Result, text_at, value_at

_FIELDS = Fields(id="id")
_PARTS = PartTypes(
    text={"Text": "Text"},
    thinking={"Thinking": "Thinking.text"},
    calls={"ToolUse": Call("ToolUse.name", "ToolUse.input", "ToolUse.id")},
    ignored=("RedactedThinking",),
    type_field="",
)
_OLDER_PARTS = PartTypes(
    thinking={"thinking": "text"},
    calls={"tool_use": Call()},
    results={"tool_result": Result("content.Text content output", "tool_use_id")},
    ignored=("redacted_thinking",),
)


def _is_own(value: object) -> bool:
    rows = [row for _, row in objects(value_at(value, "messages"))]
    return any({"User", "Agent"} & row.keys() or "segments" in row for row in rows)


def _read(reader: Reader, value: object) -> Chat:
    rows = objects(value_at(value, "messages"))  # "Resume" is no object, and nobody's words
    messages = [reader.message(number, row, _turns(row), _FIELDS) for number, row in rows]
    return Chat(messages, text_at(value, "id"), text_at(value, "title") or text_at(value, "summary"))


def _turns(row: Row) -> Iterator[NewTurn]:
    if "segments" in row:
        role, name = _FIELDS.author(row)
        yield from _OLDER_PARTS.turns(role, row["segments"], None, name)
        for kind in ("tool_use", "tool_result"):
            parts = [{**part, "type": kind} for _, part in objects(row.get(f"{kind}s"))]
            yield from _OLDER_PARTS.turns("assistant", parts)
    elif "User" in row:
        yield from _PARTS.turns("user", value_at(row, "User.content"))
    elif "Agent" in row:
        yield from _PARTS.turns("assistant", value_at(row, "Agent.content"))
        results = value_at(row, "Agent.tool_results")
        for id, result in results.items() if isinstance(results, dict) else ():
            content = (
                value_at(result, "content.Text") or value_at(result, "content") or value_at(result, "output") or ""
            )
            yield NewTurn("tool", text_or_json(content), text_at(result, "tool_name"), None, str(id))


looks_like, parse = json_document("zed", _is_own, _read)
