"""Anthropic's messages: blocks, results in the user's messages; bodies, lists and lines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.anthropic import looks_like, parse
from ctxmem_mcp.transcripts.base import HEAD_CHARS
from tests.transcripts.damage import assert_results_have_calls, contents, mutated

NAME = "request.json"
CALL = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a.py", "n": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "x = 1\n"}]}
MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "  Fix it\n"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Where?", "signature": "x"},
            {"type": "redacted_thinking", "data": "EqQ"},
            {"type": "text", "text": "Reading."},
            CALL,
        ],
    },
    {"role": "user", "content": [RESULT, {"type": "text", "text": "<system-reminder>Be brief</system-reminder>"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "Fixed."}]},
]
BODY = {"model": "claude", "system": [{"type": "text", "text": "You fix."}], "messages": MESSAGES}
TURNS = (
    NewTurn("user", "  Fix it\n"),
    NewTurn("assistant", "Where?", "thinking"),
    NewTurn("assistant", "Reading."),
    NewTurn("assistant", '{"path":"a.py","n":1}', "Read", None, "toolu_1"),
    NewTurn("tool", "x = 1\n", "Read", None, "toolu_1"),
    NewTurn("system", "<system-reminder>Be brief</system-reminder>", "injected"),
    NewTurn("assistant", "Fixed."),
)


def test_a_request_is_parsed_turn_by_turn_its_system_first() -> None:
    transcript = parse(json.dumps(BODY), NAME)
    assert (transcript.agent, transcript.session_id, transcript.warnings) == ("anthropic", "", ())
    assert transcript.turns == (NewTurn("system", "You fix."), *TURNS)
    assert_results_have_calls(transcript)


def test_a_list_lines_and_a_single_response_give_the_same_turns() -> None:
    assert parse(json.dumps(MESSAGES), NAME).turns == TURNS
    assert parse("\n".join(map(json.dumps, MESSAGES)), "messages.jsonl").turns == TURNS
    assert parse(json.dumps({"type": "message", **MESSAGES[3]}), NAME).turns == TURNS[-1:]


@pytest.mark.parametrize(
    ("body", "agent"),
    [
        (BODY, "anthropic"),
        (MESSAGES, "anthropic"),
        ({"messages": [{"role": "user", "content": "hi"}], "system": "You fix."}, "anthropic"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "openai"),
        ([{"role": "user", "content": [{"type": "text", "text": "thinking of tool_use"}]}], "openai"),
    ],
)
def test_anthropics_and_openais_bodies_are_distinguished(body: Any, agent: str) -> None:
    text = json.dumps(body, indent=1)
    found = registry.detect_format(NAME, text)
    assert found is not None
    assert found.parse(text, NAME).agent == agent


def test_a_long_file_is_recognised_by_its_head() -> None:
    long = [*MESSAGES, {"role": "user", "content": "x" * 300_000}]
    assert looks_like(NAME, json.dumps(long)[:HEAD_CHARS])


def test_a_message_repeated_under_its_id_counts_once() -> None:
    reply = {"id": "msg_1", "role": "assistant", "content": [{"type": "text", "text": "yes"}]}
    anonymous = {"role": "assistant", "content": "yes"}
    assert len(parse(json.dumps([reply, reply]), NAME).turns) == 1
    assert len(parse(json.dumps([anonymous, anonymous]), NAME).turns) == 2


def test_images_are_json_and_an_empty_result_is_kept() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    messages = [
        {"role": "user", "content": [image]},
        {"role": "assistant", "content": [CALL]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1"}]},
    ]
    transcript = parse(json.dumps(messages), NAME)
    assert [turn.content for turn in transcript.turns] == [
        json.dumps(image, separators=(",", ":")),
        '{"path":"a.py","n":1}',
        "",
    ]


def test_a_recap_is_named_and_a_broken_message_and_a_surrogate_give_warnings() -> None:
    recap = "This session is being continued from a previous conversation that ran out of context."
    broken = {"role": "user", "content": "\ud800!", "timestamp": "2026-01-31T09:30:00Z"}
    transcript = parse(json.dumps([{"role": "user", "content": recap}, "not an object", broken]), NAME)
    assert transcript.turns == (
        NewTurn("system", recap, "recap"),
        NewTurn("user", "�!", said_at="2026-01-31T09:30:00Z"),
    )
    assert [warning.split(":")[0] for warning in transcript.warnings] == ["message 2", "line 3"]


FILE = json.dumps(BODY)


@given(st.integers(0, len(FILE)), st.sampled_from(("", "\0", "}]", "nul", '"')))
def test_everything_before_a_cut_is_kept(cut: int, garbage: str) -> None:
    whole = FILE[:cut].count('"role"') - 1
    lost = contents(parse(json.dumps(MESSAGES[: max(whole, 0)]), NAME)) - contents(parse(FILE[:cut] + garbage, NAME))
    assert not lost


@given(st.data())
def test_no_malformed_field_raises(data: st.DataObject) -> None:
    text = json.dumps(data.draw(mutated(BODY)))
    looks_like(NAME, text)
    parse(text, NAME)
