"""ShareGPT's lists, as data for training has them: a conversation in each element or line, its words in `value`.

A `function_call` is a call if it is JSON with a name; an `observation` is the result of the call before it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import text_or_json
from ctxmem_mcp.transcripts.chat_format import (
    Chat,
    Fields,
    Reader,
    either,
    first_object,
    json_document,
    json_lines,
    objects,
)
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row
from ctxmem_mcp.transcripts.message_tree import UNKNOWN_ID, Message
from ctxmem_mcp.transcripts.parts import text_at

_FIELDS = Fields(role="from", content="value", roles={"chatgpt": "assistant", "bard": "assistant"})


def _is_own(row: object) -> bool:
    return any("from" in one and "value" in one for _, one in objects(first_object(row).get("conversations")))


def _is_own_lines(rows: list[Row]) -> bool:
    return bool(rows) and all(isinstance(row.get("conversations"), list) for row in rows) and _is_own(rows[0])


def _read(reader: Reader, value: object) -> list[Chat]:
    return _chats(reader, objects(value if isinstance(value, list) else [value], reader.log))


def _chats(reader: Reader, rows: Sequence[NumberedRow]) -> list[Chat]:
    return [
        Chat([_message(reader, *numbered) for numbered in objects(row.get("conversations"))], text_at(row, "id"))
        for _, row in rows
    ]


def _message(reader: Reader, number: int, row: Row) -> Message:
    role, name = _FIELDS.author(row)
    words = text_or_json(row.get("value", ""))
    turn = NewTurn(role, words, name)
    if row.get("from") == "function_call":
        turn = _call(words)
    elif role == "tool":
        turn = NewTurn("tool", words, call_id=UNKNOWN_ID)
    return reader.message(number, row, [turn] if words else [], _FIELDS)


def _call(words: str) -> NewTurn:
    try:
        call = json.loads(words)
    except ValueError:
        call = None
    name = text_at(call, "name")
    if not isinstance(call, dict) or name is None:
        return NewTurn("assistant", words)
    return NewTurn("assistant", text_or_json(call.get("arguments", "")), name, call_id=UNKNOWN_ID)


looks_like, parse = either(
    json_lines("sharegpt", _is_own_lines, _chats), json_document("sharegpt", _is_own, _read)
)  # fmt: skip
