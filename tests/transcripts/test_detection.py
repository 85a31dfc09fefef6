"""Files of other programs are not taken for a known format, and what a parser does not understand is reported."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.capture import importer
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.base import HEAD_CHARS, head_of

# Files that were once taken for another program's, and whose they are.
FOREIGN = {
    "qwen.jsonl": "qwen-code", "workbuddy.jsonl": "openai-responses", "grok.jsonl": "grok", "amp.json": "amp",
    "droid.jsonl": "droid", "openwebui_single.json": "openwebui", "openwebui.json": "openwebui",
    "gemini_checkpoint.json": "gemini", "opencode_export.json": "opencode", "ai_sdk.json": "ai-sdk",
    "tau.json": "message-lists",
}  # fmt: skip


@pytest.mark.parametrize(("name", "agent"), FOREIGN.items())
def test_a_file_is_taken_for_its_own_programs(eval_dir: Path, name: str, agent: str) -> None:
    found = registry.parse((eval_dir / "inputs" / "formats" / name).read_text("utf-8"), name)
    turns = found.turns or found.threads[0].turns
    assert (found.agent, len(turns) > 1, found.unread) == (agent, True, 0)


def test_a_real_qwen_session_is_not_claude_codes(eval_dir: Path) -> None:
    text = (eval_dir / "inputs" / "agents" / "qwen-session.jsonl").read_text("utf-8")
    for part in (text, text[: text.index("\n")]):
        assert registry.parse(part, "qwen-session.jsonl").agent == "qwen-code"


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


PICTURE = "iVBORw0KGgo" + "A" * (2 * HEAD_CHARS)


def picture_message(padding: dict[str, Any]) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    return {
        "role": "user",
        "content": [{"type": "image", "source": source}, {"type": "text", "text": "Look"}],
    } | padding


@pytest.mark.parametrize("padding", [{}, {"files": {f"file{n}": n for n in range(HEAD_CHARS // 8)}}])
def test_a_session_that_begins_with_a_picture_is_detected(padding: dict[str, Any]) -> None:
    first = {"message": picture_message(padding), "type": "user", "uuid": "a", "sessionId": "s"}
    second = {"type": "user", "uuid": "b", "parentUuid": "a", "message": {"role": "user", "content": "b"}}
    text = lines(first, second | {"sessionId": "s"})
    for found in (
        registry.parse(text, "s.jsonl"),
        registry.parse_resumable(text, "s.jsonl")[0],
        importer.parse(text.encode(), "s.log"),
    ):
        assert (found.agent, found.turns[-1].content) == ("claude-code", "b")


def test_a_list_that_begins_with_a_picture_is_detected() -> None:
    call = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    text = json.dumps([picture_message({}), {"role": "assistant", "content": [call]}])
    found = registry.parse(text, "chat.json")
    short = registry.parse(text.replace(PICTURE, PICTURE[:100]), "chat.json")
    assert (found.agent, [turn.role for turn in found.turns]) == (short.agent, [turn.role for turn in short.turns])
    assert found.agent == "anthropic"


@given(
    st.lists(st.text(st.sampled_from('a"\\\n\u00e9\U0001f600'), max_size=40).map(lambda s: s * 300), min_size=1),
    st.booleans(),
)
def test_shortened_rows_are_valid_json(texts: list[str], ascii_only: bool) -> None:
    text = "".join(json.dumps({"text": one, "end": 1}, ensure_ascii=ascii_only) + "\n" for one in texts)
    text += "".join(json.dumps({"text": "x" * 1000}) + "\n" for _ in range(HEAD_CHARS // 1000))
    for row, one in zip((json.loads(line) for line in head_of(text).split("\n")[:-1]), texts, strict=False):
        assert (row["end"], one.startswith(row["text"])) == (1, True)


@pytest.mark.parametrize("line", ['"' * 1_000_000, '\\"' * 500_000, "\\" * 1_000_000, '{"a":"' + '\\"' * 500_000])
def test_the_head_is_read_in_linear_time(line: str) -> None:
    started = time.process_time()
    head_of(line)
    head_of(f"{line}\n{{")
    assert time.process_time() - started < 20


def test_rows_of_unknown_types_that_carry_words_are_counted() -> None:
    known = {"type": "user", "uuid": "u", "sessionId": "s", "message": {"role": "user", "content": "hi"}}
    rows = [{**known, "type": "user_v2", "uuid": f"v{n}"} for n in range(8)]
    found = registry.parse(lines(known, {**known, "uuid": "w"}, *rows), "s.jsonl")
    assert found.warnings == ("8 of 10 rows were not understood",)
    assert registry.parse(lines(known, {"type": "mode", "sessionId": "s", "mode": "plan"}), "s.jsonl").unread == 0
