"""Codex rollouts: items and events without duplicates, the host's messages, and rollbacks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.base import HEAD_CHARS, ParseLog
from ctxmem_mcp.transcripts.codex.parser import looks_like, parse
from ctxmem_mcp.transcripts.json_lines import read_rows
from tests.transcripts.damage import (
    DamagedText,
    assert_intact_lines_survive,
    assert_results_have_calls,
    brief,
    damaged_lines,
    mutated_lines,
)

NAME = "rollout-2026-02-23T12-40-23-019c.jsonl"
AT = "2026-02-23T11:40:29.275Z"
META = {"id": "019c", "cwd": "/repo", "cli_version": "0.104.0", "instructions": None}


def row(kind: str, **payload: Any) -> dict[str, Any]:
    return {"timestamp": AT, "type": kind, "payload": payload}


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return row("response_item", type=kind, **fields)


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return row("event_msg", type=kind, **fields)


def message(role: str, *texts: str, **fields: Any) -> dict[str, Any]:
    part = "output_text" if role == "assistant" else "input_text"
    return item("message", role=role, content=[{"type": part, "text": text} for text in texts], **fields)


def file(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def turns_in(*rows: dict[str, Any]) -> list[tuple[str, str | None, str]]:
    return brief(parse(file(*rows), NAME))


SESSION = file(
    row("session_meta", **META),
    message("developer", "<permissions instructions>ask first</permissions instructions>"),
    message("user", "# AGENTS.md instructions for /repo\n\nBe kind."),
    message("user", "<environment_context>\n  <cwd>/repo</cwd>\n</environment_context>"),
    event("task_started", turn_id="1"),
    message("user", "  Fix the login test, please\n"),
    event("user_message", message="  Fix the login test, please\n", images=[]),
    row("turn_context", cwd="/repo", model="gpt-5", summary="auto", user_instructions="Be kind."),
    event("agent_reasoning", text="**Looking around**"),
    item("reasoning", summary=[{"type": "summary_text", "text": "**Looking around**"}], encrypted_content="gAAA"),
    event("agent_message", message="I'll look first."),
    message("assistant", "I'll look first."),
    item("function_call", name="exec_command", arguments='{"cmd": "ls"}', call_id="call_1"),
    event("token_count", info=None),
    item("function_call_output", call_id="call_1", output="a.py\nb.py\n"),
    item("custom_tool_call", name="apply_patch", input="*** Begin Patch", call_id="call_2", status="completed"),
    item("custom_tool_call_output", call_id="call_2", output="Done!"),
    event("agent_message", message="Fixed: it was the clock."),
    message("assistant", "Fixed: it was the clock."),
    event("task_complete", last_agent_message="Fixed: it was the clock."),
)


def test_a_session_is_parsed_turn_by_turn_without_duplicates() -> None:
    transcript = parse(SESSION, NAME)
    assert (transcript.agent, transcript.session_id, transcript.warnings) == ("codex", "019c", ())
    host = ("injected", AT)
    assert transcript.turns == (
        NewTurn("system", "<permissions instructions>ask first</permissions instructions>", *host),
        NewTurn("system", "# AGENTS.md instructions for /repo\n\nBe kind.", *host),
        NewTurn("system", "<environment_context>\n  <cwd>/repo</cwd>\n</environment_context>", *host),
        NewTurn("user", "  Fix the login test, please\n", said_at=AT),
        NewTurn("assistant", "**Looking around**", "thinking", AT),
        NewTurn("assistant", "I'll look first.", None, AT),
        NewTurn("assistant", '{"cmd": "ls"}', "exec_command", AT, "call_1"),
        NewTurn("tool", "a.py\nb.py\n", "exec_command", AT, "call_1"),
        NewTurn("assistant", "*** Begin Patch", "apply_patch", AT, "call_2"),
        NewTurn("tool", "Done!", "apply_patch", AT, "call_2"),
        NewTurn("assistant", "Fixed: it was the clock.", None, AT),
    )


def test_it_recognises_its_own_files_and_no_other_agents() -> None:
    assert looks_like(NAME, SESSION)
    assert looks_like("x.jsonl", '{"id":"5","timestamp":"2025-05-07T17:24:21Z","instructions":null}\n')
    assert not looks_like("x.jsonl", '{"type":"user","sessionId":"5","message":{"role":"user","content":"hi"}}\n')
    assert not looks_like("x.jsonl", '{"role":"user","content":"hi"}\n')
    found = registry.detect_format(NAME, SESSION)
    assert found is not None
    assert found.parse(SESSION, NAME).agent == "codex"


def test_an_event_is_kept_if_its_item_is_missing() -> None:
    assert turns_in(
        event("user_message", message="only on the screen"),
        event("agent_message", message="seen"),
        message("assistant", "seen"),
        event("agent_message", message="unseen elsewhere"),
        event("agent_reasoning", text="hm"),
    ) == [
        ("user", None, "only on the screen"),
        ("assistant", None, "seen"),
        ("assistant", None, "unseen elsewhere"),
        ("assistant", "thinking", "hm"),
    ]


def test_the_same_words_in_two_messages_are_two_turns() -> None:
    twice = [part for _ in range(2) for part in (message("user", "yes"), event("user_message", message="yes"))]
    assert turns_in(*twice) == [("user", None, "yes")] * 2


def test_host_messages_that_the_screen_showed_count_once() -> None:
    words = "<environment_context>/repo</environment_context>"
    shown = event("user_message", message=words)
    found = turns_in(
        message("user", words), shown, event("error", message="stream lost"), message("developer", "be kind")
    )
    assert found == [("system", "injected", text) for text in (words, "stream lost", "be kind")]


def test_an_event_trimmed_for_the_screen_matches_the_adjacent_item() -> None:
    whole = "Done.<oai-mem-citation>a.md:1</oai-mem-citation>"
    assert turns_in(
        message("assistant", "one"),
        event("agent_message", message="one"),
        item("function_call", name="f", arguments="{}", call_id="1"),
        event("agent_message", message="Done."),
        message("assistant", whole),
    ) == [("assistant", None, "one"), ("assistant", "f", "{}"), ("assistant", None, whole)]


def test_a_row_appended_again_under_its_id_counts_once_and_a_changed_one_twice() -> None:
    again = message("assistant", "said", id="msg_1")
    assert turns_in(again, again, message("assistant", "said more", id="msg_1")) == [
        ("assistant", None, "said"),
        ("assistant", None, "said more"),
    ]


def test_encrypted_reasoning_settings_and_snapshots_are_no_turns() -> None:
    assert not turns_in(
        row("session_meta", **META, base_instructions={"text": "You are Codex"}),
        item("reasoning", summary=[], content=None, encrypted_content="gAAA"),
        item("ghost_snapshot", ghost_commit={"id": "1"}),
        item("compaction", encrypted_content="gAAA"),
        row("world_state", full=True, state={"agents_md": {"text": "Be kind."}}),
    )


def test_user_messages_between_tasks_that_the_screen_never_showed_are_the_hosts() -> None:
    context = message("user", "no tag tells that a host wrote this")
    task = [event("task_started"), message("user", "go"), event("user_message", message="go"), event("task_complete")]
    turns = turns_in(context, *task, context, *task)
    assert turns == [("system", "injected", context["payload"]["content"][0]["text"]), ("user", None, "go")] * 2
    assert turns_in(context) == [("user", None, "no tag tells that a host wrote this")]


def test_what_a_compaction_left_is_kept_if_it_is_new() -> None:
    summary = "Another language model started to solve this problem and produced a summary: login is fixed."
    history = [message("user", "Fix it")["payload"], message("user", summary)["payload"]]
    compacted = row("compacted", message=summary, replacement_history=history)
    assert turns_in(message("user", "Fix it"), compacted, compacted, message("user", summary)) == [
        ("user", None, "Fix it"),
        ("system", "recap", summary),
    ]


def test_a_rollback_makes_a_complete_abandoned_branch() -> None:
    messages = [message(role, text) for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"), ("user", "d"))]
    transcript = parse(file(*messages, event("thread_rolled_back", num_turns=2), message("user", "e")), NAME)
    assert [turn.content for turn in transcript.turns] == ["a", "b", "e"]
    assert [[turn.content for turn in branch] for branch in transcript.abandoned_branches] == [["a", "b", "c", "d"]]


def test_calls_that_only_events_log_count_once_with_their_results() -> None:
    search = {"type": "search", "query": "q"}
    assert turns_in(
        event("exec_command_end", call_id="1", command=["ls"], aggregated_output="a.py\n", exit_code=0),
        event("exec_command_end", call_id="1", command=["ls"], aggregated_output="a.py\n", exit_code=0),
        item("function_call", name="mcp__x__y", arguments="{}", call_id="2"),
        item("function_call_output", call_id="2", output='{"a":1}'),
        event("mcp_tool_call_end", call_id="2", invocation={"tool": "y", "arguments": {}}, result={"Ok": {}}),
        event("mcp_tool_call_end", call_id="3", invocation={"tool": "z"}, result={"Err": "refused"}),
        item("web_search_call", status="completed", action=search),
        event("web_search_end", call_id="ws_1", action=search, results=[{"title": "T"}]),
    ) == [
        ("assistant", "exec_command", '["ls"]'),
        ("tool", "exec_command", "a.py\n"),
        ("assistant", "mcp__x__y", "{}"),
        ("tool", "mcp__x__y", '{"a":1}'),
        ("assistant", "z", ""),
        ("tool", "z", "refused"),
        ("assistant", "web_search", '{"type":"search","query":"q"}'),
        ("tool", None, '{"title":"T"}'),
    ]


def test_parts_that_are_not_text_are_json_and_each_part_of_a_result_is_a_turn() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    assert turns_in(
        item("message", role="user", content=[{"type": "input_text", "text": "see"}, image]),
        event("user_message", message="see", images=["data:image/png;base64,AA=="]),
        item("function_call", name="view", arguments='{"path": "a.png"}', call_id="1"),
        item("function_call_output", call_id="1", output=[{"type": "input_text", "text": "here:"}, image]),
    ) == [
        ("user", None, "see"),
        ("user", None, json.dumps(image, separators=(",", ":"))),
        ("assistant", "view", '{"path": "a.png"}'),
        ("tool", "view", "here:"),
        ("tool", "view", json.dumps(image, separators=(",", ":"))),
    ]


def test_rows_without_payloads_are_read_the_same_way() -> None:
    text = file(
        {"id": "5973b6c0", "timestamp": "2025-05-07T17:24:21.123Z", "instructions": "Be kind."},
        {"record_type": "state"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": '{"output":"a","metadata":{"exit_code":0}}'},
    )
    transcript = parse(text, NAME)
    assert transcript.session_id == "5973b6c0"
    assert [(turn.role, turn.content) for turn in transcript.turns] == [
        ("user", "hi"),
        ("assistant", '{"command":["ls"]}'),
        ("tool", '{"output":"a","metadata":{"exit_code":0}}'),
    ]


def test_a_broken_line_is_skipped_and_an_unpaired_surrogate_replaced_with_warnings() -> None:
    text = file(message("user", "one")) + '{"type": "resp\n' + file(message("user", "\ud83d two \ud83d\ude00"))
    transcript = parse(text, NAME)
    assert [turn.content for turn in transcript.turns] == ["one", "� two 😀"]
    assert [warning.split(":")[0] for warning in transcript.warnings] == ["line 2", "line 3"]


def test_an_invalid_time_is_left_out() -> None:
    assert parse(file({**message("user", "hi"), "timestamp": "yesterday"}), NAME).turns == (NewTurn("user", "hi"),)


@given(damaged_lines(SESSION))
def test_damage_loses_only_the_damaged_line(damaged: DamagedText) -> None:
    assert_intact_lines_survive(parse, damaged, NAME)


@given(mutated_lines(SESSION), st.text(max_size=5))
def test_no_malformed_field_raises(text: str, name: str) -> None:
    looks_like(name, text)
    assert len(parse(text, name).turns) >= 8


FLOORS = {"2-40-23": 300, "2-41-04": 250, "0-34-25": 25, "large": 16, "schema_drift": 4, "small": 40}


@pytest.mark.parametrize("part", FLOORS)
def test_every_user_message_of_a_real_rollout_is_in_exactly_one_turn(eval_dir: Path, part: str) -> None:
    [path] = (eval_dir / "transcripts" / "codex").glob(f"*/*{part}*.jsonl")
    text = path.read_text(encoding="utf-8")
    assert looks_like(path.name, text[:HEAD_CHARS])
    transcript = parse(text, path.name)
    assert len(transcript.turns) >= FLOORS[part]
    assert not transcript.warnings
    if part != "small":  # a list of shapes, whose calls and results don't belong together
        assert_results_have_calls(transcript)
        found = Counter(turn.content for turn in transcript.turns)
        payloads = [row.get("payload", {}) for _, row in read_rows(text, ParseLog())]
        users = Counter(part["text"] for said in payloads if said.get("role") == "user" for part in said["content"])
        assert {text: found[text] for text in users} == dict(users)
