"""opencode's `run`, captured by our plugin."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.agents import opencode
from tests.agents.home import Home, assert_in_order, wait_for, wait_for_recall
from tests.agents.model import Model, call, hold, say
from tests.agents.packages import OPENCODE, installed

pytestmark = pytest.mark.anyio


def command(*words: str) -> list[str | Path]:
    return [installed(OPENCODE), "run", *words]


async def check_capture(home: Home) -> None:
    """Asserts that each session is stored once, and nothing else."""
    sessions = opencode.sessions(home)
    assert sorted(await home.conversations()) == sorted(sessions)
    for session in sessions:
        assert_in_order(opencode.words_of(home, session), await home.turns(session))


async def test_tools_an_error_a_resume_and_a_kill_are_captured(tmp_path: Path, model: Model) -> None:
    home = opencode.set_up(tmp_path / "home", model)
    model.replies.extend([
        [say("I look first."), call("shell", command="echo hi; ls /nonexist")],
        [call("list_conversations")],
        [say("ENOENT seen. äöü 🎉")],
    ])  # fmt: skip
    home.run(command("Look"))
    assert "conversations" in str(model.main_requests[-1].body["messages"][-1])  # what our tool returned
    await check_capture(home)
    (session,) = opencode.sessions(home)
    model.replies.extend([[call("shell", command="echo again")], [say("Seen again.")]])
    home.run(command("--session", session, "Look again."))
    await check_capture(home)
    assert await home.new_in_import() == 0
    wait_for_recall(model, lambda: home.run(command("Hello.")))
    model.replies.extend([[call("shell", command="echo more")], [say("Half an answer."), hold()]])
    running = home.start(command("Look elsewhere."))
    wait_for("an answer in progress", model.holding.is_set)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    model.release.set()
    model.replies.append([say("Seen at last.")])
    home.run(command("--session", opencode.sessions(home)[-1], "Once more."))
    await check_capture(home)
    assert home.doctor_faults("opencode") == []
