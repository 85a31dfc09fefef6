"""Claude Code in print mode: captured by its hooks, and through the gateway."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from ctxmem_mcp.agents import CLAUDE_CODE as CLAUDE
from ctxmem_mcp.install.hook_edits import JsonHooks
from ctxmem_mcp.install.server_entry import ServerCommand
from ctxmem_mcp.text.host_text import RECALL_START
from tests.agents import claude_code
from tests.agents.claude_code import rows_of, words_of
from tests.agents.gateway import Gateway
from tests.agents.home import COMMAND, Home, assert_in_order, wait_for
from tests.agents.model import Model, Request, call, hold, refuse, say
from tests.agents.packages import CLAUDE_CODE, installed

pytestmark = pytest.mark.anyio
LIST = "mcp__ctxmem__list_conversations"
SESSION = "22222222-2222-4333-8444-555555555555"


def ask(home: Home, prompt: str, *options: str) -> None:
    answer = json.loads(home.run([installed(CLAUDE_CODE), "-p", "--output-format", "json", *options, prompt]))
    assert answer["is_error"] is False, answer


async def check_capture(home: Home) -> None:
    """Asserts that the session is stored once, and nothing else."""
    assert await home.conversations() == [SESSION]
    rows = rows_of(claude_code.transcript_of(home, SESSION))
    # A killed agent may not have written the prompt that its hook had received.
    assert_in_order([word for row in rows for word in words_of(row)], await home.turns(SESSION), also=["And again."])


async def test_tools_an_error_a_resume_and_a_kill_are_captured(tmp_path: Path, model: Model) -> None:
    home = claude_code.set_up(tmp_path / "home", model)
    model.replies.extend([
        [say("I look first."), call("shell", command="echo hi; ls /nonexist"), call("shell", command="echo two")],
        [call("ToolSearch", query=f"select:{LIST}", max_results=3)],
        [call(LIST)],
        [say("ENOENT seen. äöü 🎉")],
    ])  # fmt: skip
    ask(home, "Look around.", "--session-id", SESSION)
    results = json.dumps(model.main_requests[-1].body["messages"])
    assert '\\"conversations\\"' in results  # what our tool returned
    model.replies.extend([[call("shell", command="echo again")], [say("Seen again.")]])
    ask(home, "Look again.", "--resume", SESSION)
    model.replies.append([say("Half an answer."), hold()])
    running = home.start([installed(CLAUDE_CODE), "-p", "--resume", SESSION, "And again."])
    wait_for("an answer in progress", model.holding.is_set)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    model.release.set()
    model.replies.append([say("Seen at last.")])
    ask(home, "Once more.", "--resume", SESSION)
    await check_capture(home)
    assert home.doctor_faults("claude-code") == []


INSTRUCTIONS = "# Rules\n\nCall the port of the relay 7412, never 7413.\n"
TASK = "Rename the relay's port in every file, and keep a list of those that name 7413."


def folds(requests: list[Request]) -> int:
    """How many views of the history were sent, one after the other."""
    return len({json.dumps(found) for request in requests if (found := _view_in(request))})


def _view_in(request: Request) -> object:
    first = request.body["messages"][0]
    return first["content"] if RECALL_START in json.dumps(first) else None


async def test_the_task_and_the_instructions_are_in_every_request_through_the_gateway(
    tmp_path: Path, model: Model
) -> None:
    home = claude_code.set_up(tmp_path / "home", model)
    (home.project / "CLAUDE.md").write_text(INSTRUCTIONS, "utf-8")
    with Gateway(home, model) as gateway:
        home.variables |= {"ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_CUSTOM_HEADERS": "memory: true"}
        for number in range(14):
            lines = f"seq -f 'file {number}, line %g: port 7413' 1 180"
            model.replies.append([say(f"Step {number}."), call("shell", command=lines)])
        model.replies.append([say("All files are renamed.")])
        ask(home, TASK, "--session-id", SESSION)
    sent = model.main_requests
    assert folds(sent) >= 3
    for request in sent:
        text = json.dumps(request.body["messages"], ensure_ascii=False)
        assert TASK in text
        assert "Call the port of the relay 7412, never 7413." in text
    await check_capture(home)


async def test_a_sub_agent_through_the_gateway_and_hooks_is_one_conversation(tmp_path: Path, model: Model) -> None:
    home = claude_code.set_up(tmp_path / "home", model)
    task = {"description": "look", "subagent_type": "general-purpose", "run_in_background": False}
    with Gateway(home, model) as gateway:
        home.variables |= {"ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_CUSTOM_HEADERS": "memory: true"}
        model.replies.extend([
            [say("I delegate."), call("Agent", prompt="Count the relays.", **task)],
            [say("I count."), call("shell", command="echo seven")],
            [say("Seven relays.")],
            [say("There are seven.")],
        ])  # fmt: skip
        ask(home, TASK, "--session-id", SESSION)
    main = claude_code.transcript_of(home, SESSION)
    (file,) = (main.parent / SESSION / "subagents").glob("agent-*.jsonl")
    subagent = f"{SESSION}:{file.stem.removeprefix('agent-')}"
    assert sorted(await home.conversations()) == sorted([SESSION, subagent])
    for conversation, transcript in ((SESSION, main), (subagent, file)):
        words = [word for row in rows_of(transcript) for word in words_of(row)]
        assert_in_order(words, await home.turns(conversation))


async def test_failures_are_captured_by_hooks_that_need_no_shell(tmp_path: Path, model: Model) -> None:
    """Of all hooks only those of failures are left, and they are called as on Windows."""
    home = claude_code.set_up(tmp_path / "a $HOME 'of' mine", model)
    file = home.path / ".claude" / "settings.json"
    edit = JsonHooks(file, CLAUDE, agent_version=(2, 1, 332))
    settings = json.loads(edit.put(file.read_text("utf-8"), ServerCommand(str(COMMAND), str(home.data), "windows")))
    settings["hooks"] = {event: settings["hooks"][event] for event in ("PostToolUseFailure", "StopFailure")}
    assert settings["hooks"]["StopFailure"][0]["hooks"][0]["args"] == [
        "hook",
        "claude-code",
        "--data-dir",
        str(home.data),
    ]
    file.write_text(json.dumps(settings), "utf-8")
    model.replies.extend([[say("I try."), call("shell", command="nosuchprogram")], *[[refuse(400)]] * 9])
    done = home.run([installed(CLAUDE_CODE), "-p", "--session-id", SESSION, TASK], check=False)
    assert "refused" in done
    spooled = b"".join(one.read_bytes() for one in (home.data / "spool").iterdir())
    assert {name for name in settings["hooks"] if name.encode() in spooled} == set(settings["hooks"])
    assert home.ctxmem("list").count(SESSION[:8]) == 1
    turns = [turn.content for turn in await home.turns(SESSION)]
    assert TASK in turns
    assert any("nosuchprogram: command not found" in content for content in turns)
