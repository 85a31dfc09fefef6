"""OpenAI's chat messages, as turns: a request's body, a saved list of messages, or what a caller hands to a tool.

A message's text is a turn; each of its calls is one more, named for the function, its arguments exactly as the string
that came. A message in parts gives a turn per part, what is no text as JSON. `developer` is the system speaking,
`function` a tool. The fields of a turn (name, said_at, call_id) are taken where they stand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import ROLES, NewTurn, Role
from ctxmem_mcp.transcripts.base import Notes, Transcript, compact

AGENT = "openai"
_ROLES: dict[str, Role] = {**{role: role for role in ROLES}, "developer": "system", "function": "tool"}
_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


def looks_like(name: str, head: str) -> bool:
    """JSON that is, or holds, a list of messages."""
    start = head.lstrip()
    return start[:1] in "[{" and '"role"' in start and (start[:1] == "[" or '"messages"' in start.split('"role"')[0])


def parse(text: str, name: str) -> Transcript:
    """The messages of a file: `[...]`, or `{"messages": [...]}` with what else a request's body holds."""
    notes = Notes()
    try:
        body = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"file {name}", f"is not JSON: {error}", "Is it cut off?") from error
    messages = body.get("messages") if isinstance(body, dict) else body
    if not isinstance(messages, list):
        raise InvalidArgument(f"file {name}", "holds no list of messages", 'It takes [...] or {"messages": [...]}.')
    found: list[tuple[int, NewTurn]] = []
    for i, message in enumerate(messages):
        try:
            found += [(i, turn) for turn in turns_of_message(message, f"messages[{i}]")]
        except InvalidArgument as error:
            notes.warnings.append(f"left out: {error}")
    return Transcript(AGENT, "", notes.mended(found), warnings=tuple(notes.warnings))


def turns_of_messages(messages: Sequence[Any]) -> list[NewTurn]:
    """Messages as turns, in order. Raises InvalidArgument that names messages[i] and the field."""
    return [turn for i, message in enumerate(messages) for turn in turns_of_message(message, f"messages[{i}]")]


def turns_of_message(message: object, where: str) -> Iterator[NewTurn]:
    """One message's turns: its text or parts, then its calls. `where` begins the name of a field in errors."""
    if not isinstance(message, dict):
        raise InvalidArgument(where, "takes an object with role and content", f"It is {type(message).__name__}.")
    given = message.get("role")
    role = _ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        raise InvalidArgument(f"{where}.role", f"is {given!r}; takes one of {', '.join(_ROLES)}")
    name, said_at = _text(message, "name", where), _text(message, "said_at", where)
    call_id = _text(message, "tool_call_id", where) or _text(message, "call_id", where)
    calls = [*_calls(message, said_at, where)]
    for content in _contents(message, role, bool(calls), where):
        yield NewTurn(role, content, name, said_at, call_id)
    yield from calls


def _contents(message: dict[str, Any], role: Role, calls: bool, where: str) -> list[str]:
    content = message.get("content")
    if isinstance(content, str):
        # A caller of tools often sends an empty text beside the calls: nobody said it.
        return [content] if content or not calls else []
    if isinstance(content, list):
        return [_part(part, f"{where}.content[{i}]") for i, part in enumerate(content)]
    if content is None and isinstance(message.get("refusal"), str):
        return [message["refusal"]]
    if content is None and role == "assistant" and "content" in message:
        return [] if calls else [""]
    if content is None and calls:
        return []
    raise InvalidArgument(f"{where}.content", "takes text or a list of parts", "Send an empty text for none.")


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise InvalidArgument(where, "takes an object with a type", f"It is {type(part).__name__}.")
    if part.get("type") in _TEXT_PARTS:
        text = part.get("text", part.get("refusal"))
        if isinstance(text, str):
            return text
    return compact(part)


def _calls(message: dict[str, Any], said_at: str | None, where: str) -> Iterator[NewTurn]:
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InvalidArgument(f"{where}.tool_calls", "takes a list of calls")
    if isinstance(message.get("function_call"), dict):
        calls = [*calls, {"function": message["function_call"]}]
    for i, call in enumerate(calls):
        function = call.get("function", call.get("custom")) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidArgument(f"{where}.tool_calls[{i}]", "takes an object with a function and its name")
        arguments = function.get("arguments", function.get("input", ""))
        content = arguments if isinstance(arguments, str) else compact(arguments)
        call_id = call.get("id")
        yield NewTurn("assistant", content, function["name"], said_at, call_id if isinstance(call_id, str) else None)


def _text(message: dict[str, Any], field: str, where: str) -> str | None:
    value = message.get(field)
    if value is None or isinstance(value, str):
        return value or None
    raise InvalidArgument(f"{where}.{field}", f"takes text; it is {type(value).__name__}")
