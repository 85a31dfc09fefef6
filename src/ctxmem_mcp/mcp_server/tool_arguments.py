"""The arguments of the tools: a closed model per tool, and errors about a call in plain words.

Models are built when they are first used, not when they are imported. Some clients send every declared argument: null
is the same as leaving the argument out, and so is empty text if it is optional. An undeclared argument is refused by
name, never ignored.
"""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import RETENTION_DAYS_MAX, RETENTION_DAYS_MIN, Role

CONVERSATION_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"
CONVERSATION_ID_RULE = "must be 1 to 128 letters, digits and . _ : @ -, starting with a letter or digit"
VIEW_TOKENS_MIN, VIEW_TOKENS_MAX = 500, 200_000
QUERY_CHARS_MAX = 20_000
HITS_MAX, LISTED_MAX = 100, 100
TITLE_CHARS_MAX, SUMMARY_CHARS_MAX, NOTE_CHARS_MAX = 120, 4_000, 4_000
# How much of a refused value an error quotes, and how many errors of one call are reported.
QUOTED_CHARS, ERRORS_SHOWN = 60, 5


def _reject_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    return value


def _parse_json_list(value: object) -> object:
    """Some hosts send a list as a JSON string."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


_NOT_BOOL = BeforeValidator(_reject_bool)
_STRING: dict[str, Any] = {"type": "string"}
_MESSAGE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "role": {"type": "string"},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}, {"type": "null"}]},
        "name": _STRING,
        "said_at": _STRING,
        "call_id": _STRING,
        "tool_calls": {"type": "array", "items": {"type": "object"}},
        "tool_call_id": _STRING,
    },
    "required": ["role"],
}

# The validator is last: before the bounds, it would hide them from the schema.
ConversationId = Annotated[str, Field(pattern=CONVERSATION_ID_PATTERN), WithJsonSchema(_STRING)]
NewConversationId = Annotated[str, Field(pattern=CONVERSATION_ID_PATTERN)]
TurnOrNodeId = Annotated[str, Field(min_length=1, max_length=64)]
Project = Annotated[str, Field(min_length=1, max_length=4_096), WithJsonSchema(_STRING)]
# With a bound, a text that is not valid Unicode is refused here and not by SQLite.
Space = Annotated[str, Field(max_length=4_096), WithJsonSchema(_STRING)]
Query = Annotated[str, Field(max_length=QUERY_CHARS_MAX)]
Days = Annotated[int, Field(ge=RETENTION_DAYS_MIN, le=RETENTION_DAYS_MAX), _NOT_BOOL]
ViewTokens = Annotated[int, Field(ge=VIEW_TOKENS_MIN, le=VIEW_TOKENS_MAX), _NOT_BOOL]
PageTokens = Annotated[int, Field(ge=1, le=VIEW_TOKENS_MAX), _NOT_BOOL]
Messages = Annotated[
    list[dict[str, Any]],
    BeforeValidator(_parse_json_list),
    Field(min_length=1),
    WithJsonSchema({"type": "array", "items": _MESSAGE}),
]
_CURSOR = "next_cursor of the previous page."


class ToolArguments(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_absent(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if not cls._is_absent(name, value)}

    @classmethod
    def _is_absent(cls, name: str, value: object) -> bool:
        declared = cls.model_fields.get(name)
        if declared is None:
            return False
        return value is None or (value == "" and not declared.is_required())


class AppendTurnArguments(ToolArguments):
    conversation_id: NewConversationId | None = Field(None, description="Leave out to start a new conversation.")
    role: Role
    content: str = Field(description="The turn, verbatim and complete.")
    name: str | None = Field(None, description="The speaker's or the tool's name.")
    said_at: str | None = Field(None, description="ISO 8601.")
    call_id: str | None = Field(None, description="Pairs a tool call with its result.")
    parent_id: TurnOrNodeId | None = Field(
        None, description="The turn it follows; default: the head. Makes retries safe."
    )
    retention_days: Days | None = Field(None, description="Days kept after the last append; 30 unless set.")


class SyncTranscriptArguments(ToolArguments):
    messages: Messages = Field(description="OpenAI-style messages, or objects with append_turn's fields, in order.")
    conversation_id: NewConversationId | None = Field(None, description="Leave out to find it by its messages.")
    after: TurnOrNodeId | None = Field(None, description="The turn they follow; default: they start the conversation.")
    retention_days: Days | None = None


class GetContextArguments(ToolArguments):
    conversation_id: ConversationId | None = Field(None, description="Default: all of the project.")
    project: Project | None = Field(None, description="A folder or space; default: this folder.")
    query: Query | None = Field(None, description="What you need to know, in plain words or exact names.")
    token_budget: ViewTokens = 8_000
    turn_id: TurnOrNodeId | None = Field(None, description="The view as of this turn.")
    layout: Literal["tree", "stable"] = Field(
        "tree", description="stable: same beginning each time, for prompt caches."
    )


class ExpandNodeArguments(ToolArguments):
    conversation_id: ConversationId
    node_id: TurnOrNodeId = Field(description="A node n40-55-213, a turn t41-837 or a span t42-t47.")
    token_budget: PageTokens = 4_000
    cursor: str | None = Field(None, description=_CURSOR)


class SearchTurnsArguments(ToolArguments):
    query: Annotated[Query, Field(min_length=1)] | None = None
    path: str | None = Field(None, description="Instead: a file, for its edits and the talk before each.")
    conversation_id: ConversationId | None = Field(None, description="Default: all.")
    project: Project | None = None
    limit: Annotated[int, Field(ge=1, le=HITS_MAX), _NOT_BOOL] = 10
    role: Role | None = None
    since: str | None = Field(None, description="ISO 8601.")
    until: str | None = Field(None, description="ISO 8601.")


class RevertToArguments(ToolArguments):
    conversation_id: ConversationId
    turn_id: TurnOrNodeId


class ForgetConversationArguments(ToolArguments):
    conversation_id: ConversationId
    confirm: str = Field(description="The same conversation_id again.")
    turn_id: TurnOrNodeId | None = Field(None, description="Only the branch it is on; shared turns stay.")


class ListConversationsArguments(ToolArguments):
    space: Space | None = None
    project: Project | None = None
    limit: Annotated[int, Field(ge=1, le=LISTED_MAX), _NOT_BOOL] = 20
    cursor: str | None = Field(None, description=_CURSOR)


class WriteSummaryArguments(ToolArguments):
    conversation_id: ConversationId
    node_id: TurnOrNodeId = Field(description="A closed node, n40-55-213.")
    title: Annotated[str, Field(min_length=1, max_length=TITLE_CHARS_MAX)]
    summary: Annotated[str, Field(min_length=1, max_length=SUMMARY_CHARS_MAX)] = Field(
        description="What happened, one point per line."
    )


class HandOffArguments(ToolArguments):
    conversation_id: ConversationId | None = None
    project: Project | None = None
    token_budget: ViewTokens = 4_000
    note: Annotated[str, Field(max_length=NOTE_CHARS_MAX)] | None = Field(
        None, description="Your own note to the next run."
    )


def input_schema(model: type[ToolArguments]) -> dict[str, Any]:
    """The model's JSON schema without titles and nulls, which cost tokens: optional arguments are just not required."""
    schema: dict[str, Any] = model.model_json_schema()
    schema.pop("title", None)
    schema.pop("description", None)
    schema["properties"] = {name: _shortened(part) for name, part in schema["properties"].items()}
    return schema


