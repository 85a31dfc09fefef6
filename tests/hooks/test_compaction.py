"""After a compaction, the session's next event brings what the recap left out, once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ctxmem_mcp.hooks import compactions, session_start
from tests.capture.agents import PATIENT, Agent, environment, run

RECAP = (
    "This session is being continued from a previous conversation that ran out of context.\n"
    "1. The user asked to move the relay to port 7412.\n2. All tests pass."
)
COLOURS = (
    "Which colours has the landing page?",
    "The palette of the landing page is teal and slate, with amber accents.",
)
DECISIONS = [
    text
    for name in ("router", "parser", "ledger", "mailer", "cache", "queue")
    for text in (
        f"Where should the {name} write its journal?",
        f"We decided to write the journal of the {name} beside its sources, because the {name} restarts every night.",
    )
]
ERROR = "Exit code 1\nrelay.py:88: error: Unsupported operand types for + (port and None)"


def row(number: int, role: str, content: object, **more: object) -> dict[str, object]:
    message = {"role": role, "content": content}
    parent = str(number - 1) if number else None
    return {"type": role, "uuid": str(number), "parentUuid": parent, "sessionId": "s-1", "cwd": "/w",
            "message": message, **more}  # fmt: skip


@pytest.fixture
def compacted(tmp_path: Path) -> Agent:
    """A session whose recap is written after the hook of its start, as Claude Code does."""
    return compacted_after(tmp_path)


def compacted_after(tmp_path: Path, *said: str) -> Agent:
    """Such a session, with prompts and answers before the compaction."""
    call = {"type": "tool_use", "id": "c1", "name": "Bash", "input": {"command": "mypy src"}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": ERROR, "is_error": True}
    last = str(29 + len(said)) if said else "3"
    rows = [
        row(0, "user", "Move the relay to port 7412. Always keep the old port open for a week."),
        row(1, "assistant", [call]),
        row(2, "user", [result]),
        row(3, "assistant", [{"type": "text", "text": "We decided to keep sqlite because the driver can't do WAL."}]),
        {"type": "system", "subtype": "compact_boundary", "uuid": "b", "parentUuid": None, "logicalParentUuid": last,
         "sessionId": "s-1", "content": "Conversation compacted"},
        row(5, "user", RECAP, parentUuid="b", isCompactSummary=True),
    ]  # fmt: skip
    rows[4:4] = [
        row(30 + n, ("user", "assistant")[n % 2], text, parentUuid=str(29 + n) if n else "3")
        for n, text in enumerate(said)
    ]
    agent = Agent(tmp_path / "data", tmp_path / "s-1.jsonl", [json.dumps(one) for one in rows])
    agent.write(4 + len(said))
    started = agent.hook("SessionStart", source="compact")
    assert (started.returncode, started.stdout, started.stderr) == (0, b"", b"")
    agent.write(len(rows))
    return agent


def send(
    agent: Agent, event: str = "UserPromptSubmit", prompt: str = "Go on.", **more: str
) -> subprocess.CompletedProcess[bytes]:
    given = agent.event(event, prompt=prompt, **more)
    settings = {name: value for name, value in more.items() if name.isupper()}
    variables = environment(agent.data, **settings)
    command = [*PATIENT, "hook", "claude-code"]
    return subprocess.run(command, input=given, capture_output=True, env=variables, timeout=100, check=False)


@pytest.mark.parametrize("event", ["UserPromptSubmit", "PostToolUse"])
def test_the_next_event_brings_what_the_recap_left_out_once(compacted: Agent, event: str) -> None:
    response = json.loads(send(compacted, event).stdout)["hookSpecificOutput"]
    context = response["additionalContext"]
    assert response["hookEventName"] == event
    assert context.startswith("[ctxmem-mcp recalls] conversation s-1, what the summary of this session leaves out,")
    assert "relay.py:88: error: Unsupported operand types for + (port and None)" in context
    assert "keep the old port open for a week" in context
    assert "keep sqlite because the driver" in context
    assert "- Move the relay to port 7412" not in context  # the recap states it
    again = send(compacted, event)
    assert (again.returncode, again.stdout, again.stderr) == (0, b"", b"")


def test_the_first_prompt_brings_quotations_for_it_too(tmp_path: Path) -> None:
    compacted = compacted_after(tmp_path, *COLOURS, *DECISIONS)
    prompt = "Use the amber of the palette for the headings."
    sent = send(compacted, prompt=prompt, CTXMEM_COMPACTION_TOKENS="500")
    response = json.loads(sent.stdout)["hookSpecificOutput"]
    left_out, _, quoted = response["additionalContext"].rpartition("Said earlier in this project")
    assert "restarts every night" in left_out
    assert COLOURS[1] not in left_out
    assert COLOURS[1] in quoted
    assert "restarts every night" not in quoted


def test_quotations_come_alone_if_what_the_recap_left_out_is_turned_off(tmp_path: Path) -> None:
    compacted = compacted_after(tmp_path, *COLOURS)
    assert run(compacted.data, "import", str(compacted.file)).returncode == 0
    sent = send(compacted, prompt="Use the amber of the palette for the headings.", CTXMEM_COMPACTION_TOKENS="0")
    context = json.loads(sent.stdout)["hookSpecificOutput"]["additionalContext"]
    assert context.startswith("[ctxmem-mcp recalls] Said earlier in this project")
    assert COLOURS[1] in context


def test_an_error_in_the_quotations_loses_nothing_that_the_recap_left_out(tmp_path: Path) -> None:
    compacted = compacted_after(tmp_path, *COLOURS, *DECISIONS)
    (compacted.data / "warned").write_text("", "utf-8")
    sent = send(compacted, prompt="Use the amber of the palette for the headings.")
    assert "restarts every night" in json.loads(sent.stdout)["hookSpecificOutput"]["additionalContext"]
    assert sent.stderr.startswith(b"ctxmem-mcp hook: ")


LATE_MAIN = """
import sys
from ctxmem_mcp.hooks import prompt_recall, session_start
find = prompt_recall.quotations_for
def find_late(*given):
    found = find(*given)
    session_start.SECONDS_MAX = 0.0
    return found
