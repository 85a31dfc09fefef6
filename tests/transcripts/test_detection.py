"""Files of other programs are not taken for a known format, and what a parser does not understand is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.transcripts import registry

FOREIGN = (
    "qwen.jsonl", "workbuddy.jsonl", "grok.jsonl", "amp.json", "droid.jsonl", "openwebui_single.json", "openwebui.json",
    "gemini_checkpoint.json", "opencode_export.json", "ai_sdk.json", "tau.json",
)  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_program_is_not_taken_for_a_known_format(eval_dir: Path, name: str) -> None:
    text = (eval_dir / "inputs" / "formats" / name).read_text("utf-8")
    assert registry.detect_format(name, text) is None
    with pytest.raises(InvalidArgument, match="is in none of the known formats"):
        registry.parse(text, name)


def test_a_real_qwen_session_is_not_claude_codes(eval_dir: Path) -> None:
    text = (eval_dir / "inputs" / "agents" / "qwen-session.jsonl").read_text("utf-8")
    for head in (text, text[: text.index("\n")]):
        assert registry.detect_format("qwen-session.jsonl", head) is None


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def unknown(kind: str) -> dict[str, Any]:
    return {"type": kind, "uuid": "x", "sessionId": "s", "message": {"role": kind, "segments": ["a"], "text": "words"}}


def test_rows_that_were_not_understood_are_counted_and_nothing_but_them_is_refused() -> None:
    known = {"type": "user", "uuid": "u", "sessionId": "s", "message": {"role": "user", "content": "hi"}}
    found = registry.parse(lines(known, unknown("user"), unknown("assistant")), "s.jsonl")
    assert [turn.content for turn in found.turns] == ["hi"]
    assert found.warnings == ("2 of 3 rows were not understood",)
    assert registry.parse(lines(known, known | {"uuid": "v"}, unknown("user")), "s.jsonl").warnings == ()
    with pytest.raises(InvalidArgument, match="2 of 2 rows were not understood"):
        registry.parse(lines(unknown("user"), unknown("assistant")), "s.jsonl")


def test_messages_that_were_not_understood_are_counted() -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "critic", "content": "a"},
        {"role": "critic", "content": "b"},
    ]
    for text, name in ((json.dumps(messages), "a.json"), (lines(*messages), "a.jsonl")):
        assert registry.parse(text, name).warnings[0] == "2 of 3 rows were not understood"
        assert len(registry.parse(text, name).turns) == 1


def test_no_row_of_a_real_session_is_reported_as_not_understood(eval_dir: Path) -> None:
    for file in sorted((eval_dir / "transcripts").rglob("*.jsonl")):
        if "schema-fixtures" not in file.parts:
            found = registry.parse(file.read_text("utf-8", "replace"), file.name)
            assert not any("rows were not understood" in warning for warning in found.warnings), file


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff", "\0\0"])
def test_an_empty_file_is_reported_as_empty(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is empty"):
        registry.parse(text, "a.jsonl")


def test_an_aider_file_without_spaces_at_line_ends_has_the_same_turns(eval_dir: Path) -> None:
    (file,) = (eval_dir / "transcripts" / "aider").glob("*.md")
    text = file.read_text("utf-8")
    whole = registry.parse(text, file.name)
    trimmed = registry.parse("\n".join(line.rstrip() for line in text.split("\n")), file.name)
    assert len(trimmed.turns) == len(whole.turns) > 30
    assert [(turn.role, turn.name) for turn in trimmed.turns] == [(turn.role, turn.name) for turn in whole.turns]
    requests = [turn.content.rstrip() for turn in whole.turns if turn.role == "user"]
    assert [turn.content.rstrip() for turn in trimmed.turns if turn.role == "user"] == requests
