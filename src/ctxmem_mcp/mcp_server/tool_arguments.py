"""What the tools take: one closed model per tool, and what is wrong with a call, in words.

Models are built when they are first used, not when they are imported. An explicit null is the same as leaving an
optional argument out; an argument that is not declared is refused by name, never ignored.
"""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import RETENTION_DAYS_MAX, RETENTION_DAYS_MIN, Role

CONVERSATION_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"
CONVERSATION_ID_RULE = "takes 1 to 128 letters, digits and . _ : @ -, beginning with a letter or digit"
VIEW_TOKENS_MIN, VIEW_TOKENS_MAX = 500, 200_000
QUERY_CHARS_MAX = 20_000
HITS_MAX, LISTED_MAX = 100, 100
TITLE_CHARS_MAX, SUMMARY_CHARS_MAX, NOTE_CHARS_MAX = 120, 4_000, 4_000
# Of a refused value, what is quoted back; of several faults, what is told at once.
QUOTED_CHARS, FAULTS_TOLD = 60, 5


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a truth value is no number")
    return value


def _no_string(value: object) -> object:
    """Some hosts send a list as a string of JSON."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


_NO_TRUTH = BeforeValidator(_no_truth)
_NAME: dict[str, Any] = {"type": "string"}
_MESSAGE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "role": {"type": "string"},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}, {"type": "null"}]},
        "name": _NAME,
        "said_at": _NAME,
        "call_id": _NAME,
        "tool_calls": {"type": "array", "items": {"type": "object"}},
        "tool_call_id": _NAME,
    },
    "required": ["role"],
}

# The validator stands last: before the bounds, it would hide them from the schema.
KnownId = Annotated[str, Field(pattern=CONVERSATION_ID_PATTERN), WithJsonSchema(_NAME)]
NewId = Annotated[str, Field(pattern=CONVERSATION_ID_PATTERN)]
Id = Annotated[str, Field(min_length=1, max_length=64)]
Query = Annotated[str, Field(max_length=QUERY_CHARS_MAX)]
Days = Annotated[int, Field(ge=RETENTION_DAYS_MIN, le=RETENTION_DAYS_MAX), _NO_TRUTH]
ViewTokens = Annotated[int, Field(ge=VIEW_TOKENS_MIN, le=VIEW_TOKENS_MAX), _NO_TRUTH]
PageTokens = Annotated[int, Field(ge=1, le=VIEW_TOKENS_MAX), _NO_TRUTH]
Messages = Annotated[
    list[dict[str, Any]],
    BeforeValidator(_no_string),
    Field(min_length=1),
    WithJsonSchema({"type": "array", "items": _MESSAGE}),
]


class Arguments(BaseModel):
    """Closed: what is not declared is refused."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class AppendTurn(Arguments):
    conversation_id: NewId | None = Field(None, description="Leave out to begin a new conversation.")
    role: Role
    content: str = Field(description="The turn, verbatim and whole.")
    name: str | None = Field(None, description="Who spoke, or the tool's name.")
    said_at: str | None = Field(None, description="ISO 8601.")
    call_id: str | None = Field(None, description="Pairs a tool call with its result.")
    parent_id: Id | None = Field(None, description="The turn it follows; default: the head. Makes a retry safe.")
    retention_days: Days | None = Field(None, description="Days kept after the last append; 30 unless set.")


class SyncTranscript(Arguments):
    messages: Messages = Field(description="OpenAI-style messages, or objects with append_turn's fields; in order.")
    conversation_id: NewId | None = Field(None, description="Leave out to find it by its messages.")
    after: Id | None = Field(None, description="The turn they follow; default: they start the conversation.")
    retention_days: Days | None = None


class GetContext(Arguments):
    conversation_id: KnownId
    query: Query | None = Field(None, description="What you need to know, in plain words or exact names.")
    token_budget: ViewTokens = 8_000
    turn_id: Id | None = Field(None, description="The view as of that turn.")
    layout: Literal["tree", "stable"] = Field(
        "tree", description="stable: same beginning each time, for prompt caches."
    )


class ExpandNode(Arguments):
    conversation_id: KnownId
    node_id: Id = Field(description="A node n40-55-213, a turn t41-837 or a span t42-t47.")
    token_budget: PageTokens = 4_000
    cursor: str | None = Field(None, description="next_cursor of the page before.")