def _shortened(part: dict[str, Any]) -> dict[str, Any]:
    short = {key: value for key, value in part.items() if key not in ("title", "anyOf")}
    if short.get("default", ...) is None:
        del short["default"]
    for choice in part.get("anyOf", ()):
        if choice != {"type": "null"}:
            short = {**{k: v for k, v in choice.items() if k != "title"}, **short}
    return short


# ---------------------------------------------------------------- errors


def describe_errors(error: ValidationError, tool: str, schema: dict[str, Any]) -> str:
    """What is wrong with a call, a line per error: the argument, the rule and the remedy.

    Args:
        schema: the tool's `input_schema`.
    """
    errors = error.errors(include_url=False)
    lines = [str(_describe_error(one, tool, schema)) for one in errors[:ERRORS_SHOWN]]
    more = len(errors) - len(lines)
    return "\n".join([*lines, f"... and {more} more."] if more else lines)


def _describe_error(error: Any, tool: str, schema: dict[str, Any]) -> InvalidArgument:
    where = _path(error["loc"])
    argument = str(error["loc"][0]) if error["loc"] else "arguments"
    known: dict[str, Any] = schema["properties"]
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(argument, known, 1)
        suggestion = f"Did you mean {near[0]}? " if near else ""
        return InvalidArgument(where, f"is not an argument of {tool}", f"{suggestion}It takes {', '.join(known)}.")
    part = known.get(argument, {})
    rule = _rule(part) if len(error["loc"]) == 1 else "must be an object with role and content"
    if argument == "conversation_id":
        rule = CONVERSATION_ID_RULE
    if error["type"] == "missing":
        return InvalidArgument(where, f"is required by {tool}; it {rule}")
    return InvalidArgument(where, f"{rule}; got {_quoted(error['input'])}", _remedy(argument, schema))


def _remedy(argument: str, schema: dict[str, Any]) -> str:
    if argument in schema.get("required", ()):
        return ""
    default = schema["properties"].get(argument, {}).get("default")
    return "Leave it out if not needed." if default is None else f"Leave it out for {default}."


def _path(loc: tuple[int | str, ...]) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
    return path.lstrip(".") or "arguments"


def _rule(part: dict[str, Any]) -> str:
    if "enum" in part:
        return f"must be one of {', '.join(part['enum'])}"
    if part.get("type") == "integer":
        return f"must be a whole number from {part['minimum']} to {part['maximum']}"
    if part.get("type") == "array":
        return "must be a list of at least one message"
    least = " of at least one character" if part.get("minLength") else ""
    return f"must be text{least}" + (f", up to {part['maxLength']} characters" if "maxLength" in part else "")


def _quoted(value: object) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > QUOTED_CHARS:
        return f"{text[:QUOTED_CHARS]}... ({len(text)} characters)"
    return text
