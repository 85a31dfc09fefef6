"""Claude Code and Copilot CLI give the model a command's long output in short, which the memory has whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.settings import Settings
from tests.agents import claude_code, copilot
from tests.agents.home import Home
from tests.agents.model import Model, call, say
from tests.agents.test_claude_code import ask as ask_claude_code
from tests.agents.test_copilot import command as copilot_command
from tests.text.test_long_output import FAILURES, OUTPUTS

pytestmark = pytest.mark.anyio
OUTPUT = (OUTPUTS / "pytest.txt").read_text("utf-8")
_PLACE = re.compile(r"expand_node with conversation (\S+) and id (t\d+) returns")


def ask_copilot(home: Home, prompt: str) -> None:
    home.run(copilot_command(prompt))


@pytest.mark.parametrize(
    ("agent", "set_up", "ask"),
    [("claude-code", claude_code.set_up, ask_claude_code), ("copilot-cli", copilot.set_up, ask_copilot)],
)
async def test_the_model_gets_the_short_output_unless_it_asks_again(
    tmp_path: Path, model: Model, agent: str, set_up: Callable[[Path, Model], Home], ask: Callable[[Home, str], None]
) -> None:
    home = set_up(tmp_path / "home", model)
    home.variables["CTXMEM_OUTPUT_TOKENS"] = "1000"
    home.ctxmem("install", agent)  # Claude Code waits for the hook only then
    (home.project / "build.log").write_text(OUTPUT, "utf-8")
    commands = ("cat build.log", "head -n 400 build.log", "cat build.log")
    model.replies.extend([*([call("shell", command=one)] for one in commands), [say("Four tests fail.")]])
    ask(home, "What fails?")
    first, part, again = (json.dumps(one.body["messages"][-1]) for one in model.main_requests[-3:])
    assert "test_frames[60]" not in first
    assert all(json.dumps(failure)[1:-1] in first for failure in FAILURES["pytest"])
    for whole in (part, again):
        assert "test_frames[60]" in whole
        assert "returns all of it" not in whole
    place = _PLACE.search(first)
    assert place
    async with open_memory(Settings(home.data)) as memory:
        assert OUTPUT.strip() in (await memory.turn(place[1], place[2])).content
