"""A hook quotes a turn of another session in the request of the prompt that it bears on, and in no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agents import claude_code, codex
from tests.agents.home import Home
from tests.agents.model import Model, say
from tests.agents.test_claude_code import ask as ask_claude_code
from tests.agents.test_codex import command as codex_command
from tests.hooks.test_prompt_recall import PROMPT, TALK

RECALLED = "Said earlier in this project"
Ask = Callable[[Home, str], None]


def ask_codex(home: Home, prompt: str) -> None:
    home.run(codex_command(prompt))


@pytest.mark.parametrize(
    ("set_up", "ask"), [(claude_code.set_up, ask_claude_code), (codex.set_up, ask_codex)], ids=["claude-code", "codex"]
)
def test_it_is_in_the_request_of_that_prompt_only(
    tmp_path: Path, model: Model, set_up: Callable[[Path, Model], Home], ask: Ask
) -> None:
    home = set_up(tmp_path / "home", model)
    (_, question), (_, answer), (_, request), (_, done) = TALK
    for prompt, reply in ((question, answer), (request, done), ("Add a licence file to the repository.", "Added.")):
        model.replies.append([say(reply)])
        ask(home, prompt)
    home.ctxmem("list")  # drains the spool
    assert not any(RECALLED in json.dumps(one.body) for one in model.main_requests)
    model.replies.append([say("Because the broker restarts.")])
    ask(home, PROMPT)
    text = json.dumps(model.main_requests[-1].body)
    assert text.count(RECALLED) == 1
    assert "because the broker restarts every night" in text.split(RECALLED)[1]
    model.replies.append([say("Sorted.")])
    ask(home, "Sort the licence's holders by surname.")
    assert RECALLED not in json.dumps(model.main_requests[-1].body)


def continue_claude_code(home: Home, prompt: str, session: str) -> None:
    ask_claude_code(home, prompt, "--resume", session)


def continue_codex(home: Home, prompt: str, session: str) -> None:
    home.run(codex_command("resume", session, prompt))


@pytest.mark.parametrize(
    ("set_up", "ask", "ask_again"),
    [
        (claude_code.set_up, ask_claude_code, continue_claude_code),
        (codex.set_up, ask_codex, continue_codex),
    ],
    ids=["claude-code", "codex"],
)
def test_in_a_long_session_a_question_is_answered_and_a_request_is_not(
    tmp_path: Path,
    model: Model,
    set_up: Callable[[Path, Model], Home],
    ask: Ask,
    ask_again: Callable[[Home, str, str], None],
) -> None:
    home = set_up(tmp_path / "home", model)
    (_, question), (_, answer), *_ = TALK
    # A session's start quotes the last session, and what it quotes is not added again: so another one is the last.
    for prompt, reply in ((question, answer), ("Sort the licence's holders by surname.", "Sorted.")):
        model.replies.append([say(reply)])
        ask(home, prompt)
    model.replies.append([say("The headings are larger, the shadows softer. " * 600)])
    ask(home, "Make the landing page calmer.")
    headers = model.main_requests[-1].headers
    session = headers.get("x-claude-code-session-id") or headers["session-id"]
    home.ctxmem("list")  # drains the spool
    for prompt in (PROMPT, "Put the retry queue of the relay into a file."):
        model.replies.append([say("Done.")])
        ask_again(home, prompt, session)
        # The second request has the first one's.
        assert json.dumps(model.main_requests[-1].body).count(RECALLED) == 1, prompt
