"""pi's sessions: old ones are lists, newer ones trees, in which the branch to the last entry is the conversation."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.base import HEAD_CHARS
from ctxmem_mcp.transcripts.pi import looks_like, parse
from tests.transcripts.damage import (
    DamagedText,
    assert_intact_lines_survive,
    assert_results_have_calls,
    brief,
    damaged_lines,
    mutated_lines,
)

NAME = "2025-11-20T23-33-50-805Z_d703a1a9.jsonl"
AT = "2025-11-20T23:33:50.805Z"
HEADER = {"type": "session", "id": "d703a1a9", "timestamp": AT, "cwd": "/repo", "provider": "anthropic"}


def entry(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "timestamp": AT, **fields}


def message(role: str, *parts: Any, at: tuple[str, str | None] | None = None, **fields: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    tree = {} if at is None else {"id": at[0], "parentId": at[1]}
    return entry("message", message={"role": role, "content": content, **fields}, **tree)


def file(*entries: dict[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in entries)


SESSION = file(
    HEADER,
    message("user", " fix the theme\n"),
    entry("thinking_level_change", thinkingLevel="minimal"),
    message(
        "assistant",
        {"type": "thinking", "thinking": "Which file?", "thinkingSignature": "EqQ"},
        "Reading it.",
        {"type": "toolCall", "id": "toolu_1", "name": "read", "arguments": {"path": "theme.md"}},
    ),
    message("toolResult", "# Themes\n", toolCallId="toolu_1", toolName="read", isError=False),
    message("assistant", stopReason="aborted", errorMessage="Request was aborted"),
    message("user", "continue"),
    message("assistant", "Done."),
)


def test_a_session_is_parsed_turn_by_turn() -> None:
    transcript = parse(SESSION, NAME)
    assert (transcript.agent, transcript.session_id, transcript.abandoned_branches, transcript.warnings) == (
        "pi",
        "d703a1a9",
        (),
        (),
    )
    assert transcript.turns == (
        NewTurn("user", " fix the theme\n", said_at=AT),
        NewTurn("assistant", "Which file?", "thinking", AT),
        NewTurn("assistant", "Reading it.", None, AT),
        NewTurn("assistant", '{"path":"theme.md"}', "read", AT, "toolu_1"),
        NewTurn("tool", "# Themes\n", "read", AT, "toolu_1"),
        NewTurn("system", "Request was aborted", "injected", AT),
        NewTurn("user", "continue", said_at=AT),
        NewTurn("assistant", "Done.", None, AT),
    )


def test_it_recognises_its_own_files_even_without_a_header() -> None:
    found = registry.detect_format(NAME, SESSION)
    assert found is not None
    assert found.parse(SESSION, NAME).agent == "pi"
    assert looks_like("x.jsonl", file(message("user", "hi")))
    assert not looks_like("x.jsonl", '{"type":"user","sessionId":"5","message":{"role":"user","content":"hi"}}\n')


def test_the_turns_lead_to_the_last_entry_and_other_branches_are_abandoned() -> None:
    transcript = parse(
        file(
            {**HEADER, "version": 3},
            message("user", "a", at=("1", None)),
            message("assistant", "b", at=("2", "1")),
            message("user", "c", at=("3", "2")),
            message("user", "d", at=("4", "2")),
            entry("session_info", id="5", parentId="4", name="Themes"),
            message("assistant", "e", at=("6", "5")),
        ),
        NAME,
    )
    assert transcript.title == "Themes"
    assert "".join(turn.content for turn in transcript.turns) == "abde"
    assert ["".join(turn.content for turn in branch) for branch in transcript.abandoned_branches] == ["abc"]


def test_an_entry_whose_parent_is_broken_follows_the_one_before_it() -> None:
    text = file(message("user", "a", at=("1", None))) + "{broken\n" + file(message("assistant", "c", at=("3", "2")))
    transcript = parse(text, NAME)
    assert [turn.content for turn in transcript.turns] == ["a", "c"]
    assert [warning[:6] for warning in transcript.warnings] == ["line 2"]


def test_an_entry_appended_again_counts_once_and_the_same_words_again_twice() -> None:
    again = message("user", "yes", at=("1", None))
    assert len(parse(file(again, again, message("user", "yes", at=("2", "1"))), NAME).turns) == 2


def test_summaries_are_recaps_and_messages_of_extensions_are_injected() -> None:
    transcript = parse(
        file(
            entry("compaction", id="1", parentId=None, summary="We fixed themes.", firstKeptEntryId="0"),
            entry("branch_summary", id="2", parentId="1", summary="Tried rgb.", fromId="9"),
            entry("custom_message", id="3", parentId="2", customType="todo", content="Two left", display=True),
            message("custom", "Old style", at=("4", "3"), customType="todo"),
            entry("custom", id="5", parentId="4", customType="state", data={"n": 1}),
        ),
        NAME,
    )
    assert brief(transcript) == [
        ("system", "recap", "We fixed themes."),
        ("system", "recap", "Tried rgb."),
        ("system", "injected", "Two left"),
        ("system", "injected", "Old style"),
    ]


def test_a_command_that_the_user_ran_is_the_users_and_its_output_a_tools() -> None:
    ran = entry("message", message={"role": "bashExecution", "command": "ls", "output": "a.py\n", "exitCode": 0})
    assert parse(file(ran), NAME).turns == (
        NewTurn("user", "ls", "bash", AT),
        NewTurn("tool", "a.py\n", "bash", AT),
    )


def test_images_are_json_and_a_result_without_parts_is_empty() -> None:
    image = {"type": "image", "data": "AA==", "mimeType": "image/png"}
    transcript = parse(file(message("user", "see", image), message("toolResult", toolCallId="1", toolName="x")), NAME)
    assert [turn.content for turn in transcript.turns] == ["see", json.dumps(image, separators=(",", ":")), ""]


def test_an_unpaired_surrogate_is_replaced_with_a_warning() -> None:
    transcript = parse(file(HEADER, message("user", "\udc00 x")), NAME)
    assert transcript.turns[0].content == "� x"
    assert transcript.warnings[0].startswith("line 2:")


@given(damaged_lines(SESSION))
def test_damage_loses_only_the_damaged_line(damaged: DamagedText) -> None:
    assert_intact_lines_survive(parse, damaged, NAME)


@given(mutated_lines(SESSION), st.text(max_size=5))
def test_no_malformed_field_raises(text: str, name: str) -> None:
    looks_like(name, text)
    assert parse(text, name).turns


def test_every_user_message_of_a_real_session_is_in_exactly_one_turn(eval_dir: Path) -> None:
    [path] = (eval_dir / "transcripts" / "pi").glob("*.jsonl")
    text = path.read_text(encoding="utf-8")
    assert looks_like(path.name, text[:HEAD_CHARS])
    transcript = parse(text, path.name)
    assert transcript.session_id
    assert not transcript.warnings
    assert_results_have_calls(transcript)
    found = Counter(turn.content for turn in transcript.turns if turn.role == "user")
    messages = [row["message"] for row in map(json.loads, filter(None, text.split("\n"))) if row["type"] == "message"]
    users = [part["text"] for said in messages if said["role"] == "user" for part in said["content"]]
    assert found == Counter(users)
    assert len(transcript.turns) > len(messages)
