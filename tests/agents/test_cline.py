"""Cline's CLI in one-shot mode and in a terminal, captured by its hooks."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ctxmem_mcp.text.host_text import RECALL_START
from tests.agents import cline, codex, test_codex
from tests.agents.home import Home, assert_in_order, wait_for
from tests.agents.model import Model, call, hold, say
from tests.agents.packages import CLINE, installed
from tests.agents.terminal import Terminal

pytestmark = pytest.mark.anyio
# On a busy machine a hook's time limit may pass; then the session starts without the one before.
TRIES_MAX = 4


async def check_capture(home: Home) -> None:
    """Asserts that each session is stored once, and nothing else."""
    files = cline.transcripts(home)
    assert sorted(await home.conversations()) == [cline.session_of(file) for file in files]
    for file in files:
        assert_in_order(cline.words_of(file), await home.turns(cline.session_of(file)))


def resumed(home: Home, session: str) -> Terminal:
    """The session in a terminal, without which the program doesn't resume it. At its end the program is killed."""
    terminal = Terminal(home, [installed(CLINE), "--id", session, "-i"])
    terminal.wait_for("Auto-approve all enabled")
    return terminal


def wait_until_said(home: Home, words: str) -> None:
    wait_for(repr(words), lambda: words in cline.words_of(cline.transcripts(home)[-1]))


async def test_tools_an_error_a_resume_and_a_kill_are_captured(tmp_path: Path, model: Model) -> None:
    command = installed(CLINE)
    with cline.set_up(tmp_path / "home", model) as home:
        model.replies.extend([
            [say("I look first."), call("shell", command="echo hi; ls /nonexist")],
            [call("list_conversations")],
            [say("ENOENT seen. äöü 🎉")],
        ])  # fmt: skip
        home.run([command, "Look around."])
        assert "conversations" in str(model.main_requests[-1].body["messages"][-1])  # what our tool returned
        await check_capture(home)
        session = cline.session_of(cline.transcripts(home)[-1])
        with resumed(home, session) as terminal:
            model.replies.extend([[call("shell", command="echo again")], [say("Seen again.")]])
            terminal.submit("Look again.")
            wait_until_said(home, "Seen again.")
        model.replies.extend([[call("shell", command="echo more")], [say("Half an answer."), hold()]])
        running = home.start([command, "Look elsewhere."])
        wait_for("an answer in progress", model.holding.is_set)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        model.release.set()
        await check_capture(home)
        assert len(cline.transcripts(home)) == 2
        assert home.doctor_faults("cline") == []


async def test_another_agent_goes_on_with_what_it_did(tmp_path: Path, model: Model) -> None:
    with cline.set_up(tmp_path / "home", model) as home:
        model.replies.append([say("The relay of cline is wired.")])
        home.run([installed(CLINE), "Work on the relay."])
    other = codex.set_up(tmp_path / "home", model)
    for _ in range(TRIES_MAX):
        model.replies.append([say("It goes on.")])
        other.run(test_codex.command("Go on with the work on the relay."))
        sent = str(model.main_requests[-1].body)
        if "The relay of cline is wired." in sent:
            break
    assert RECALL_START in sent
    assert "The relay of cline is wired." in sent
