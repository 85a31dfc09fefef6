"""GitHub Copilot Chat in VS Code: a session as one JSON document, or as the log of its changes (`.jsonl`).

A request is the user's turn, after it the context that was attached, named `injected`. Of its response, text, thoughts,
calls and results are a turn each. Where the session has the rounds of calls that the model was sent, calls and results
come from these, otherwise from what the editor showed of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ctxmem_mcp.models import INJECTED, THINKING, NewTurn
from ctxmem_mcp.transcripts.base import compact_json, text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, either, json_document, json_lines, objects
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, text_or_none, timestamp_of
from ctxmem_mcp.transcripts.parts import text_at, value_at

AGENT = "copilot-chat"
_FIELDS = Fields()
_SET, _PUSH, _DELETE = 1, 2, 3
# What the editor shows of a response that are nobody's words.
_SILENT_KINDS = (
    "prepareToolInvocation", "undoStop", "codeblockUri", "progressMessage", "progressTask", "confirmation",
    "mcpServersStarting", "command", "progressTaskSerialized",
)  # fmt: skip


def _is_session(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("requests"), list) and (
        "responderUsername" in value or "sessionId" in value or "initialLocation" in value
    )  # fmt: skip


def _is_own_lines(rows: list[Row]) -> bool:
    return bool(rows) and "kind" in rows[0] and _is_session(rows[0].get("v"))


def _read_log(reader: Reader, rows: list[NumberedRow]) -> Chat:
    session: object = {}
    for number, row in rows:
        if row.get("kind") == 0:
            session = row.get("v")
        elif not _apply(session, row):
            reader.log.add_warning(number, "skipped, a change of something that is not there")
    return _read(reader, session)


def _apply(session: object, row: Row) -> bool:
    """Makes a logged change in the session. Returns whether that was possible."""
    path = row.get("k")
    if not isinstance(path, list) or not path or not all(isinstance(key, str | int) for key in path):
        return False
    holder: Any = session
    for key in path[:-1]:
        holder = _child(holder, key)
    kind, key = row.get("kind"), path[-1]
    if kind == _PUSH:
        held = _child(holder, key)
        if held is None and isinstance(holder, dict):
            held = holder[key] = []
        return isinstance(held, list) and _push(held, row)
    if isinstance(holder, dict):
        if kind == _DELETE:
            holder.pop(key, None)
        else:
            holder[key] = row.get("v")
        return True
    if isinstance(holder, list) and isinstance(key, int) and 0 <= key <= len(holder):
        holder[key : key + 1] = [] if kind == _DELETE else [row.get("v")]
        return True
    return False


def _push(held: list[Any], row: Row) -> bool:
    at, values = row.get("i"), row.get("v")
    if isinstance(at, int) and 0 <= at <= len(held):
        del held[at:]
    held.extend(values if isinstance(values, list) else [])
    return True


def _child(holder: object, key: object) -> Any:
    if isinstance(holder, dict):
        return holder.get(key)
    if isinstance(holder, list) and isinstance(key, int) and 0 <= key < len(holder):
        return holder[key]
    return None


# ---------------------------------------------------------------- requests


def _read(reader: Reader, value: object) -> Chat:
    rows = objects(value_at(value, "requests"), reader.log)
    messages = [
        reader.message(number, row, [*_user_turns(row), *_response_turns(row)], _FIELDS) for number, row in rows
    ]
    return Chat(messages, text_at(value, "sessionId"), text_at(value, "customTitle"), _cwd(value))


def _cwd(value: object) -> str | None:
    return text_at(value, "workingDirectory") or text_at(value, "workspaceFolder")


def _user_turns(request: Row) -> Iterator[NewTurn]:
    said_at = timestamp_of(request)
    for _, variable in objects(value_at(request, "variableData.variables")):
        if variable.get("value") is not None:
            yield NewTurn("system", text_or_json(variable), INJECTED, said_at)
    text = text_at(request, "message.text") or text_or_none(request.get("message"))
    parts = [part.get("text") for _, part in objects(value_at(request, "message.parts"))]
    if words := text or "".join(part for part in parts if isinstance(part, str)):
        yield NewTurn("user", words, said_at=said_at)


def _response_turns(request: Row) -> Iterator[NewTurn]:
    said_at = timestamp_of(request)
    metadata = value_at(request, "result.metadata")
    rounds = _Rounds(metadata, said_at)
    said = ""
    for _, part in objects(request.get("response")):
        kind = part.get("kind")
        if kind in (None, "markdownContent", "inlineReference"):
            said += _text_of(part)
            continue
        if kind in _SILENT_KINDS:
            continue
        if said:
            yield NewTurn("assistant", said, said_at=said_at)
        said = ""
        if kind == "thinking":
            value = part.get("value")
            thought = "\n".join(map(text_or_json, value)) if isinstance(value, list) else text_or_none(value)
            if thought:
                yield NewTurn("assistant", thought, THINKING, said_at)
        elif kind == "toolInvocationSerialized":
            yield from rounds.take(text_at(part, "toolCallId")) or _shown_call(part, said_at)
        else:
            yield NewTurn("assistant", compact_json(part), said_at=said_at)
    if said:
        yield NewTurn("assistant", said, said_at=said_at)
    yield from rounds.rest()
    if error := text_at(request, "result.errorDetails.message"):
        yield NewTurn("system", error, INJECTED, said_at)


def _text_of(part: Row) -> str:
    value = part.get("value", part.get("content"))
    if isinstance(value, dict) and isinstance(value.get("value"), str):
        value = value["value"]
    if isinstance(value, str):
        return value
    found = text_at(part, "name") or text_at(part, "inlineReference.name") or text_at(part, "inlineReference.path")
    return f"`{found}`" if found else compact_json(part)


class _Rounds:
    """The calls and results that the model was sent, by the call's id."""

    def __init__(self, metadata: object, said_at: str | None) -> None:
        self._results = value_at(metadata, "toolCallResults") or {}
        self._said_at = said_at
        self._calls = {
            id: call
            for _, one in objects(value_at(metadata, "toolCallRounds"))
            for _, call in objects(one.get("toolCalls"))
            if (id := text_at(call, "id"))
        }

    def take(self, id: str | None) -> list[NewTurn]:
        """Returns the call with its result, once."""
        call = self._calls.pop(id, None) if id else None
        if call is None:
            return []
        name, arguments = text_at(call, "name"), text_or_json(call.get("arguments", ""))
        turns = [NewTurn("assistant", arguments, name, self._said_at, id)]
        result = self._results.get(id) if isinstance(self._results, dict) else None
        if result:
            parts = [part.get("value") for _, part in objects(value_at(result, "content"))]
            parts = [value for value in parts if value not in (None, {})]
            texts = [_leaves(value) if isinstance(value, dict) else text_or_json(value) for value in parts]
            if not isinstance(value_at(result, "content"), list):
                texts = [compact_json(result)]
            turns += [NewTurn("tool", text, name, self._said_at, id) for text in texts]
        return turns

    def rest(self) -> Iterator[NewTurn]:
        """Yields the calls that the response does not show."""
        for id in list(self._calls):
            yield from self.take(id)


def _leaves(value: object) -> str:
    """Returns the texts of a rendered prompt's tree, in order."""
    texts: list[str] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if isinstance(one.get("text"), str):
                texts.append(one["text"])
            waiting += [one[key] for key in ("node", "children") if key in one]
        elif isinstance(one, list):
            waiting += reversed(one)
    return "".join(texts)


def _shown_call(part: Row, said_at: str | None) -> Iterator[NewTurn]:
    name, id = text_at(part, "toolId"), text_at(part, "toolCallId")
    data = part.get("toolSpecificData")
    command = text_at(data, "commandLine.original") or text_at(data, "command")
    shown = command or text_at(part, "invocationMessage.value") or text_at(part, "invocationMessage") or ""
    yield NewTurn("assistant", shown, name, said_at, id)
    if part.get("resultDetails") is not None:
        yield NewTurn("tool", text_or_json(part["resultDetails"]), name, said_at, id)


looks_like, parse = either(json_lines(AGENT, _is_own_lines, _read_log), json_document(AGENT, _is_session, _read))
