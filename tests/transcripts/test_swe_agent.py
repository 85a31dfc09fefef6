"""SWE-agent's trajectories: the model's words, the action, and its result."""

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
from ctxmem_mcp.transcripts.base import HEAD_CHARS
from ctxmem_mcp.transcripts.swe_agent import looks_like, parse
from tests.transcripts.damage import assert_results_have_calls, brief, contents, mutated

NAME = "swe__repo-1.traj"


def entry(role: str, content: Any, kind: str = "observation", **fields: Any) -> dict[str, Any]:
    return {"message_type": kind, "role": role, "content": content, "agent": "primary", **fields}


def action(thought: str, command: str) -> dict[str, Any]:
    return entry("assistant", f"{thought}```\n{command}```", "action", thought=thought, action=command)


def turns_in(*history: dict[str, Any], **document: Any) -> list[tuple[str, str | None, str]]:
    return brief(parse(json.dumps({"trajectory": [], "history": history, **document}), NAME))


BODY: dict[str, Any] = {
    "environment": "swe_main",
    "trajectory": [{"action": "ls\n", "observation": "a.py\n"}, {"action": "submit\n", "observation": "diff --git"}],
    "history": [
        entry("system", "SETTING: you are a programmer", "system_prompt"),
        entry("user", "A demonstration", "demonstration", is_demo=True),
        entry("user", "ISSUE: it breaks\n"),
        action("Let's look.\n", "ls\n"),
        entry("user", "a.py\n\nbash-$"),
        entry("assistant", "no action in this", "action", thought="no action in this", action=""),
        entry("user", "Your reply could not be read", "user"),
        action("All done.\n", "submit\n"),
    ],
    "info": {"exit_status": "submitted"},
}
RUN = json.dumps(BODY)


def test_a_run_is_parsed_turn_by_turn() -> None:
    transcript = parse(RUN, NAME)
    assert (transcript.agent, transcript.session_id, transcript.warnings) == ("swe-agent", "", ())
    assert transcript.turns == (
        NewTurn("system", "SETTING: you are a programmer", "injected"),
        NewTurn("system", "A demonstration", "injected"),
        NewTurn("user", "ISSUE: it breaks\n"),
        NewTurn("assistant", "Let's look.\n"),
        NewTurn("assistant", "ls\n", "shell", None, "action-3"),
        NewTurn("tool", "a.py\n\nbash-$", "shell", None, "action-3"),
        NewTurn("assistant", "no action in this"),
        NewTurn("system", "Your reply could not be read", "injected"),
        NewTurn("assistant", "All done.\n"),
        NewTurn("assistant", "submit\n", "shell", None, "action-7"),
        NewTurn("tool", "diff --git", "shell", None, "action-7"),
    )


def test_it_recognises_its_own_files_and_no_request() -> None:
    assert looks_like("any.json", RUN)
    assert looks_like(NAME, '{"history": []}')
    assert not looks_like("x.json", '{"messages": [{"role": "user", "content": "trajectory observation"}]}')
    found = registry.detect_format(NAME, RUN)
    assert found is not None
    assert found.parse(RUN, NAME).agent == "swe-agent"


def test_calls_pair_with_their_results_and_thoughts_are_named() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    thoughts = [{"type": "thinking", "thinking": "Where?", "signature": "x"}]
    transcript = parse(
        json.dumps(
            {
                "history": [
                    entry("user", [{"type": "text", "text": "ISSUE"}]),
                    entry("assistant", "", "action", action="ls", tool_calls=[call], thinking_blocks=thoughts),
                    entry("tool", [{"type": "text", "text": "a.py"}], tool_call_ids=["call_1"]),
                ]
            }
        ),
        NAME,
    )
    assert transcript.turns == (
        NewTurn("user", "ISSUE"),
        NewTurn("assistant", "Where?", "thinking"),
        NewTurn("assistant", '{"command": "ls"}', "bash", None, "call_1"),
        NewTurn("tool", "a.py", "bash", None, "call_1"),
    )


