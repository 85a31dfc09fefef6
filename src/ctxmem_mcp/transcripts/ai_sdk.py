"""Messages of Vercel's AI SDK (UIMessage): each part is a turn; a part of a tool is its call and its result."""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_document, objects
from ctxmem_mcp.transcripts.json_lines import Row, timestamp_of
from ctxmem_mcp.transcripts.parts import PartTypes, text_at

_FIELDS = Fields(content="parts", id="")
_PARTS = PartTypes(thinking={"reasoning": "text"}, ignored=("step-start",))
_TOOL_PREFIX, _ANY_TOOL, _OLDER_TOOL = "tool-", "dynamic-tool", "tool-invocation"


def _messages(value: object) -> object:
    return value.get("messages") if isinstance(value, dict) else value


def _is_own(value: object) -> bool:
    rows = [row for _, row in objects(_messages(value))]
    return any("role" in row and any("type" in part for _, part in objects(row.get("parts"))) for row in rows)


def _read(reader: Reader, value: object) -> Chat:
    rows = objects(_messages(value), reader.log)
    return Chat([reader.message(number, row, _turns(row), _FIELDS) for number, row in rows], text_at(value, "id"))


def _turns(row: Row) -> Iterator[NewTurn]:
    role, name = _FIELDS.author(row)
    said_at = (
        timestamp_of(row) or timestamp_of(row["metadata"])
        if isinstance(row.get("metadata"), dict)
        else timestamp_of(row)
    )
    for _, part in objects(row.get("parts")):
        kind = text_at(part, "type") or ""
        if kind.startswith(_TOOL_PREFIX) or kind == _ANY_TOOL:
            yield from _call(part, kind, said_at)
        else:
            yield from _PARTS.turns(role, part, said_at, name)


def _call(part: Row, kind: str, said_at: str | None) -> Iterator[NewTurn]:
    own = part["toolInvocation"] if kind == _OLDER_TOOL and isinstance(part.get("toolInvocation"), dict) else part
    tool, id = text_at(own, "toolName") or kind.removeprefix(_TOOL_PREFIX), text_at(own, "toolCallId")
    yield NewTurn("assistant", text_or_json(own.get("input", own.get("args", ""))), tool, said_at, id)
    result = next((own[key] for key in ("output", "result", "errorText") if own.get(key) is not None), None)
    if result is not None:
        yield NewTurn("tool", text_or_json(result), tool, said_at, id)


looks_like, parse = json_document("ai-sdk", _is_own, _read)
