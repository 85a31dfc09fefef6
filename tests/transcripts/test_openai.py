"""OpenAI's messages from callers and files, JSON Lines of turns, and files in no known format."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import jsonl, openai, registry
from ctxmem_mcp.transcripts.openai import turns_from_messages


def test_calls_follow_their_text_with_arguments_as_the_string_received() -> None:
    function = {"name": "read", "arguments": '{ "path":"a.py" }'}
    found = turns_from_messages(
        [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "u"}}],
            },
            {"role": "assistant", "content": "Reading.", "tool_calls": [{"id": "k1", "function": function}]},
            {"role": "tool", "tool_call_id": "k1", "content": "x = 1"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "k2", "function": function}]},
            {"role": "function", "name": "read", "content": "y = 2"},
            {"role": "assistant", "content": None, "refusal": "I can't."},
        ]
    )
    assert found == [
        NewTurn("system", "Be brief."),
        NewTurn("user", "Look"),
        NewTurn("user", '{"type":"image_url","image_url":{"url":"u"}}'),
        NewTurn("assistant", "Reading."),
        NewTurn("assistant", '{ "path":"a.py" }', "read", None, "k1"),
        NewTurn("tool", "x = 1", None, None, "k1"),
        NewTurn("assistant", '{ "path":"a.py" }', "read", None, "k2"),
        NewTurn("tool", "y = 2", "read"),
        NewTurn("assistant", "I can't."),
    ]


def test_the_fields_of_a_turn_are_taken_as_they_are() -> None:
    given = {"role": "tool", "content": "out", "name": "Bash", "said_at": "2026-01-01T00:00:00Z", "call_id": "c"}
    assert turns_from_messages([given]) == [NewTurn("tool", "out", "Bash", "2026-01-01T00:00:00Z", "c")]


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("hello", "messages[1]:"),
        ({"content": "x"}, "messages[1].role"),
        ({"role": "robot", "content": "x"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": 5}, "messages[1].content"),
        ({"role": "user", "content": [5]}, "messages[1].content[0]"),
        ({"role": "user", "content": "x", "name": 5}, "messages[1].name"),
        ({"role": "assistant", "content": "x", "tool_calls": "y"}, "messages[1].tool_calls"),
        ({"role": "assistant", "content": "x", "tool_calls": [{}]}, "messages[1].tool_calls[0]"),
    ],
)
def test_an_invalid_message_raises_an_error_that_names_the_field(message: Any, named: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        turns_from_messages([{"role": "user", "content": "ok"}, message])
    assert named in str(refused.value)


def test_a_file_is_a_list_or_a_requests_body() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    for body in (messages, {"model": "m", "messages": messages}):
        found = registry.parse(json.dumps(body), "chat.json")
        assert (found.agent, [turn.content for turn in found.turns]) == ("openai", ["hi", "hello"])


def test_an_invalid_message_in_a_file_is_skipped_with_a_warning() -> None:
    found = openai.parse(json.dumps([{"role": "user", "content": "hi"}, {"role": "?"}]), "chat.json")
    assert [turn.content for turn in found.turns] == ["hi"]
    assert "messages[1].role" in found.warnings[0]


def test_a_broken_line_loses_no_other_line() -> None:
    text = '{"role":"user","content":"hi"}\nnonsense\n\n{"role":"tool","content":"half \\ud800"}\n{"role":"user"}\n'
    assert jsonl.looks_like("turns.jsonl", '{"role":"user","content":"hi"}\n')
    found = jsonl.parse(text, "turns.jsonl")
    assert [turn.content for turn in found.turns] == ["hi", "half \ufffd"]
    assert [warning.split(":")[0] for warning in found.warnings] == ["line 2", "line 5", "line 4"]


def test_a_file_in_no_known_format_is_refused_with_a_format_that_always_works() -> None:
    with pytest.raises(InvalidArgument, match="JSON Lines of turns always work"):
        registry.parse("just text", "log.txt")


def test_reasoning_is_a_thought_before_the_words() -> None:
    for field in ("reasoning_content", "reasoning"):
        messages = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4", field: "Two and two."}]
        for text, name in ((json.dumps(messages), "a.json"), ("\n".join(map(json.dumps, messages)), "a.jsonl")):
            assert [(turn.role, turn.name, turn.content) for turn in registry.parse(text, name).turns] == [
                ("user", None, "2+2?"),
                ("assistant", "thinking", "Two and two."),
                ("assistant", None, "4"),
            ]


@pytest.mark.parametrize("field", ["timestamp", "created_at", "created", "ts"])
@pytest.mark.parametrize("value", ["2026-06-13T10:00:01Z", 1781344801, 1781344801000, 1781344801.0])
def test_a_message_s_time_is_read_whatever_its_field_and_unit(field: str, value: object) -> None:
    messages = [{"role": "user", "content": "When?", field: value}]
    anthropic = {"system": "s", "messages": messages}
    texts = ((messages, "a.json"), (messages[0], "a.jsonl"), (anthropic, "b.json"))
    for body, name in texts:
        said_at = registry.parse(json.dumps(body), name).turns[-1].said_at
        assert said_at is not None
        assert datetime.fromisoformat(said_at) == datetime(2026, 6, 13, 10, 0, 1, tzinfo=UTC)
    assert (
        registry.parse(json.dumps([{"role": "user", "content": "a", field: "soon"}]), "a.json").turns[0].said_at is None
    )


@pytest.mark.parametrize("role", [[], {}, 5, None])
def test_a_role_that_is_no_text_costs_only_its_message(role: object) -> None:
    rows = json.dumps([{"role": role, "content": "lost"}, {"role": "user", "content": "Hi"}])
    assert [turn.content for turn in openai.parse(rows, "chat.json").turns] == ["Hi"]
