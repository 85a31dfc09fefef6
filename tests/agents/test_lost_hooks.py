"""Wrapped agents that do not name their session, and whose hooks did not run before the first request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.agents import copilot, gemini, qwen_code, test_copilot, test_gemini, test_qwen_code
from tests.agents.home import Home, assert_in_order
from tests.agents.model import Model, call, say
from tests.agents.test_wrap import run_wrapped

pytestmark = pytest.mark.anyio
# The events after which an agent's own request may follow.
EARLY = ("SessionStart", "UserPromptSubmit", "BeforeAgent")


class Agent(NamedTuple):
    """An agent. hooks: its file with the hooks; sessions: the words of each session in its own transcripts."""

    set_up: Callable[[Path, Model], Home]
    hooks: str
    command: Callable[..., list[str | Path]]
    sessions: Callable[[Home], dict[str, Iterator[str]]]


AGENTS = {
    "gemini": Agent(
        gemini.set_up, ".gemini/settings.json", test_gemini.command,
        lambda home: {gemini.session_of(file): gemini.words_of(file) for file in gemini.transcripts(home)},
    ),
    "copilot-cli": Agent(
        copilot.set_up, ".copilot/hooks/ctxmem.json", test_copilot.command,
        lambda home: {copilot.session_of(file): copilot.words_of(file) for file in copilot.transcripts(home)},
    ),
    "qwen-code": Agent(
        qwen_code.set_up, ".qwen/settings.json", test_qwen_code.command,
        lambda home: {file.stem: qwen_code.words_of(file) for file in qwen_code.transcripts(home)},
    ),
}  # fmt: skip


def lose_hooks(file: Path, events: tuple[str, ...] = EARLY) -> None:
    """Removes the hooks of these events, as if each had taken longer than the agent waits."""
    settings = json.loads(file.read_text("utf-8"))
    settings["hooks"] = {event: hooks for event, hooks in settings["hooks"].items() if event not in events}
    file.write_text(json.dumps(settings), "utf-8")


@pytest.mark.parametrize("name", AGENTS)
async def test_a_request_before_any_hook_is_stored_once(tmp_path: Path, model: Model, name: str) -> None:
    agent = AGENTS[name]
    home = agent.set_up(tmp_path / "home", model)
    lose_hooks(home.path / agent.hooks)
    model.replies.extend([[say("I look."), call("shell", command="echo hi")], [say("Seen.")]])
    done = run_wrapped(home, agent.command("Look around."))
    assert done.returncode == 0, done.stderr
    ((session, words),) = agent.sessions(home).items()
    assert await home.conversations() == [session]
    assert_in_order(words, await home.turns(session))
    assert "2" in home.ctxmem("usage", session)


# Not Qwen Code: it sends the session once more with a prompt of its own, to extract memories.
@pytest.mark.parametrize("name", ["gemini", "copilot-cli"])
async def test_the_only_request_of_a_run_is_stored_once_if_it_was_before_any_hook(
    tmp_path: Path, model: Model, name: str
) -> None:
    agent = AGENTS[name]
    home = agent.set_up(tmp_path / "home", model)
    lose_hooks(home.path / agent.hooks)
    model.replies.append([say("Hello there.")])
    done = run_wrapped(home, agent.command("Say hello."))
    assert done.returncode == 0, done.stderr
    ((session, words),) = agent.sessions(home).items()
    assert await home.conversations() == [session]
    assert_in_order(words, await home.turns(session))
    assert "1" in home.ctxmem("usage", session)
