"""Gemini CLI with a prompt as its argument, captured by its hooks."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.agents import gemini
from tests.agents.home import Home, assert_in_order, wait_for, wait_for_recall
from tests.agents.model import Model, call, hold, say
from tests.agents.packages import GEMINI, installed

pytestmark = pytest.mark.anyio


def command(*words: str) -> list[str | Path]:
    return [installed(GEMINI), "--yolo", "--model", gemini.MODEL, *words[:-1], "--prompt", words[-1]]


async def check_capture(home: Home) -> None:
    """Asserts that each session is stored once. The program removes files of its own accord: those sessions stay."""
    files = gemini.transcripts(home)
    assert {gemini.session_of(file) for file in files} <= set(await home.conversations())
    for file in files:
        assert_in_order(gemini.words_of(file), await home.turns(gemini.session_of(file)))


async def test_tools_an_error_a_resume_and_a_kill_are_captured(tmp_path: Path, model: Model) -> None:
    home = gemini.set_up(tmp_path / "home", model)
    model.replies.extend([
        [say("I look first."), call("shell", command="echo hi; ls /nonexist")],
        [call("list_conversations")],
        [say("ENOENT seen. äöü 🎉")],
    ])  # fmt: skip
    home.run(command("Look around."))
    assert "conversations" in json.dumps(model.main_requests[-1].body["contents"])  # what our tool returned
    await check_capture(home)
    model.replies.extend([[call("shell", command="echo again")], [say("Seen again.")]])
    home.run(command("--resume", "latest", "Look again."))
    await check_capture(home)
    assert await home.new_in_import() == 0
    await check_capture(home)
    wait_for_recall(model, lambda: home.run(command("Hello.")))
    model.replies.extend([[call("shell", command="echo more")], [say("Half an answer."), hold()]])
    running = home.start(command("Look elsewhere."))
    wait_for("an answer in progress", model.holding.is_set)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    model.release.set()
    model.replies.append([say("Seen at last.")])
    home.run(command("--resume", "latest", "Once more."))
    await check_capture(home)
    assert home.doctor_faults("gemini") == []
