"""OpenAI's chat messages: a request's body, a saved list of messages, or the messages that a tool is called with.

A message's text is a turn; each of its calls is one more, named after the function, with the arguments exactly as the
string that was received. A message in parts is a turn for each part; a part that is not text becomes JSON. The role
`developer` is read as system, `function` as tool. The fields of a turn (name, said_at, call_id) are read if a message
has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import ROLES as TURN_ROLES
from ctxmem_mcp.models import THINKING, NewTurn, Role
from ctxmem_mcp.transcripts.base import NumberedTurn, ParseLog, Transcript, compact_json, text_or_json
from ctxmem_mcp.transcripts.json_documents import read_head
from ctxmem_mcp.transcripts.json_lines import parse_json, text_or_none, timestamp_of

AGENT = "openai"
ROLES: dict[str, Role] = {**{role: role for role in TURN_ROLES}, "developer": "system", "function": "tool"}
# What other programs call the user and the model. A request's body has to have OpenAI's roles.
OTHER_ROLES: dict[str, Role] = {
    "human": "user", "ai": "assistant", "model": "assistant", "gpt": "assistant", "bot": "assistant",
    "observation": "tool",
}  # fmt: skip
# Where servers put a model's reasoning: DeepSeek and vLLM, then OpenRouter and Ollama.
THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
_TEXT_PART_TYPES = ("text", "input_text", "output_text", "refusal")


def looks_like(name: str, head: str) -> bool:
    """Recognises JSON that is, or holds, a list of messages, none of which has fields that other programs' have."""
    start = head.lstrip()
    if not (start[:1] in ("[", "{") and '"role"' in start and (start[:1] == "[" or '"messages"' in start)):
        return False
    body = read_head(head)
    if isinstance(body, dict) and isinstance(body.get("history"), dict):
        return False  # OpenWebUI's: the branches are in its history
    listed = body.get("messages") if isinstance(body, dict) else body
    messages = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return any(map(_is_message, messages)) and not any(map(_is_foreign, messages))


def _is_message(message: dict[str, Any]) -> bool:
    fields = ("content", "tool_calls", "function_call")
    return isinstance(message.get("role"), str) and any(field in message for field in fields)


def _is_foreign(message: dict[str, Any]) -> bool:
    """Returns whether a message is Amp's, OpenWebUI's, Gemini's or of Vercel's SDK."""
    fields = ("messageId", "childrenIds", "parentId")
    return any(field in message for field in fields) or ("parts" in message and "content" not in message)


def parse(text: str, name: str) -> Transcript:
    """Returns the messages of a file: `[...]`, or `{"messages": [...]}` with any other fields of a request's body.

    Raises:
        InvalidArgument: the file is not JSON, or contains no list of messages.
    """
    log = ParseLog()
    try:
        body = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"file {name}", f"is not valid JSON: {error}", "Check that the file is complete."
        ) from error
    messages = body.get("messages") if isinstance(body, dict) else body
    if not isinstance(messages, list):
        raise InvalidArgument(f"file {name}", "contains no list of messages", 'Pass [...] or {"messages": [...]}.')
    found: list[NumberedTurn] = []
    unread = 0
    for i, message in enumerate(messages):
        try:
            found += [(i, turn) for turn in turns_from_message(_known_role(message), f"messages[{i}]")]
        except InvalidArgument as error:
            unread += 1
            log.warnings.append(f"skipped, {error}")
    log.count_unread(unread, len(messages))
    return Transcript(AGENT, "", log.sanitize(found), warnings=tuple(log.warnings), unread=log.unread)


def _known_role(message: object) -> object:
    """Returns a message of a file with the role that a program's own word for it means, such as `bot`."""
    own = message.get("role") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(own, str) or own in ROLES:
        return message
    role = OTHER_ROLES.get(own.lower())
    return {**message, "role": role} if role else message


def turns_from_messages(messages: Sequence[Any]) -> list[NewTurn]:
    """Returns the turns of a list of messages, in order.

    Raises:
        InvalidArgument: a message breaks the format; the error names messages[i] and the field.
    """
    return [turn for i, message in enumerate(messages) for turn in turns_from_message(message, f"messages[{i}]")]


def turns_from_message(message: object, path: str) -> Iterator[NewTurn]:
    """Yields one message's turns: its thoughts, its text or parts, then its calls.

    Args:
        message: the message as parsed JSON.
        path: the message's name in errors (`messages[3]`).

    Raises:
        InvalidArgument: the message breaks the format; the error names the field.
    """
    if not isinstance(message, dict):
        raise InvalidArgument(path, f"must be an object with role and content; got {type(message).__name__}")
    given_role = message.get("role")
    role = ROLES.get(given_role) if isinstance(given_role, str) else None
    if role is None:
        raise InvalidArgument(f"{path}.role", f"must be one of {', '.join(ROLES)}; got {given_role!r}")
    name, said_at = _text_field(message, "name", path), _text_field(message, "said_at", path) or timestamp_of(message)
    call_id = _text_field(message, "tool_call_id", path) or _text_field(message, "call_id", path)
    calls = [*_calls(message, said_at, path)]
    if role == "assistant":
        thought = next((text for field in THOUGHT_FIELDS if (text := text_or_none(message.get(field)))), None)
        if thought:
            yield NewTurn("assistant", thought, THINKING, said_at)
    for content in _contents(message, role, bool(calls), path):
        yield NewTurn(role, content, name, said_at, call_id)
    yield from calls


def _contents(message: dict[str, Any], role: Role, has_calls: bool, path: str) -> list[str]:
    content = message.get("content")
    if isinstance(content, str):
        # Beside calls, clients often send an empty text: it is no turn.
        return [content] if content or not has_calls else []
    if isinstance(content, list):
        return [_part_text(part, f"{path}.content[{i}]") for i, part in enumerate(content)]
    if content is None and isinstance(message.get("refusal"), str):
        return [message["refusal"]]
    if content is None and role == "assistant" and "content" in message:
        return [] if has_calls else [""]
    if content is None and has_calls:
        return []
    raise InvalidArgument(
        f"{path}.content", "must be text or a list of parts", "Send an empty string if there is none."
    )


def _part_text(part: object, path: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise InvalidArgument(path, f"must be an object with a type; got {type(part).__name__}")
    if part.get("type") in _TEXT_PART_TYPES:
        text = part.get("text", part.get("refusal"))
        if isinstance(text, str):
            return text
    return compact_json(part)


def _calls(message: dict[str, Any], said_at: str | None, path: str) -> Iterator[NewTurn]:
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InvalidArgument(f"{path}.tool_calls", "must be a list of calls")
    if isinstance(message.get("function_call"), dict):
        calls = [*calls, {"function": message["function_call"]}]
    for i, call in enumerate(calls):
        function = call.get("function", call.get("custom")) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidArgument(f"{path}.tool_calls[{i}]", "must be an object with a function and its name")
        arguments = text_or_json(function.get("arguments", function.get("input", "")))
        call_id = call.get("id")
        yield NewTurn("assistant", arguments, function["name"], said_at, call_id if isinstance(call_id, str) else None)


def _text_field(message: dict[str, Any], field: str, path: str) -> str | None:
    value = message.get(field)
    if value is None or isinstance(value, str):
        return value or None
    raise InvalidArgument(f"{path}.{field}", f"must be text; got {type(value).__name__}")
