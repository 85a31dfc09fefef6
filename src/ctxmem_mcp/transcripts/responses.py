"""Items of OpenAI's Responses API: lists of them, Codex's sessions of 2025, and agents that keep such items a line
each.

A message's parts, a reasoning's summaries, a call and its output are a turn each.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.transcripts.base import compact_json, text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, either, json_document, json_lines, objects
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, text_or_none, timestamp_of
from ctxmem_mcp.transcripts.parts import PartTypes, text_at

_FIELDS = Fields()
_PARTS = PartTypes(text={"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"})
_ITEM_TYPES = ("reasoning", "function_call", "function_call_output", "function_call_result", "custom_tool_call")
_OUTPUT_TYPES = ("function_call_output", "function_call_result", "custom_tool_call_output", "local_shell_call_output")
_CALL_TYPES = ("function_call", "custom_tool_call", "local_shell_call", "mcp_call")


def _items(value: object) -> list[NumberedRow]:
    if isinstance(value, dict):
        value = next((value[key] for key in ("items", "input", "output") if isinstance(value.get(key), list)), None)
    return objects(value)


def _is_own_list(value: object) -> bool:
    return _is_own([row for _, row in _items(value)])


def _is_own(rows: list[Row]) -> bool:
    """A list of messages alone could be any chat's; its parts are typed as no other's."""
    has_item = any(row.get("type") in _ITEM_TYPES and "payload" not in row for row in rows)
    typed = ("input_text", "output_text")
    has_part = any(part.get("type") in typed for row in rows for _, part in objects(row.get("content")))
    return has_item or (has_part and all(row.get("type") == "message" for row in rows))


def _read_document(reader: Reader, value: object) -> Chat:
    chat = _read(reader, _items(value))
    session = text_at(value, "session.id") or text_at(value, "id")
    return Chat(chat.messages, session or chat.session_id, cwd=chat.cwd)


def _read(reader: Reader, rows: list[NumberedRow]) -> Chat:
    messages = [reader.message(number, row, item_turns(row, timestamp_of(row)), _FIELDS) for number, row in rows]
    session, cwd = (next((text_at(row, key) for _, row in rows if key in row), None) for key in ("sessionId", "cwd"))
    return Chat(messages, session, cwd=cwd)


def item_turns(item: object, said_at: str | None) -> Iterator[NewTurn]:
    """Yields the turns of an item."""
    if not isinstance(item, dict):
        return
    kind = item.get("type") or ("message" if "role" in item else "")
    if kind == "message":
        role, name = _FIELDS.author(item)
        yield from _PARTS.turns(role, item.get("content"), said_at, name)
    elif kind == "reasoning":
        for _, part in (*objects(item.get("summary")), *objects(item.get("content"))):
            if text := text_or_none(part.get("text")):
                yield NewTurn("assistant", text, THINKING, said_at)
    elif kind in _CALL_TYPES:
        arguments = next((item[key] for key in ("arguments", "input", "action") if key in item), "")
        yield NewTurn("assistant", text_or_json(arguments), text_at(item, "name"), said_at, _call_id(item))
    elif kind in _OUTPUT_TYPES:
        yield NewTurn("tool", _output(item.get("output")), text_at(item, "name"), said_at, _call_id(item))
    elif kind and "call" in str(kind):
        yield NewTurn("assistant", compact_json(item), str(kind), said_at, text_at(item, "id"))


def _call_id(item: Row) -> str | None:
    return text_at(item, "call_id") or text_at(item, "callId") or text_at(item, "id")


def _output(output: object) -> str:
    if isinstance(output, list):
        return "\n".join(turn.content for turn in _PARTS.turns("tool", output))
    return text_at(output, "text") or text_or_json("" if output is None else output)


looks_like, parse = either(
    json_lines("openai-responses", _is_own, _read), json_document("openai-responses", _is_own_list, _read_document)
)