session_start.SECONDS_MAX, prompt_recall.quotations_for = 90.0, find_late
from ctxmem_mcp.__main__ import main
sys.exit(main())
"""


def test_what_comes_too_late_is_brought_by_the_next_prompt(tmp_path: Path) -> None:
    compacted = compacted_after(tmp_path, *COLOURS, *DECISIONS)
    prompt, budget = "Use the amber of the palette for the headings.", {"CTXMEM_COMPACTION_TOKENS": "500"}
    late = subprocess.run(
        [sys.executable, "-c", LATE_MAIN, "hook", "claude-code"],
        input=compacted.event("UserPromptSubmit", prompt=prompt), capture_output=True, timeout=100, check=True,
        env=environment(compacted.data, **budget),
    )  # fmt: skip
    assert (late.stdout, late.stderr) == (b"", b"")
    context = json.loads(send(compacted, prompt=prompt, **budget).stdout)["hookSpecificOutput"]["additionalContext"]
    left_out, _, quoted = context.rpartition("Said earlier in this project")
    assert "restarts every night" in left_out
    assert COLOURS[1] in quoted


def test_other_sessions_and_sub_agents_get_nothing(compacted: Agent) -> None:
    other = run(compacted.data, "hook", "claude-code", given=compacted.event("UserPromptSubmit", session_id="s-9"))
    assert other.stdout == b""
    assert send(compacted, agent_id="a1").stdout == b""
    assert b"Unsupported operand" in send(compacted).stdout


def test_the_setting_turns_it_off(compacted: Agent) -> None:
    ran = send(compacted, CTXMEM_COMPACTION_TOKENS="0")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


def test_a_session_with_an_odd_id_is_noted_in_the_folder(tmp_path: Path) -> None:
    for session in ("../../x", "", "a/b", "x" * 500):
        compactions.note(str(tmp_path), session)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["ab", "x", "x" * 128]
    assert compactions.take(str(tmp_path), "a/b")
    assert not compactions.take(str(tmp_path), "a/b")


@pytest.mark.parametrize(
    ("agent", "event", "is_noted"),
    [
        ("claude-code", {"hook_event_name": "SessionStart", "source": "compact"}, True),
        ("claude-code", {"hook_event_name": "SessionStart", "source": "startup"}, False),
        ("qwen-code", {"hook_event_name": "SessionStart", "source": "compact"}, True),
        ("qwen-code", {"hook_event_name": "UserPromptSubmit", "prompt": "SessionStart", "source": "compact"}, False),
        ("copilot-cli", {"hook_event_name": "PreCompact", "trigger": "auto"}, True),
        ("gemini", {"hook_event_name": "PreCompress", "trigger": "auto"}, False),  # comes before every request
        ("codex", {"hook_event_name": "SessionStart", "source": "compact"}, False),  # its reply brings it
    ],
)
def test_a_compaction_is_noted_if_a_later_event_must_bring_what_the_recap_left_out(
    agent: str, event: dict[str, str], is_noted: bool, tmp_path: Path
) -> None:
    raw = json.dumps({"session_id": "s-1", **event}).encode()
    assert session_start.note_compaction(agent, raw, str(tmp_path)) == is_noted
    assert compactions.take(str(tmp_path), "s-1") == is_noted
