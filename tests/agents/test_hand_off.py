"""A session that one agent ends and another goes on with: each new session starts with what the one before did."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from ctxmem_mcp.text.host_text import RECALL_START
from tests.agents import (
    claude_code,
    codex,
    copilot,
    gemini,
    opencode,
    qwen_code,
    test_codex,
    test_copilot,
    test_gemini,
    test_opencode,
    test_qwen_code,
)
from tests.agents.home import Home
from tests.agents.model import Model, say
from tests.agents.packages import CLAUDE_CODE, installed

# On a busy machine a hook's time limit may pass; then the session starts without the one before.
TRIES_MAX = 4
SetUp = Callable[[Path, Model], Home]
AGENTS: dict[str, tuple[SetUp, Callable[[str], list[str | Path]]]] = {
    "claude-code": (claude_code.set_up, lambda prompt: [installed(CLAUDE_CODE), "-p", prompt]),
    "codex": (codex.set_up, test_codex.command),
    "gemini": (gemini.set_up, test_gemini.command),
    "opencode": (opencode.set_up, test_opencode.command),
    "copilot-cli": (copilot.set_up, test_copilot.command),
    "qwen-code": (qwen_code.set_up, test_qwen_code.command),
}


def test_each_agent_goes_on_with_what_another_did(tmp_path: Path, model: Model) -> None:
    homes = {name: set_up(tmp_path / "home", model) for name, (set_up, _) in AGENTS.items()}

    def work(name: str, answer: str) -> str:
        """Runs a session of an agent; returns its first request."""
        model.replies.append([say(answer)])
        first = len(model.main_requests)
        homes[name].run(AGENTS[name][1]("Go on with the work on the relay."))
        return json.dumps(model.main_requests[first].body)

    names = [*AGENTS, next(iter(AGENTS))]
    work(names[0], f"The relay of {names[0]} is wired.")
    for before, name in pairwise(names):
        expected = f"The relay of {before} is wired."
        sent = work(name, f"The relay of {name} is wired.")
        for _ in range(TRIES_MAX):
            if expected in sent:
                break
            work(before, expected)
            sent = work(name, f"The relay of {name} is wired.")
        assert RECALL_START in sent, name
        assert expected in sent, f"{before} to {name}"