class SearchTurns(Arguments):
    query: Annotated[Query, Field(min_length=1)]
    conversation_id: KnownId | None = Field(None, description="Default: all conversations.")
    limit: Annotated[int, Field(ge=1, le=HITS_MAX), _NO_TRUTH] = 10
    role: Role | None = None
    since: str | None = Field(None, description="ISO 8601.")
    until: str | None = Field(None, description="ISO 8601.")


class RevertTo(Arguments):
    conversation_id: KnownId
    turn_id: Id


class ForgetConversation(Arguments):
    conversation_id: KnownId
    confirm: str = Field(description="The same conversation_id again.")


class ListConversations(Arguments):
    space: str | None = None
    limit: Annotated[int, Field(ge=1, le=LISTED_MAX), _NO_TRUTH] = 20
    cursor: str | None = Field(None, description="next_cursor of the page before.")


class WriteSummary(Arguments):
    conversation_id: KnownId
    node_id: Id = Field(description="A closed node, n40-55-213.")
    title: Annotated[str, Field(min_length=1, max_length=TITLE_CHARS_MAX)]
    summary: Annotated[str, Field(min_length=1, max_length=SUMMARY_CHARS_MAX)] = Field(
        description="What happened, a line per point."
    )


class HandOff(Arguments):
    conversation_id: KnownId
    token_budget: ViewTokens = 4_000
    note: Annotated[str, Field(max_length=NOTE_CHARS_MAX)] | None = Field(None, description="Your own word to it.")


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema as a model reads it: no titles, and an optional argument is simply not required."""
    schema: dict[str, Any] = model.model_json_schema()
    schema.pop("title", None)
    schema.pop("description", None)
    schema["properties"] = {name: _short(part) for name, part in schema["properties"].items()}
    return schema


def _short(part: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in part.items() if key not in ("title", "anyOf")}
    if kept.get("default", ...) is None:
        del kept["default"]
    for choice in part.get("anyOf", ()):
        if choice != {"type": "null"}:
            kept = {**{k: v for k, v in choice.items() if k != "title"}, **kept}
    return kept


def refusals(error: ValidationError, tool: str, schema: dict[str, Any]) -> str:
    """What is wrong with a call: per fault the argument, the rule and the remedy."""
    faults = error.errors(include_url=False)
    told = [str(_refusal(fault, tool, schema)) for fault in faults[:FAULTS_TOLD]]
    more = len(faults) - len(told)
    return "\n".join([*told, f"... and {more} more."] if more else told)


def _refusal(fault: Any, tool: str, schema: dict[str, Any]) -> InvalidArgument:
    where = _path(fault["loc"])
    argument = str(fault["loc"][0]) if fault["loc"] else "arguments"
    known: dict[str, Any] = schema["properties"]
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(argument, known, 1)
        meant = f"Did you mean {near[0]}? " if near else ""
        return InvalidArgument(where, f"is no argument of {tool}", f"{meant}It takes {', '.join(known)}.")
    part = known.get(argument, {})
    rule = _rule(part) if len(fault["loc"]) == 1 else "takes an object with role and content"
    if argument == "conversation_id":
        rule = CONVERSATION_ID_RULE
    if fault["type"] == "missing":
        return InvalidArgument(where, f"is required by {tool}; it {rule}")
    remedy = "" if argument in schema.get("required", ()) else f"Leave it out for {part.get('default', 'none')}."
    return InvalidArgument(where, f"{rule}; got {_quoted(fault['input'])}", remedy)


def _path(loc: tuple[int | str, ...]) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
    return path.lstrip(".") or "arguments"


def _rule(part: dict[str, Any]) -> str:
    if "enum" in part:
        return f"takes one of {', '.join(part['enum'])}"
    if part.get("type") == "integer":
        return f"takes a whole number from {part['minimum']} to {part['maximum']}"
    if part.get("type") == "array":
        return "takes a list of at least one message"
    least = "at least one character of " if part.get("minLength") else ""
    return f"takes {least}text" + (f", up to {part['maxLength']} characters" if "maxLength" in part else "")


def _quoted(value: object) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > QUOTED_CHARS:
        return f"{text[:QUOTED_CHARS]}... ({len(text)} characters)"
    return text
