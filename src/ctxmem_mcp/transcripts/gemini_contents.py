"""Gemini's contents: messages of `role` and `parts`, as its API takes them, as `/chat save` and AI Studio keep them.

Text, thoughts, calls and results are a turn each. A result without an id belongs to the first call of its name that has
none yet. The system instruction is the first turn. A file from Drive is a system turn named `injected`.
"""

from __future__ import annotations

from ctxmem_mcp.models import INJECTED, NewTurn
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_document, objects
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row
from ctxmem_mcp.transcripts.message_tree import Message
from ctxmem_mcp.transcripts.parts import Call, PartTypes, Result, value_at

# `thought` marks a part of text as the model's thought.
PARTS = PartTypes(
    text={"text": "text"},
    thinking={"thought": "text", "isThought": "text"},
    calls={"functionCall": Call("functionCall.name", "functionCall.args", "functionCall.id")},
    results={
        "functionResponse": Result(
            "functionResponse.response.output functionResponse.response.error functionResponse.response",
            "functionResponse.id",
            "functionResponse.name",
        )
    },
    ignored=("thoughtSignature",),
)
_FIELDS = Fields(content="parts")
_LISTS = ("history", "contents", "chunkedPrompt.chunks")


def contents_of(value: object) -> list[NumberedRow]:
    """Returns the messages in a file's value: the value itself, or a list in one of the usual fields."""
    if isinstance(value, list):
        return objects(value)
    return next((objects(found) for path in _LISTS if isinstance(found := value_at(value, path), list)), [])


def _is_own(value: object) -> bool:
    rows = [row for _, row in contents_of(value)]
    in_studio = isinstance(value_at(value, "chunkedPrompt.chunks"), list)
    return in_studio or any(_is_content(row) for row in rows)


def _is_content(row: Row) -> bool:
    parts = row.get("parts")
    is_typed = any("type" in part for _, part in objects(parts))  # Vercel's SDK types its parts
    return "role" in row and "content" not in row and isinstance(parts, list) and not is_typed and "id" not in row


def _read(reader: Reader, value: object) -> Chat:
    messages = [_message(reader, number, row) for number, row in contents_of(value)]
    system = value_at(value, "systemInstruction.parts") or value_at(value, "system_instruction.parts")
    if turns := PARTS.turns("system", system):
        messages.insert(0, Message(0, tuple(turns)))
    return Chat(messages)


def _message(reader: Reader, number: int, row: Row) -> Message:
    role, _ = _FIELDS.author(row)
    if "driveDocument" in row:
        return reader.message(number, row, PARTS.turns("system", row["driveDocument"], name=INJECTED), _FIELDS)
    # AI Studio keeps a message's text beside its parts, which repeat it.
    turns: list[NewTurn] = PARTS.turns(role, row.get("parts") or row, _FIELDS.said_at(row))
    return reader.message(number, row, turns, _FIELDS)


looks_like, parse = json_document("gemini", _is_own, _read)
