"""Cursor's transcripts, as JSON Lines and as text: the user's queries, what Cursor adds, and the agent's turns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.cursor import text_transcript
from ctxmem_mcp.transcripts.cursor.parser import looks_like, parse
from tests.transcripts.damage import DamagedText, assert_intact_lines_survive, brief, damaged_lines, mutated_lines

NAME = "5d1f7b3e-9a2c.jsonl"


def row(role: str, *parts: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": role, "message": {"content": content}}


def use(name: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "name": name, "input": given}


def file(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in rows)


ASKED = "<timestamp>Sunday, Sep 20, 2026, 12:31 AM (UTC+3)</timestamp>\n<user_query>\nName the port.\n</user_query>"
OPEN = "<open_and_recently_viewed_files>\nrelay.toml\n</open_and_recently_viewed_files>"
SESSION = file(
    row("user", OPEN, ASKED),
    row("assistant", "Looking.\n\n[REDACTED]", use("Shell", command="cat relay.toml")),
    row("assistant", "It is 7412."),
    {"type": "turn_ended", "status": "success"},
    row("user", "<user_query>\nthanks\n</user_query>"),
)


def turns_in(text: str) -> list[tuple[str, str | None, str]]:
    return brief(parse(text, NAME))


def test_a_session_is_parsed_turn_by_turn() -> None:
    transcript = parse(SESSION, NAME)
    assert (transcript.agent, transcript.session_id, transcript.warnings) == ("cursor", "5d1f7b3e-9a2c", ())
    assert transcript.turns == (
        NewTurn("system", OPEN, "injected"),
        NewTurn("user", "Name the port.", None, "2026-09-20T00:31:00+03:00"),
        NewTurn("assistant", "Looking.\n\n[REDACTED]"),
        NewTurn("assistant", '{"command":"cat relay.toml"}', "Shell"),
        NewTurn("assistant", "It is 7412."),
        NewTurn("user", "thanks"),
    )


def test_it_recognises_its_own_files_and_no_others() -> None:
    for text in (SESSION, '{"type":"turn_ended","status":"success"}\n'):
        found = registry.detect_format(NAME, text)
        assert found is not None
        assert found.parse(text, NAME).agent == "cursor"
    assert not looks_like(NAME, '{"role":"user","content":"hi"}\n')
    assert not looks_like(NAME, '{"type":"user","sessionId":"5","message":{"role":"user","content":"hi"}}\n')
    assert not looks_like("x.json", SESSION)


@pytest.mark.parametrize(
    ("written", "timestamp"),
    [
        ("Sunday, Sep 20, 2026, 12:31 AM (UTC+3)", "2026-09-20T00:31:00+03:00"),
        ("Friday, May 1, 2026, 12:05 PM (UTC-5)", "2026-05-01T12:05:00-05:00"),
        ("Monday, Feb 2, 2026, 11:59 PM (UTC+5:30)", "2026-02-02T23:59:00+05:30"),
        ("Monday, February 2, 2026, 1:00 PM (UTC)", "2026-02-02T13:00:00+00:00"),
    ],
)
def test_a_written_out_time_is_the_turns_time(written: str, timestamp: str) -> None:
    text = file(row("user", f"<timestamp>{written}</timestamp>\n<user_query>\nhi\n</user_query>"))
    assert parse(text, NAME).turns == (NewTurn("user", "hi", None, timestamp),)


@pytest.mark.parametrize(
    "written", ["now", "Monday, Feb 31, 2026, 1:00 PM (UTC)", "Monday, Foo 1, 2026, 1:00 PM (UTC)"]
)
def test_a_time_that_cannot_be_parsed_is_kept_unchanged(written: str) -> None:
    text = file(row("user", f"<timestamp>{written}</timestamp>\n<user_query>hi</user_query>"))
    assert turns_in(text) == [("system", "injected", f"<timestamp>{written}</timestamp>"), ("user", None, "hi")]


def test_words_without_tags_are_the_users_and_a_host_element_is_not() -> None:
    text = file(row("user", "Find the port."), row("user", "<system_reminder>Be brief.</system_reminder>"))
    assert turns_in(text) == [
        ("user", None, "Find the port."),
        ("system", "injected", "<system_reminder>Be brief.</system_reminder>"),
    ]


def test_results_and_rows_of_other_shapes_are_parsed() -> None:
    call = {"type": "tool_use", "id": "c-1", "name": "Read", "input": {"path": "a"}}
    result = {"type": "tool_result", "tool_use_id": "c-1", "content": "port = 7412"}
    text = file(
        row("assistant", call),
        row("user", result),
        {"type": "user", "text": "hm"},
        {"role": "assistant", "message": {"content": "as a string"}},
        {"type": "notice", "text": "Cursor was updated"},
    )
    assert turns_in(text) == [
        ("assistant", "Read", '{"path":"a"}'),
        ("tool", "Read", "port = 7412"),
        ("user", None, "hm"),
        ("assistant", None, "as a string"),
        ("system", "injected", "Cursor was updated"),
    ]


def test_an_unpaired_surrogate_is_replaced_with_a_warning() -> None:
    transcript = parse(file(row("user", "\udc00 x")), NAME)
    assert transcript.turns[0].content == "� x"
    assert transcript.warnings[0].startswith("line 1:")


@given(damaged_lines(SESSION))
def test_damage_loses_only_the_damaged_line(damaged: DamagedText) -> None:
    assert_intact_lines_survive(parse, damaged, NAME)


@given(mutated_lines(SESSION), st.text(max_size=5))
def test_no_malformed_field_raises(text: str, name: str) -> None:
    looks_like(name, text)
    assert parse(text, name).turns


# ---------------------------------------------------------------- text

TEXT = """user:
<user_query>
Name the port.
</user_query>

