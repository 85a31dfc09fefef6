"""OpenHands: events a line or in a list, of version 0 (`action`, `observation`) and of version 1 (`kind`).

Words, thoughts, calls and observations are a turn each; the system prompt, recalled knowledge and condensed history are
the host's.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import INJECTED, RECAP, THINKING, NewTurn
from ctxmem_mcp.transcripts.base import compact_json, text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, either, json_document, json_lines, objects
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, timestamp_of
from ctxmem_mcp.transcripts.parts import PartTypes, text_at, value_at

_FIELDS = Fields()
_PARTS = PartTypes()
_KINDS = ("MessageEvent", "ActionEvent", "ObservationEvent", "SystemPromptEvent", "Condensation", "AgentErrorEvent")
_SAYS = {"message": "content", "think": "thought", "finish": "final_thought", "reject": "thought"}


def _events(value: object) -> list[NumberedRow]:
    if isinstance(value, dict):
        value = value.get("history", value.get("events"))
    return objects(value)


def _is_event(row: Row) -> bool:
    is_v0 = ("action" in row or "observation" in row) and row.get("source") in ("user", "agent", "environment")
    return is_v0 or row.get("kind") in _KINDS


def _is_own_list(value: object) -> bool:
    return any(_is_event(row) for _, row in _events(value)) or (isinstance(value, dict) and _is_event(value))


def _is_own_lines(rows: list[Row]) -> bool:
    """Events a line, or an evaluation's output: an instance a line."""
    return any(_is_event(row) for row in rows) or any(
        "instance_id" in row and any(_is_event(event) for _, event in objects(row.get("history"))) for row in rows
    )


def _read_list(reader: Reader, value: object) -> Chat:
    return _chat(reader, _events(value) or objects([value]), None)


def _read_lines(reader: Reader, rows: list[NumberedRow]) -> list[Chat]:
    if any(_is_event(row) for _, row in rows):
        return [_chat(reader, rows, None)]
    return [_chat(reader, objects(row.get("history")), text_at(row, "instance_id")) for _, row in rows]


def _chat(reader: Reader, rows: list[NumberedRow], session: str | None) -> Chat:
    call_of = {text_at(row, "id"): _call_id(row) for _, row in rows if "action" in row}
    return Chat([reader.message(n, row, _turns(row, call_of), _FIELDS) for n, row in rows], session)


def _call_id(row: Row) -> str | None:
    return text_at(row, "tool_call_metadata.tool_call_id") or text_at(row, "tool_call_id") or text_at(row, "id")


def _turns(row: Row, call_of: dict[str | None, str | None]) -> Iterator[NewTurn]:
    if row.get("kind") in _KINDS:
        return _turns_v1(row)
    return _observation(row, call_of) if "observation" in row else _action(row)


# ---------------------------------------------------------------- version 0


def _action(row: Row) -> Iterator[NewTurn]:
    action, said_at = text_at(row, "action") or "", timestamp_of(row)
    arguments = row["args"] if isinstance(row.get("args"), dict) else {}
    if action in _SAYS:
        fields = dict.fromkeys((_SAYS[action], "content", "thought"))
        words = next((found for field in fields if (found := text_at(arguments, field))), text_at(row, "message"))
        name = THINKING if action == "think" else None
        if words:
            yield NewTurn("user" if row.get("source") == "user" else "assistant", words, name, said_at)
    elif action in ("system", "recall", "change_agent_state"):
        if words := text_at(arguments, "content"):
            yield NewTurn("system", words, INJECTED, said_at)
    elif action:
        if thought := text_at(arguments, "thought"):
            yield NewTurn("assistant", thought, said_at=said_at)
        rest = {key: value for key, value in arguments.items() if key != "thought"}
        tool = text_at(row, "tool_call_metadata.function_name") or action
        yield NewTurn("assistant", compact_json(rest), tool, said_at, _call_id(row))


def _observation(row: Row, call_of: dict[str | None, str | None]) -> Iterator[NewTurn]:
    words, said_at = text_or_json(row.get("content") or ""), timestamp_of(row)
    if row.get("observation") in ("recall", "agent_state_changed", "null", "think"):
        if words:
            yield NewTurn("system", words, INJECTED, said_at)
        return
    tool = text_at(row, "tool_call_metadata.function_name") or text_at(row, "observation")
    call_id = text_at(row, "tool_call_metadata.tool_call_id") or call_of.get(text_at(row, "cause"))
    yield NewTurn("tool", words, tool, said_at, call_id)


# ---------------------------------------------------------------- version 1


def _turns_v1(row: Row) -> Iterator[NewTurn]:
    kind, said_at = row["kind"], timestamp_of(row)
    if kind == "MessageEvent":
        role, name = _FIELDS.author({"role": value_at(row, "llm_message.role")})
        yield from _PARTS.turns(role, value_at(row, "llm_message.content"), said_at, name)
    elif kind == "ActionEvent":
        if thought := text_at(row, "reasoning_content"):
            yield NewTurn("assistant", thought, THINKING, said_at)
        yield from _PARTS.turns("assistant", row.get("thought"), said_at)
        arguments = text_at(row, "tool_call.arguments") or text_at(row, "tool_call.function.arguments")
        call = arguments or text_or_json(row.get("action") or "")
        yield NewTurn("assistant", call, text_at(row, "tool_name"), said_at, text_at(row, "tool_call_id"))
    elif kind in ("ObservationEvent", "AgentErrorEvent"):
        found = value_at(row, "observation.content") or row.get("error") or row.get("observation") or ""
        for turn in _PARTS.turns("tool", found, said_at, text_at(row, "tool_name")):
            yield NewTurn("tool", turn.content, turn.name, said_at, text_at(row, "tool_call_id"))
    elif kind == "SystemPromptEvent":
        yield from _PARTS.turns("system", row.get("system_prompt"), said_at)
    elif kind == "Condensation" and (summary := text_at(row, "summary")):
        yield NewTurn("system", summary, RECAP, said_at)


looks_like, parse = either(
    json_lines("openhands", _is_own_lines, _read_lines), json_document("openhands", _is_own_list, _read_list)
)
