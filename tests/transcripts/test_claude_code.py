"""Claude Code's session files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.transcripts import claude_code, registry
from ctxmem_mcp.transcripts.base import Transcript
from tests.transcripts.damage import brief


def row(kind: str, uuid: str, parent: str | None, content: object, **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": uuid,
        "parentUuid": parent,
        "sessionId": "s1",
        "timestamp": "2026-01-02T03:04:05.000Z",
        "message": {"role": kind, "content": content},
        **more,
    }


def parse(*rows: dict[str, Any] | str, name: str = "s1.jsonl") -> Transcript:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in rows)
    assert claude_code.looks_like(name, text)
    return claude_code.parse(text, name)


def call(identifier: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identifier, "name": "Bash", "input": given}


def result(identifier: str, content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identifier, "content": content}


def test_text_thoughts_calls_and_results_are_turns() -> None:
    found = parse(
        row("user", "u1", None, "run the tests"),
        row("assistant", "a1", "u1", [{"type": "thinking", "thinking": "Let me see", "signature": "x"}]),
        row("assistant", "a2", "a1", [{"type": "text", "text": "Running."}, call("c1", command="pytest -q")]),
        row("user", "r1", "a2", [result("c1", [{"type": "text", "text": "1 failed"}, {"type": "image", "data": "…"}])]),
    )
    assert brief(found) == [
        ("user", None, "run the tests"),
        ("assistant", "thinking", "Let me see"),
        ("assistant", None, "Running."),
        ("assistant", "Bash", '{"command":"pytest -q"}'),
        ("tool", "Bash", "1 failed"),
        ("tool", "Bash", '{"type":"image","data":"…"}'),
    ]
    assert [turn.call_id for turn in found.turns] == [None, None, None, "c1", "c1", "c1"]
    assert (found.session_id, found.turns[0].said_at) == ("s1", "2026-01-02T03:04:05.000Z")


def test_text_that_the_host_injected_is_not_the_users() -> None:
    found = parse(
        row("user", "u1", None, "This session is being continued ...", isCompactSummary=True),
        row("user", "u2", "u1", "Caveat: ...", isMeta=True),
        row("user", "u3", "u2", [{"type": "text", "text": "<system-reminder>be brief</system-reminder>"}]),
        row("user", "u4", "u3", "[Request interrupted by user]"),
        row("user", "u5", "u4", "go on"),
        row("assistant", "a1", "u5", "API Error: 529", isApiErrorMessage=True),
    )
    assert [(role, name) for role, name, _ in brief(found)] == [
        ("system", "recap"),
        ("system", "injected"),
        ("system", "injected"),
        ("system", "injected"),
        ("user", None),
        ("system", "injected"),
    ]


def test_what_the_host_writes_for_a_missing_answer_is_nobodys_word() -> None:
    answer = row("assistant", "a1", "u1", [{"type": "text", "text": "No response requested."}])
    answer["message"]["model"] = "<synthetic>"
    found = parse(row("user", "u1", None, "go on"), answer)
    assert brief(found)[1:] == [("system", "injected", "No response requested.")]


def test_the_tools_that_a_search_found_are_one_turn() -> None:
    found = parse(
        row("user", "u1", None, "find tools"),
        row("assistant", "a1", "u1", [call("c1", query="memory")]),
        row("user", "r1", "a1", [result("c1", [{"type": "tool_reference", "tool_name": name} for name in "abc"])]),
    )
    lines = [f'{{"type":"tool_reference","tool_name":"{name}"}}' for name in "abc"]
    assert brief(found)[2:] == [("tool", "Bash", "\n".join(lines))]


def test_a_result_above_its_call_follows_it_under_its_name() -> None:
    found = parse(
        row("user", "u1", None, "look"),
        row("user", "r1", "a1", [result("c1", "a.txt")]),
        row("user", "r2", "a2", [result("c2", "b.txt")]),
        row("assistant", "a1", "u1", [call("c1", command="ls a")]),
        row("assistant", "a2", "r1", [call("c2", command="ls b")]),
        row("assistant", "a3", "r2", "Both are there."),
    )
    assert brief(found)[1:] == [
        ("assistant", "Bash", '{"command":"ls a"}'),
        ("tool", "Bash", "a.txt"),
        ("assistant", "Bash", '{"command":"ls b"}'),
        ("tool", "Bash", "b.txt"),
        ("assistant", None, "Both are there."),
    ]


def test_a_message_under_another_uuid_counts_once_and_its_children_stay_on_the_line() -> None:
    answer = row("assistant", "a1", "u1", [{"type": "text", "text": "Hello."}])
    answer["message"]["id"] = "msg_1"
    asked = row("user", "u2", "a1", "Go on.", timestamp="2026-01-02T03:05:00.000Z")
    found = parse(
        row("user", "u1", None, "hi"),
        answer,
        {**answer, "uuid": "a1b"},
        {**answer, "uuid": "a1c", "parentUuid": "a1", "timestamp": "2026-01-02T03:04:06.000Z"},
        asked,
        {**asked, "uuid": "u2b", "parentUuid": "a1c"},
        row("assistant", "a2", "u2b", "Gone on."),
    )
    assert [turn.content for turn in found.turns] == ["hi", "Hello.", "Go on.", "Gone on."]
    assert found.abandoned_branches == ()


def test_a_row_appended_again_counts_once_and_the_same_word_in_two_rows_twice() -> None:
    yes = row("user", "u2", "a1", "yes")
    found = parse(
        row("user", "u1", None, "hi"),
        row("assistant", "a1", "u1", "Shall I?"),
        yes,
        row("user", "u1", None, "hi"),
        yes,
        row("assistant", "a2", "u2", "And this?"),
        row("user", "u3", "a2", "yes"),
    )
    assert [content for _, _, content in brief(found)] == ["hi", "Shall I?", "yes", "And this?", "yes"]


def test_host_rows_appended_again_count_once_and_start_no_branch() -> None:
    note: dict[str, Any] = {"type": "system", "subtype": "local_command", "content": "<local-command-stdout>ok"}
    shown: dict[str, Any] = {"type": "attachment", "attachment": {"type": "directory", "content": "a.py"}}
    rows = [
        row("user", "u1", None, "hi"),
        {**note, "uuid": "n1", "parentUuid": "u1", "sessionId": "s1"},
        {**shown, "uuid": "b1", "parentUuid": "n1", "sessionId": "s1"},
        {"type": "progress", "uuid": "p1", "parentUuid": "b1", "sessionId": "s1", "data": {"type": "hook_progress"}},
        row("user", "u2", "b1", "[Request interrupted by user]"),
        row("assistant", "a1", "u2", "Yes?"),
    ]
    assert parse(*rows, *rows) == parse(*rows)
    assert len(parse(*rows).turns) == 5


def test_a_line_after_the_nul_bytes_of_a_lost_write_is_read() -> None:
    found = parse(row("user", "u1", None, "hi"), "\0" * 20 + json.dumps(row("assistant", "a1", "u1", "Yes?")), "\0")
    assert ([turn.content for turn in found.turns], found.warnings) == (["hi", "Yes?"], ())


def test_results_of_parallel_calls_are_all_kept() -> None:
    found = parse(
        row("user", "u1", None, "look"),
        row("assistant", "a1", "u1", [call("c1", command="ls a")]),
        row("assistant", "a2", "a1", [call("c2", command="ls b")]),
        row("user", "r1", "a1", [result("c1", "a1.txt")]),
        row("user", "r2", "a2", [result("c2", "b1.txt")]),
        row("assistant", "a3", "r1", "Both are there."),
    )
    assert [content for _, _, content in brief(found)][3:] == ["a1.txt", "b1.txt", "Both are there."]
    assert found.abandoned_branches == ()


def test_a_rewind_makes_an_abandoned_branch() -> None:
    found = parse(
        row("user", "u1", None, "plan it"),
        row("assistant", "a1", "u1", "Plan A."),
        row("user", "u2", "a1", "do A"),
        row("assistant", "a2", "u2", "A is done."),
        row("user", "u3", "a1", "do B instead"),
        row("assistant", "a3", "u3", "B is done."),
    )
    assert [turn.content for turn in found.turns] == ["plan it", "Plan A.", "do B instead", "B is done."]
    assert [[turn.content for turn in branch] for branch in found.abandoned_branches] == [
        ["plan it", "Plan A.", "do A", "A is done."]
    ]


def test_sub_agents_are_threads_whether_in_the_file_in_progress_rows_or_in_a_file_of_their_own() -> None:
    progress = {
        "type": "progress",
        "uuid": "p1",
        "parentUuid": "a1",
        "sessionId": "s1",
        "data": {"type": "agent_progress", "agentId": "b7", "message": row("assistant", "x1", None, "Found it.")},
    }
    found = parse(
        row("user", "u1", None, "search"),
        row("assistant", "a1", "u1", [call("c1", prompt="search for X")]),
        row("user", "k1", None, "search for X", isSidechain=True, agentId="a9"),
        row("assistant", "k2", "k1", "Here.", isSidechain=True, agentId="a9"),
        progress,
    )
    assert {thread.session_id: [turn.content for turn in thread.turns] for thread in found.threads} == {
        "s1:a9": ["search for X", "Here."],
        "s1:b7": ["Found it."],
    }
    alone = parse(row("user", "k1", None, "search for X", isSidechain=True, agentId="a9"), name="agent-a9.jsonl")
    assert (alone.session_id, [turn.content for turn in alone.turns]) == ("s1:a9", ["search for X"])


def test_prompts_queued_while_the_agent_worked_are_the_users() -> None:
    def queue(operation: str, content: str | None = None) -> dict[str, Any]:
        return {"type": "queue-operation", "operation": operation, "sessionId": "s1", "content": content}

    found = parse(
        row("user", "u1", None, "start"),
        queue("enqueue", "don't amend commits"),
        queue("remove"),
        row("assistant", "a1", "u1", "I won't."),
        queue("enqueue", "taken back"),
        queue("popAll", "taken back"),
        queue("enqueue", "/config"),
        queue("remove"),
        queue("enqueue", "said later as well"),
        queue("dequeue"),
        row("user", "u2", "a1", "said later as well"),
    )
    assert [content for role, _, content in brief(found) if role == "user"] == [
        "start",
        "don't amend commits",
        "said later as well",
    ]


def test_a_queued_prompt_with_the_words_of_another_is_a_turn_of_its_own() -> None:
    queued = [{"type": "queue-operation", "operation": kind, "sessionId": "s1"} for kind in ("enqueue", "remove")]
    queued[0]["content"] = "go on"
    found = parse(
        row("user", "u1", None, "go on"),
        *queued,
        row("assistant", "a1", "u1", "One."),
        *queued,
        row("assistant", "a2", "a1", "Two."),
        row("user", "u2", "a2", "go on"),
    )
    assert [content for _, _, content in brief(found)] == ["go on", "One.", "go on", "Two.", "go on"]


def test_attachments_that_the_model_saw_are_kept() -> None:
    def attachment_row(uuid: str, **attachment: Any) -> dict[str, Any]:
        return {"type": "attachment", "uuid": uuid, "parentUuid": "u1", "sessionId": "s1", "attachment": attachment}

    file = {"filePath": "/r/app.log", "content": "boom\n", "numLines": 1}
    found = parse(
        row("user", "u1", None, "why does @app.log say so?"),
        attachment_row("b1", type="file", filename="/r/app.log", content={"type": "text", "file": file}),
        attachment_row("b2", type="file", filename="/r/a.png", content={"type": "image", "file": {"base64": "aGk="}}),
        attachment_row("b3", type="directory", path="/r", content="app.log"),
        attachment_row("b4", type="edited_text_file", filename="/r/a.py", snippet="1\tx = 2"),
        attachment_row("b5", type="selected_lines_in_ide", filename="/r/b.py", content="y = 3"),
        attachment_row("b6", type="diagnostics", files=[{"uri": "a.py"}]),
        attachment_row("b7", type="hook_blocking_error", blockingError={"blockingError": "tests fail", "command": "t"}),
        attachment_row("b8", type="todo_reminder", content=[], itemCount=0),
        attachment_row("b9", type="file", filename="/r/none"),
        row("user", "u2", "b9", "Operation stopped by hook: not here"),
    )
    assert brief(found)[1:] == [
        ("system", "injected", text)
        for text in (
            "/r/app.log\nboom\n",
            '/r/a.png\n{"base64":"aGk="}',
            "/r\napp.log",
            "/r/a.py\n1\tx = 2",
            "/r/b.py\ny = 3",
            '[{"uri":"a.py"}]',
            "tests fail",
            "Operation stopped by hook: not here",
        )
    ]


def test_a_broken_line_is_skipped_and_an_unpaired_surrogate_replaced_with_warnings() -> None:
    found = parse(row("user", "u1", None, "a"), '{"type": "user", "uu', "[1]", row("user", "u2", "u1", "half \ud800!"))
    assert [content for _, _, content in brief(found)] == ["a", "half \ufffd!"]
    assert [warning.split(":")[0] for warning in found.warnings] == ["line 2", "line 3", "line 4"]


LINES = [
    row("user", "u1", None, "first question"),
    row("assistant", "a1", "u1", [{"type": "text", "text": "first answer"}, call("c1", command="ls")]),
    row("user", "r1", "a1", [result("c1", "output")]),
    row("user", "u2", "r1", "second question"),
]


@given(st.integers(0, 4), st.text(st.characters(exclude_characters="\n"), max_size=40))
def test_junk_between_lines_loses_no_intact_line(at: int, junk: str) -> None:
    lines = [json.dumps(line) for line in LINES]
    found = claude_code.parse("\n".join([*lines[:at], junk, *lines[at:]]), "s1.jsonl")
    assert [turn.content for turn in found.turns] == [
        "first question",
        "first answer",
        '{"command":"ls"}',
        "output",
        "second question",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "type",
    "uuid",
    "parentUuid",
    "message",
    "isSidechain",
    "agentId",
    "data",
    "attachment",
    "operation",
    "content",
)


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON | st.sampled_from(["user", "assistant", "progress"]))))
def test_no_json_raises(rows: list[dict[str, Any]]) -> None:
    claude_code.parse("\n".join(json.dumps(line) for line in rows), "x.jsonl")


def test_every_user_message_of_a_real_session_is_in_a_turn(eval_dir: Path) -> None:
    files = sorted((eval_dir / "transcripts" / "claude-code").rglob("*.jsonl"))
    assert files
    for file in files:
        text = file.read_text("utf-8")
        found = registry.parse(text, file.name)
        assert found.agent == "claude-code"
        assert found.turns
        contents = [turn.content for turn in found.turns] + [
            turn.content for branch in found.abandoned_branches for turn in branch
        ]
        for line in text.split("\n"):
            if not line.strip():
                continue
            entry = json.loads(line)
            if entry.get("type") != "user" or entry.get("isSidechain") or "message" not in entry:
                continue
            content = entry["message"]["content"]
            texts = [content] if isinstance(content, str) else [b["text"] for b in content if b.get("type") == "text"]
            assert all(contents.count(text) >= 1 for text in texts)
