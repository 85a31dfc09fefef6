"""Declares the parts of a format's messages as data, and makes turns of them.

    PARTS = PartTypes(
        text={"text": "text"},
        thinking={"reasoning": "text"},
        calls={"toolRequest": Call("toolCall.value.name", "toolCall.value.arguments")},
        results={"toolResponse": Result("toolResult.value")},
        ignored=("step-start",),
    )
    turns = PARTS.turns("assistant", message["content"], said_at)

A field is the path of keys to a value, joined by dots. `Call` and `Result` say where a call has its name, arguments and
id, and a result its content. A part of any other type becomes its JSON, so that no word is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ctxmem_mcp.models import THINKING, NewTurn, Role
from ctxmem_mcp.transcripts.base import compact_json, text_or_json
from ctxmem_mcp.transcripts.content_blocks import result_texts
from ctxmem_mcp.transcripts.json_lines import Row, text_or_none
from ctxmem_mcp.transcripts.message_tree import UNKNOWN_ID


def value_at(row: object, path: str) -> object:
    """Returns the value at a path of keys such as `message.content`; None if it is not there."""
    for key in path.split("."):
        row = row.get(key) if isinstance(row, dict) else None
    return row


def text_at(row: object, path: str) -> str | None:
    """Returns the non-empty text at a path of keys, or None. An integer counts as text: some ids are numbers."""
    value = value_at(row, path)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text_or_none(value)


@dataclass(frozen=True, slots=True)
class Call:
    """The fields of a tool call. Without an id its result is found by its name."""

    name: str = "name"
    arguments: str = "input"
    id: str = "id"


@dataclass(frozen=True, slots=True)
class Result:
    """The fields of a result. content: the first of several paths, separated by spaces, that has a value."""

    content: str = "content"
    id: str = "id"
    name: str = ""


@dataclass(frozen=True, slots=True)
class PartTypes:
    """What the parts of a format's messages are.

    Attributes:
        text: by a part's type, the field of its text.
        thinking: by a part's type, the field of the model's thoughts.
        calls: by a part's type, a call's fields. A type may be in calls and results, if one part holds both.
        results: by a part's type, a result's fields.
        ignored: types that carry no words of anybody.
        type_field: where a part says what it is; empty: nowhere. A part that doesn't say so is of the first type that
            is one of its keys.
    """

    text: Mapping[str, str] = field(default_factory=lambda: {"text": "text"})
    thinking: Mapping[str, str] = field(default_factory=dict)
    calls: Mapping[str, Call] = field(default_factory=dict)
    results: Mapping[str, Result] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    type_field: str = "type"

    def turns(self, role: Role, content: object, said_at: str | None = None, name: str | None = None) -> list[NewTurn]:
        """Returns the turns of a message.

        Args:
            role: the author of its text.
            content: a text, a part or a list of them.
            said_at: its time in ISO 8601.
            name: the name of its text's author.
        """
        parts = content if isinstance(content, list) else [] if content is None else [content]
        return [turn for part in parts for turn in self._turns(role, part, said_at, name)]

    def _turns(self, role: Role, part: object, said_at: str | None, name: str | None) -> Iterator[NewTurn]:
        if not isinstance(part, dict):
            if part not in ("", None):
                yield NewTurn(role, text_or_json(part), name, said_at)
            return
        kind = self._type_of(part)
        if kind in self.text:
            if text := text_or_none(value_at(part, self.text[kind])):
                yield NewTurn(role, text, name, said_at)
        elif kind in self.thinking:
            if text := text_or_none(value_at(part, self.thinking[kind])):
                yield NewTurn("assistant", text, THINKING, said_at)
        elif kind in self.calls or kind in self.results:
            yield from self._call_and_result(kind, part, said_at)
        elif kind not in self.ignored:
            yield NewTurn(role, compact_json(part), name, said_at)

    def _call_and_result(self, kind: str, part: Row, said_at: str | None) -> Iterator[NewTurn]:
        call, result = self.calls.get(kind), self.results.get(kind)
        if call is not None:
            arguments = value_at(part, call.arguments)
            yield NewTurn(
                "assistant", "" if arguments is None else text_or_json(arguments), text_at(part, call.name), said_at,
                text_at(part, call.id) or UNKNOWN_ID,
            )  # fmt: skip
        if result is not None:
            found = next((v for path in result.content.split() if (v := value_at(part, path)) is not None), None)
            if found is None and call is not None:
                return  # a call that is not answered yet
            tool = text_at(part, result.name) if result.name else None
            for text in result_texts(found):
                yield NewTurn("tool", text, tool, said_at, text_at(part, result.id) or UNKNOWN_ID)

    def _type_of(self, part: Row) -> str:
        kind = text_or_none(part.get(self.type_field)) if self.type_field else None
        if kind is not None:
            return kind
        known = (*self.calls, *self.results, *self.thinking, *self.text, *self.ignored)
        return next((key for key in known if part.get(key) not in (None, False)), "")


ANTHROPIC_PARTS = PartTypes(
    thinking={"thinking": "thinking"},
    calls={"tool_use": Call(), "server_tool_use": Call()},
    results={"tool_result": Result(id="tool_use_id")},
    ignored=("redacted_thinking",),
)
