"""Continue's sessions (`~/.continue/sessions/*.json`).

Text, thoughts, calls and results are a turn each. The context attached to a message is named `injected` and comes
before it. Where no message of the tool follows a call, its result is the output that the session keeps beside it. There
are no times.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import INJECTED, THINKING, NewTurn
from ctxmem_mcp.transcripts.base import text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_document, objects
from ctxmem_mcp.transcripts.json_lines import Row, text_or_none
from ctxmem_mcp.transcripts.parts import PartTypes, text_at, value_at

_FIELDS = Fields(role="message.role", content="message.content")
_PARTS = PartTypes()


def _is_own(value: object) -> bool:
    history = objects(value_at(value, "history"))
    return any(
        isinstance(row.get("message"), dict) and ("contextItems" in row or "editorState" in row) for _, row in history
    )


def _read(reader: Reader, value: object) -> Chat:
    rows = objects(value_at(value, "history"), reader.log)
    answered = {text_at(row, "message.toolCallId") for _, row in rows}
    messages = [reader.message(number, row, _turns(row, answered), _FIELDS) for number, row in rows]
    cwd = text_at(value, "workspaceDirectory")
    return Chat(messages, text_at(value, "sessionId"), text_at(value, "title"), cwd and cwd.removeprefix("file://"))


def _turns(row: Row, answered: set[str | None]) -> Iterator[NewTurn]:
    for _, item in objects(row.get("contextItems")):
        words = "\n".join(filter(None, (text_at(item, "name"), text_or_none(item.get("content")))))
        if words:
            yield NewTurn("system", words, INJECTED)
    role, name = _FIELDS.author(row)
    content = _FIELDS.body(row)
    if role == "tool":
        text = text_or_none(content) or "\n".join(turn.content for turn in _PARTS.turns("tool", content))
        yield NewTurn("tool", text, None, None, text_at(row, "message.toolCallId"))
    elif text_at(row, "message.role") == "thinking":
        yield from _PARTS.turns("assistant", content, name=THINKING)
    else:
        yield from _PARTS.turns(role, content, name=name)
    for _, call in objects(value_at(row, "message.toolCalls")):
        arguments = text_or_json(value_at(call, "function.arguments") or "")
        yield NewTurn("assistant", arguments, text_at(call, "function.name"), None, text_at(call, "id"))
    for _, state in objects(row.get("toolCallStates")):
        id = text_at(state, "toolCallId")
        if id not in answered:
            for _, output in objects(state.get("output")):
                yield NewTurn("tool", text_or_json(output.get("content", "")), None, None, id)


looks_like, parse = json_document("continue", _is_own, _read)
