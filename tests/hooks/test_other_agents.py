"""The context of a new session in the forms of agents other than Claude Code and Codex."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.capture.agents import drain_spool, load_turns, run

WORDS = "The relay listens on 7412."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A memory in which a session in /w is stored."""
    events = [
        {"session_id": "s-1", "cwd": "/w", "hook_event_name": "UserPromptSubmit", "prompt": "Name the port."},
        {"session_id": "s-1", "cwd": "/w", "hook_event_name": "Stop", "last_assistant_message": WORDS},
    ]
    for event in events:
        run(tmp_path / "data", "hook", "claude-code", given=json.dumps(event).encode())
    return tmp_path / "data"


def hook(data: Path, agent: str, **fields: Any) -> subprocess.CompletedProcess[bytes]:
    event = {"session_id": "s-2", "cwd": "/w", **fields}
    return run(data, "hook", agent, given=json.dumps(event).encode())


def first_reply(data: Path, agent: str, **fields: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs the hook until it replies: on a busy machine its time may end first, and then it prints nothing."""
    for _ in range(10):
        ran = hook(data, agent, **fields)
        if ran.stdout:
            break
    return ran


def printed(ran: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ran.stdout)
    return found.get("hookSpecificOutput") or found


def test_a_session_gets_the_one_before_also_if_its_first_prompt_was_reported_earlier(data: Path) -> None:
    hook(data, "copilot-cli", hook_event_name="UserPromptSubmit", prompt="Which port?")
    context = printed(hook(data, "copilot-cli", hook_event_name="SessionStart", source="new"))
    assert list(context) == ["additionalContext"]
    assert context["additionalContext"].startswith("[ctxmem-mcp recalls] conversation s-1, the last session in this")
    assert WORDS in context["additionalContext"]
    compacted = printed(hook(data, "copilot-cli", hook_event_name="SessionStart", source="compact"))
    assert compacted["additionalContext"].startswith("[ctxmem-mcp recalls] conversation s-2, this session so far")


def test_a_session_without_another_before_it_gets_no_context(tmp_path: Path) -> None:
    hook(tmp_path, "copilot-cli", hook_event_name="UserPromptSubmit", prompt="Which port?")
    assert hook(tmp_path, "copilot-cli", hook_event_name="SessionStart", source="new").stdout == b""


def test_qwen_code_gets_the_context_at_its_first_prompt_only(data: Path, tmp_path: Path) -> None:
    """It ignores what is printed at a session's start, and writes the transcript after the first prompt's hook."""
    file = tmp_path / "s-2.jsonl"
    prompt = {"hook_event_name": "UserPromptSubmit", "prompt": "Which port?", "transcript_path": str(file)}
    context = printed(first_reply(data, "qwen-code", **prompt))
    assert context["hookEventName"] == "UserPromptSubmit"
    assert WORDS in context["additionalContext"]
    assert hook(data, "qwen-code", hook_event_name="SessionStart", source="startup").stdout == b""
    file.write_text("{}\n")
    assert hook(data, "qwen-code", **prompt).stdout == b""


@pytest.mark.anyio
async def test_the_context_that_gemini_puts_before_a_prompt_is_not_the_users_words(data: Path) -> None:
    start = printed(hook(data, "gemini", hook_event_name="SessionStart", source="startup"))
    prompt = f"<hook_context>{start['additionalContext']}</hook_context>\n\nWhich port?"
    hook(data, "gemini", hook_event_name="BeforeAgent", prompt=prompt)
    await drain_spool(data, wait=True)
    turns, _ = await load_turns(data, "s-2")
    assert [(turn.role, turn.content) for turn in turns if turn.role != "system"] == [("user", "Which port?")]


def vscode_transcript(file: Path, *rows: tuple[str, dict[str, Any]]) -> Path:
    """A transcript as VS Code writes it, with the events of these types and contents."""
    start = {"sessionId": "s-3", "version": 1, "producer": "copilot-agent", "vscodeVersion": "1.118.0"}
    events = [("session.start", start), *rows]
    lines = [
        {"type": kind, "data": data, "id": f"e{i}", "parentId": f"e{i - 1}" if i else None,
         "timestamp": f"2026-11-12T10:00:0{i}.000Z"}
        for i, (kind, data) in enumerate(events)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return file


@pytest.mark.anyio
@pytest.mark.parametrize("agent", ["copilot-cli", "claude-code"])
async def test_vscode_runs_the_hooks_of_both_agents_with_events_of_its_own(
    data: Path, tmp_path: Path, agent: str
) -> None:
    """The fields are those that its documentation names. The transcript has the prompt, a call and the answer."""
    call = {"toolCallId": "c1", "toolName": "read_file"}
    file = vscode_transcript(
        tmp_path / "s-3.jsonl",
        ("user.message", {"content": "Which port?", "attachments": []}),
        ("assistant.message", {"messageId": "m1", "content": "I look.", "toolRequests": [
            {"toolCallId": "c1", "name": "read_file", "arguments": '{"filePath":"/w/relay.py"}', "type": "function"}
        ]}),
        ("tool.execution_start", {**call, "arguments": {"filePath": "/w/relay.py"}}),
        ("tool.execution_complete", {**call, "success": True, "result": {"content": "PORT = 7412"}}),
        ("assistant.message", {"messageId": "m2", "content": "It is 7412.", "toolRequests": []}),
    )  # fmt: skip
    common = {"timestamp": "2026-11-12T10:00:00Z", "cwd": "/w", "sessionId": "s-3", "transcript_path": str(file)}

    def send(name: str, **fields: Any) -> subprocess.CompletedProcess[bytes]:
        event = {**common, "hookEventName": name, **fields}
        return run(data, "hook", agent, given=json.dumps(event).encode())

    context = printed(send("SessionStart", source="new"))
    assert context["hookEventName"] == "SessionStart"
    assert WORDS in context["additionalContext"]
    send("UserPromptSubmit", prompt="Which port?")
    send("PostToolUse", tool_name="read_file", tool_input={"filePath": "/w/relay.py"}, tool_response="PORT = 7412",
         tool_use_id="c1")  # fmt: skip
    send("Stop", stop_hook_active=False)
    await drain_spool(data, wait=True)
    turns, _ = await load_turns(data, "s-3")
    words = [turn.content for turn in turns if turn.role != "system"]
    assert words == ["Which port?", "I look.", '{"filePath":"/w/relay.py"}', "PORT = 7412", "It is 7412."]
    assert not (data / "unrecognised").exists()


@pytest.mark.anyio
async def test_vscodes_prompts_and_calls_are_stored_without_a_transcript(data: Path) -> None:
    for name, fields in (
        ("UserPromptSubmit", {"prompt": "Which port?"}),
        ("PostToolUse", {"tool_name": "grep", "tool_input": {"query": "PORT"}, "tool_response": "7412"}),
    ):
        event = {"cwd": "/w", "sessionId": "s-3", "hookEventName": name, **fields}
        run(data, "hook", "copilot-cli", given=json.dumps(event).encode())
    await drain_spool(data, wait=True)
    turns, _ = await load_turns(data, "s-3")
    assert [turn.content for turn in turns] == ["Which port?", '{"query":"PORT"}', "7412"]
