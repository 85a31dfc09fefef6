"""Qwen Code with a prompt as its argument, captured by its hooks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agents import qwen_code
from tests.agents.home import Home, assert_in_order, wait_for_recall
from tests.agents.model import Model, call, say
from tests.agents.packages import QWEN_CODE, installed

pytestmark = pytest.mark.anyio
LIST = "mcp__ctxmem__list_conversations"


def command(*words: str) -> list[str | Path]:
    return [installed(QWEN_CODE), "--yolo", *words[:-1], "-p", words[-1]]


async def check_capture(home: Home) -> None:
    """Asserts that each session is stored once, and nothing else."""
    files = qwen_code.transcripts(home)
    assert sorted(await home.conversations()) == sorted(file.stem for file in files)
    for file in files:
        assert_in_order(qwen_code.words_of(file), await home.turns(file.stem))


async def test_tools_an_error_and_a_resume_are_captured(tmp_path: Path, model: Model) -> None:
    home = qwen_code.set_up(tmp_path / "home", model)
    model.replies.extend([
        [say("I look first."), call("shell", command="echo hi; ls /nonexist")],
        [call("tool_search", query=f"select:{LIST}")],
        [call(LIST)],
        [say("ENOENT seen. äöü 🎉")],
    ])  # fmt: skip
    home.run(command("Look around."))
    assert "conversations" in str(model.main_requests[-1].body["messages"][-1])  # what our tool returned
    await check_capture(home)
    (file,) = qwen_code.transcripts(home)
    model.replies.extend([[call("shell", command="echo again")], [say("Seen again.")]])
    home.run(command("--resume", file.stem, "Look again."))
    await check_capture(home)
    assert await home.new_in_import() == 0
    wait_for_recall(model, lambda: home.run(command("Hello.")))
    await check_capture(home)
    assert home.doctor_faults("qwen-code") == []
