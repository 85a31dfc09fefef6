"""Several conversations in one file, each a list of OpenAI's or Anthropic's messages: a thread for each.

That are the lines of fine-tuning data (`messages`), the results of tau-bench (`traj`), and the answers of Anthropic's
batches (`result.message`).
"""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, either, json_document, json_lines, objects
from ctxmem_mcp.transcripts.content_blocks import turns_from_blocks
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, timestamp_of
from ctxmem_mcp.transcripts.message_tree import Message
from ctxmem_mcp.transcripts.openai import turns_from_message
from ctxmem_mcp.transcripts.parts import text_at, value_at

_FIELDS = Fields()
_BLOCK_TYPES = ("tool_use", "tool_result", "thinking")


def _messages(row: Row) -> list[NumberedRow]:
    one = value_at(row, "result.message")
    found = [one] if isinstance(one, dict) else row.get("messages", row.get("traj"))
    return [(number, message) for number, message in objects(found) if "role" in message]


def _is_own_lines(rows: list[Row]) -> bool:
    if rows and all("custom_id" in row and isinstance(row.get("result"), dict) for row in rows):
        return True
    # One list alone is a request's body.
    return len(rows) > 1 and all(not {"role", "sessionId"} & row.keys() and _messages(row) for row in rows)


def _is_own_list(value: object) -> bool:
    rows = [row for _, row in objects(value)] if isinstance(value, list) else []
    has_results = bool(rows) and all("traj" in row and _messages(row) for row in rows)
    return has_results or _is_own_lines(rows)


def _read_list(reader: Reader, value: object) -> list[Chat]:
    return _read(reader, objects(value, reader.log))


def _read(reader: Reader, rows: list[NumberedRow]) -> list[Chat]:
    return [Chat([_message(reader, *numbered) for numbered in _messages(row)], _id(row)) for _, row in rows]


def _id(row: Row) -> str | None:
    return text_at(row, "custom_id") or text_at(row, "id")


def _message(reader: Reader, number: int, message: Row) -> Message:
    try:
        turns = [*_turns(message)]
    except InvalidArgument as error:
        reader.log.warnings.append(f"message {number}: skipped, {error}")
        turns = []
    return reader.message(number, message, turns, _FIELDS)


def _turns(message: Row) -> Iterator[NewTurn]:
    blocks = [block for _, block in objects(message.get("content"))]
    if any(block.get("type") in _BLOCK_TYPES for block in blocks):
        role, _ = _FIELDS.author(message)
        return turns_from_blocks(role, message.get("content"), timestamp_of(message))
    return iter(turns_from_message(message, "message"))


looks_like, parse = either(
    json_lines("message-lists", _is_own_lines, _read), json_document("message-lists", _is_own_list, _read_list)
)
