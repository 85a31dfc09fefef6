"""opencode's sessions, as `opencode export` writes them; its database and its folder of files are read into the same
shape.

Text, thoughts, calls and results are a turn each. Text that opencode wrote in the user's place is named `injected`, the
summary of a compaction `recap`. What the user took back with `/undo` is in `abandoned_branches`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ctxmem_mcp.models import INJECTED, OF_AGENT, RECAP, NewTurn
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, first_object, json_document, objects
from ctxmem_mcp.transcripts.json_lines import Row
from ctxmem_mcp.transcripts.message_tree import Message
from ctxmem_mcp.transcripts.parts import Call, PartTypes, Result, text_at, value_at

_FIELDS = Fields(role="info.role", content="parts", time="info.time.created", id="info.id")
_PARTS = PartTypes(
    thinking={"reasoning": "text"},
    calls={"tool": Call("tool", "state.input", "callID")},
    results={"tool": Result("state.output state.error", "callID", "tool")},
    ignored=("step-start", "step-finish", "snapshot", "patch", "retry", "compaction"),
)


def _is_own(value: object) -> bool:
    one = first_object(value)
    return isinstance(one.get("messages"), list) and isinstance(value_at(one, "info.id"), str)


def _read(reader: Reader, value: object) -> list[Chat]:
    sessions = value if isinstance(value, list) else [value]
    return [_chat(reader, one) for one in sessions if isinstance(one, dict)]


def _chat(reader: Reader, session: Row) -> Chat:
    messages = [_message(reader, number, row) for number, row in objects(session.get("messages"), reader.log)]
    taken_back = text_at(session, "info.revert.messageID")
    place = next((i for i, message in enumerate(messages) if taken_back and message.id == taken_back), None)
    tip = messages[place - 1].id if place else None
    parent, own = text_at(session, "info.parentID"), text_at(session, "info.id") or ""
    return Chat(
        messages,
        f"{parent}{OF_AGENT}{own}" if parent else own,
        text_at(session, "info.title"),
        text_at(session, "info.directory"),
        tip,
    )


def _message(reader: Reader, number: int, row: Row) -> Message:
    return reader.message(number, row, _turns(row), _FIELDS)


def _turns(row: Row) -> Iterator[NewTurn]:
    role, name = _FIELDS.author(row)
    said_at = _FIELDS.said_at(row)
    for _, part in objects(row.get("parts")):
        for turn in _PARTS.turns(role, part, said_at, name):
            if role == "user" and (part.get("synthetic") or part.get("ignored")):
                turn = replace(turn, role="system", name=INJECTED)
            elif turn.role == "assistant" and turn.name is None and value_at(row, "info.summary") is True:
                turn = replace(turn, role="system", name=RECAP)
            yield turn
    if error := text_at(row, "info.error.data.message"):
        yield NewTurn("system", error, INJECTED, said_at)


looks_like, parse = json_document("opencode", _is_own, _read)
