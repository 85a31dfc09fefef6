"""The other agents that `ctxmem-mcp wrap` runs: each compacted three times, with its own login and words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agents import copilot, gemini, opencode, qwen_code, test_copilot, test_gemini, test_opencode, test_qwen_code
from tests.agents.home import Home, assert_in_order
from tests.agents.model import Model
from tests.agents.test_wrap import TASK, rounds, run_wrapped, texts

pytestmark = pytest.mark.anyio
ROUNDS, BUDGET = 14, "8000"
LINE = re.compile(r"ctxmem: \d+k → \d+k tokens · .*nothing lost")


async def check_run(
    home: Home,
    model: Model,
    command: list[str | Path],
    key_header: str,
    key: str,
    sessions: Callable[[], dict[str, Iterator[str]]],
) -> None:
    """Runs an agent; asserts that it finished, was compacted, sent its task and its key, and is one conversation.

    sessions: returns the texts of each session's own transcript.
    """
    model.replies.extend(rounds()[-ROUNDS - 1 :])
    done = run_wrapped(home, command, BUDGET)
    assert done.returncode == 0, done.stderr
    assert "All lines were seen." in done.stdout
    assert len(LINE.findall(done.stderr)) >= 3, done.stderr
    requests = model.main_requests
    assert len(requests) == ROUNDS + 1
    assert all(TASK in texts(request.body) for request in requests)
    assert {request.headers[key_header] for request in requests} == {key}
    ((session, words),) = sessions().items()
    assert await home.conversations() == [session]
    assert_in_order(words, await home.turns(session))


async def test_gemini_cli_is_compacted_three_times(tmp_path: Path, model: Model) -> None:
    home = gemini.set_up(tmp_path / "home", model)

    def sessions() -> dict[str, Iterator[str]]:
        return {gemini.session_of(file): gemini.words_of(file) for file in gemini.transcripts(home)}

    await check_run(home, model, test_gemini.command(TASK), "x-goog-api-key", "not-a-real-key", sessions)


async def test_opencode_is_compacted_three_times(tmp_path: Path, model: Model) -> None:
    home = opencode.set_up(tmp_path / "home", model)

    def sessions() -> dict[str, Iterator[str]]:
        return {session: opencode.words_of(home, session) for session in opencode.sessions(home)}

    await check_run(home, model, test_opencode.command(TASK), "authorization", "Bearer not-a-real-key", sessions)


async def test_copilot_cli_is_compacted_three_times(tmp_path: Path, model: Model) -> None:
    home = copilot.set_up(tmp_path / "home", model)

    def sessions() -> dict[str, Iterator[str]]:
        return {copilot.session_of(file): copilot.words_of(file) for file in copilot.transcripts(home)}

    await check_run(home, model, test_copilot.command(TASK), "authorization", "Bearer not-a-real-key", sessions)


async def test_qwen_code_is_compacted_three_times(tmp_path: Path, model: Model) -> None:
    home = qwen_code.set_up(tmp_path / "home", model)

    def sessions() -> dict[str, Iterator[str]]:
        return {file.stem: qwen_code.words_of(file) for file in qwen_code.transcripts(home)}

    await check_run(home, model, test_qwen_code.command(TASK), "authorization", "Bearer not-a-real-key", sessions)
