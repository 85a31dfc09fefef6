"""LibreChat's exported conversations: a tree of messages, nested or by their parents' ids.

Text, thoughts, calls and results are a turn each. Edited and repeated messages are in `abandoned_branches`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, first_object, json_document, objects
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row
from ctxmem_mcp.transcripts.parts import Call, PartTypes, Result, text_at

_FIELDS = Fields(role="sender", time="createdAt", id="messageId", parent="parentMessageId")
_PARTS = PartTypes(
    text={"text": "text", "error": "error"},
    thinking={"think": "think"},
    calls={"tool_call": Call("tool_call.name", "tool_call.args", "tool_call.id")},
    results={"tool_call": Result("tool_call.output", "tool_call.id")},
)


def _is_own(value: object) -> bool:
    messages = objects(first_object(value).get("messages"))
    return any("messageId" in row and "isCreatedByUser" in row for _, row in messages)


def _read(reader: Reader, value: object) -> list[Chat]:
    listed = value if isinstance(value, list) else [value]
    return [_chat(reader, one) for one in listed if isinstance(one, dict)]


def _chat(reader: Reader, conversation: Row) -> Chat:
    rows = _flat(conversation.get("messages"))
    messages = [reader.message(number, row, _turns(row), _FIELDS) for number, row in rows]
    return Chat(messages, text_at(conversation, "conversationId"), text_at(conversation, "title"))


def _flat(messages: object) -> list[NumberedRow]:
    """Returns the messages, those nested in another's `children` after it."""
    found: list[Row] = []
    waiting = [row for _, row in reversed(objects(messages))]
    while waiting:
        row = waiting.pop()
        found.append(row)
        waiting += [child for _, child in reversed(objects(row.get("children")))]
    return [*enumerate(found, 1)]


def _turns(row: Row) -> Iterator[NewTurn]:
    role = "user" if row.get("isCreatedByUser") else "assistant"
    said_at = _FIELDS.said_at(row)
    parts = [
        {**part, "text": _value(part.get("text"))} if "text" in part else part
        for _, part in objects(row.get("content"))
    ]
    yield from _PARTS.turns(role, parts or row.get("text"), said_at)  # type: ignore[arg-type]


def _value(text: object) -> object:
    """Returns a part's text; some versions wrap it."""
    return text.get("value") if isinstance(text, dict) else text


looks_like, parse = json_document("librechat", _is_own, _read)
