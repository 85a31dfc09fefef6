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
    context = printed(hook(data, "qwen-code", **prompt))
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
