"""The other agents that `ctxmem-mcp wrap` runs: each compacted three times, with its own login and words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.agents import copilot, gemini, opencode, qwen_code, test_copilot, test_gemini, test_opencode, test_qwen_code
from tests.agents.home import Home, assert_in_order
from tests.agents.model import Model
from tests.agents.test_wrap import TASK, rounds, run_wrapped, texts

pytestmark = pytest.mark.anyio
ROUNDS, BUDGET = 14, "8000"
LINE = re.compile(r"ctxmem: \d+k → \d+k tokens · .*nothing lost")


def check_requests(home: Home, model: Model, command: list[str | Path], key_header: str, key: str) -> None:
    """Runs an agent; asserts that it finished, was compacted, and sent its task and its key with every request."""
    model.replies.extend(rounds()[-ROUNDS - 1 :])
    done = run_wrapped(home, command, BUDGET)
    assert done.returncode == 0, done.stderr
    assert "All lines were seen." in done.stdout
    assert len(LINE.findall(done.stderr)) >= 3, done.stderr
    requests = model.main_requests
    assert len(requests) == ROUNDS + 1
    assert all(TASK in texts(request.body) for request in requests)
    assert {request.headers[key_header] for request in requests} == {key}


async def test_gemini_cli_is_compacted_three_times(tmp_path: Path, model: Model) -> None:
    home = gemini.set_up(tmp_path / "home", model)
    check_requests(home, model, test_gemini.command(TASK), "x-goog-api-key", "not-a-real-key")
    (file,) = gemini.transcripts(home)
    assert await home.conversations() == [gemini.session_of(file)]
    assert_in_order(gemini.words_of(file), await home.turns(gemini.session_of(file)))


async def test_opencode_is_compacted_three_times(tmp_path: Path, model: Model) -> None:
    home = opencode.set_up(tmp_path / "home", model)
    check_requests(home, model, test_opencode.command(TASK), "authorization", "Bearer not-a-real-key")
    (session,) = opencode.sessions(home)
    assert await home.conversations() == [session]
    assert_in_order(opencode.words_of(home, session), await home.turns(session))


async def test_copilot_cli_is_compacted_three_times(tmp_path: Path, model: Model) -> None:
    home = copilot.set_up(tmp_path / "home", model)
    check_requests(home, model, test_copilot.command(TASK), "authorization", "Bearer not-a-real-key")
    (file,) = copilot.transcripts(home)
    assert await home.conversations() == [copilot.session_of(file)]
    assert_in_order(copilot.words_of(file), await home.turns(copilot.session_of(file)))


async def test_qwen_code_is_compacted_three_times(tmp_path: Path, model: Model) -> None:
    home = qwen_code.set_up(tmp_path / "home", model)
    check_requests(home, model, test_qwen_code.command(TASK), "authorization", "Bearer not-a-real-key")
    (file,) = qwen_code.transcripts(home)
    assert await home.conversations() == [file.stem]
    assert_in_order(qwen_code.words_of(file), await home.turns(file.stem))
