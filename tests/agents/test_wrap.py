"""Agents that `ctxmem-mcp wrap` runs: compacted three times, stored once, with everything that is theirs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.agents import claude_code, codex
from tests.agents.home import COMMAND, SECONDS, Home, assert_in_order, wait_for
from tests.agents.model import Json, Model, call, say
from tests.agents.packages import CLAUDE_CODE, CODEX, installed
from tests.agents.terminal import Terminal

pytestmark = pytest.mark.anyio
SESSION = "21111111-2222-4333-8444-555555555555"
TASK = "Find out what the relay prints: every one of its lines matters."
LINE = re.compile(r"ctxmem: \d+k → \d+k tokens · 0% from cache · nothing lost")
# Each of these outputs is about a fifth of the budget.
ROUNDS, BUDGET = 26, "16000"


def rounds() -> list[list[Json]]:
    calls = [[say(f"Round {i}."), call("shell", command=f"seq -f 'relay {i} line %g' 1 300")] for i in range(ROUNDS)]
    return [*calls, [say("All lines were seen.")]]


def run_wrapped(home: Home, words: list[str | Path], budget: str = BUDGET) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in (COMMAND, "wrap", "--budget", budget, *words)]
    return subprocess.run(
        command, cwd=home.project, env=home.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=SECONDS * 2, check=False,
    )  # fmt: skip


def texts(value: Any) -> str:
    """All texts in a request's messages."""
    if isinstance(value, dict):
        return "\n".join(texts(inner) for inner in value.values())
    return "\n".join(map(texts, value)) if isinstance(value, list) else str(value)


async def test_codex_is_compacted_three_times_and_stored_once(tmp_path: Path, model: Model) -> None:
    home = codex.set_up(tmp_path / "home", model)
    model.replies.extend(rounds())
    options = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    done = run_wrapped(home, [installed(CODEX), "exec", *options, "--dangerously-bypass-hook-trust", TASK])
    assert done.returncode == 0, done.stderr
    assert "All lines were seen." in done.stdout
    assert len(LINE.findall(done.stderr)) >= 3, done.stderr
    requests = model.main_requests
    assert len(requests) == ROUNDS + 1
    assert all(TASK in texts(request.body["input"]) for request in requests)
    assert {request.headers["authorization"] for request in requests} == {"Bearer not-a-real-key"}
    (session,) = {request.headers["session-id"] for request in requests}
    assert await home.conversations() == [session]
    words = [word for item in codex.rows_of(codex.transcripts(home)[-1]) for word in codex.words_of(item)]
    assert_in_order(words, await home.turns(session))


async def test_claude_code_in_a_terminal_is_compacted_three_times_and_stored_once(tmp_path: Path, model: Model) -> None:
    home = claude_code.set_up(tmp_path / "home", model)
    model.replies.extend(rounds())
    command: list[str | Path] = [COMMAND, "wrap", "--budget", BUDGET, installed(CLAUDE_CODE), "--session-id", SESSION]
    with Terminal(home, command) as terminal:
        terminal.wait_for("manual mode on")
        terminal.submit(TASK)
        terminal.wait_for("All lines were seen.", seconds=SECONDS * 2)
        at = terminal.at
        terminal.submit("/exit")
        wait_for("the end", lambda: terminal.process.poll() is not None)
        shown = terminal.text(at)
    assert terminal.process.returncode == 0
    assert re.search(r"ctxmem: \d+k → \d+k tokens · .*nothing lost · compacted (\d+) times", shown), shown
    requests = model.main_requests
    assert len(requests) == ROUNDS + 1
    assert all(TASK in texts(request.body["messages"]) for request in requests)
    assert {request.headers["x-api-key"] for request in requests} == {claude_code.KEY}
    assert SESSION in await home.conversations()
    rows = claude_code.rows_of(claude_code.transcript_of(home, SESSION))
    words = [word for row in rows for word in claude_code.words_of(row)]
    assert_in_order(words, await home.turns(SESSION))
    assert "saved" in home.ctxmem("usage", SESSION)