assistant:
[Thinking] It stands in
relay.toml.

Let me look.
[Tool call] Read
  path: relay.toml

[Tool call] Grep
  pattern: port
[Tool result] Read

[Tool result] Grep
  relay.toml:1:port = 7412

It is **7412**.

A second paragraph.

user:
no tags
"""
TEXT_NAME = "5d1f7b3e-9a2c.txt"


def test_a_text_is_parsed_turn_by_turn() -> None:
    assert registry.parse(TEXT.replace("\n", "\r\n"), TEXT_NAME) == registry.parse(TEXT, TEXT_NAME)
    found = registry.detect_format(TEXT_NAME, TEXT)
    assert found is not None
    transcript = found.parse(TEXT, TEXT_NAME)
    assert (transcript.agent, transcript.session_id) == ("cursor", "5d1f7b3e-9a2c")
    assert transcript.turns == (
        NewTurn("user", "Name the port."),
        NewTurn("assistant", "It stands in\nrelay.toml.", "thinking"),
        NewTurn("assistant", "Let me look."),
        NewTurn("assistant", "  path: relay.toml", "Read", None, "call-1"),
        NewTurn("assistant", "  pattern: port", "Grep", None, "call-2"),
        NewTurn("tool", "", "Read", None, "call-1"),
        NewTurn("tool", "  relay.toml:1:port = 7412", "Grep", None, "call-2"),
        NewTurn("assistant", "It is **7412**.\n\nA second paragraph."),
        NewTurn("user", "no tags"),
    )
    assert not text_transcript.looks_like("log.txt", "Dear user:\nhello")


@given(st.lists(st.sampled_from([*TEXT.split("\n"), "[Tool call]", "[Thinking]", " \t"]), max_size=25))
def test_every_line_of_words_is_returned_whatever_the_marks(lines: list[str]) -> None:
    parsed = "\n".join(turn.content for turn in text_transcript.parse("\n".join(["user:", *lines]), TEXT_NAME).turns)
    marks = ("user:", "assistant:", "[", "<")
    assert [line for line in lines if line.strip() and not line.startswith(marks) and line not in parsed] == []