def test_a_reply_that_is_more_than_words_and_action_is_kept_unchanged() -> None:
    reply = entry("assistant", "Look:\n```bash\nls\n```\nand then?", "action", thought="Look:\n", action="ls\n")
    assert turns_in(reply) == [
        ("assistant", None, "Look:\n```bash\nls\n```\nand then?"),
        ("assistant", "shell", "ls\n"),
    ]


def test_a_file_without_history_is_parsed_from_its_steps() -> None:
    step = {"response": "Look.\n```\nls\n```", "thought": "Look.\n", "action": "ls\n", "observation": "a.py"}
    assert turns_in(trajectory=[{**step, "query": [entry("user", "ISSUE")]}]) == [
        ("user", None, "ISSUE"),
        ("assistant", None, "Look.\n"),
        ("assistant", "shell", "ls\n"),
        ("tool", "shell", "a.py"),
    ]


@pytest.mark.parametrize("cut_in", ["ISSUE: it", "bash-$", "All done."])
def test_a_history_that_was_cut_off_continues_with_the_steps(cut_in: str) -> None:
    steps = [
        {
            "action": "ls\n",
            "observation": "a.py\n",
            "response": "Let's look.\n```\nls\n```",
            "thought": "Let's look.\n",
        },
        {
            "action": "submit\n",
            "observation": "diff",
            "response": "All done.\n```\nsubmit\n```",
            "thought": "All done.\n",
        },
    ]
    text = json.dumps({**BODY, "trajectory": steps})
    found = parse(text[: text.rindex(cut_in)], NAME)
    contents = [turn.content for turn in found.turns]
    assert found.warnings
    assert contents[:2] == ["SETTING: you are a programmer", "A demonstration"]
    words = ("Let's look.\n", "ls\n", "All done.\n", "submit\n", "diff")
    assert [content for content in contents if content in words] == [*words]
    assert sum(content.startswith("a.py\n") for content in contents) == 1


def test_another_agent_that_helped_is_a_thread() -> None:
    transcript = parse(json.dumps({"history": [entry("user", "a"), {**entry("user", "b"), "agent": "finder"}]}), NAME)
    assert [turn.content for turn in transcript.turns] == ["a"]
    assert [(thread.title, thread.turns) for thread in transcript.threads] == [("finder", (NewTurn("user", "b"),))]


def test_an_unpaired_surrogate_is_replaced_with_a_warning() -> None:
    transcript = parse(json.dumps({"history": [entry("user", "\ud800!")]}), NAME)
    assert transcript.turns == (NewTurn("user", "�!"),)
    assert len(transcript.warnings) == 1


@given(st.integers(0, len(RUN)), st.sampled_from(("", "\0", "}]", "nul", '"')))
def test_everything_before_a_cut_is_kept(cut: int, garbage: str) -> None:
    transcript = parse(RUN[:cut] + garbage, NAME)
    started = RUN[:cut].count('"message_type"')
    whole = {**BODY, "history": BODY["history"][: max(started - 1, 0)], "trajectory": []}
    if started:
        assert not contents(parse(json.dumps(whole), NAME)) - contents(transcript)


@given(st.data())
def test_no_malformed_field_raises(data: st.DataObject) -> None:
    parse(json.dumps(data.draw(mutated(BODY))), NAME)


@pytest.mark.parametrize(("part", "floor"), [("humaneval", 15), ("marshmallow", 40)])
def test_every_user_entry_of_a_real_run_is_in_exactly_one_turn(eval_dir: Path, part: str, floor: int) -> None:
    [path] = (eval_dir / "transcripts" / "swe-agent").glob(f"*{part}*.traj")
    text = path.read_text(encoding="utf-8")
    assert looks_like("any.json", text[:HEAD_CHARS])
    transcript = parse(text, path.name)
    assert len(transcript.turns) >= floor
    assert not transcript.warnings
    assert_results_have_calls(transcript)
    found = Counter(turn.content for turn in transcript.turns)
    history = json.loads(text)["history"]
    users = Counter(said["content"] for said in history if said["role"] == "user")
    assert {said: found[said] for said in users} == dict(users)
    assert [turn.content for turn in transcript.turns if turn.role == "user"] == [history[1]["content"]]
