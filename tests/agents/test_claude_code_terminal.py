"""A long session of Claude Code in a terminal, with everything that a user does there."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.agents import claude_code
from tests.agents.claude_code import Row, rows_of, words_of
from tests.agents.home import Home, assert_in_order, wait_for
from tests.agents.model import Model, call, hold, say
from tests.agents.packages import CLAUDE_CODE, installed
from tests.agents.terminal import ENTER, UP, Terminal

pytestmark = pytest.mark.anyio
SESSION = "11111111-2222-4333-8444-555555555555"
RESTORE, FROM_HERE, UP_TO_HERE = "1", "2", "3"
LEFT_OUT = "what the summary of this session leaves out"
FAILED_BEFORE = "This call failed before"
CLEAR_LINE = "\x15"


class User:
    """Who sits before the terminal."""

    def __init__(self, home: Home, model: Model, terminal: Terminal) -> None:
        self.home, self.model, self.terminal = home, model, terminal
        terminal.wait_for("manual mode on")

    def rows(self) -> list[Row]:
        return rows_of(claude_code.transcript_of(self.home, SESSION))

    def count(self, subtype: str) -> int:
        try:
            return sum(row.get("subtype") == subtype for row in self.rows())
        except ValueError:  # there is no transcript before the first prompt
            return 0

    def ask(self, prompt: str, *replies: list[dict[str, Any]]) -> None:
        """Sends a prompt and waits until the agent's turn is over."""
        before = self.count("turn_duration")
        self.model.replies.extend(replies)
        self.terminal.submit(prompt)
        wait_for(f"the end of {prompt!r}", lambda: self.count("turn_duration") > before)

    def compact(self) -> None:
        before = self.count("compact_boundary")
        self.terminal.submit("/compact")
        wait_for("the compaction", lambda: self.count("compact_boundary") > before)
        self.terminal.wait_for("Compacted")

    def rewind(self, prompts: int, choice: str) -> None:
        """Opens the menu, goes up by so many prompts, and chooses an entry."""
        terminal, before = self.terminal, self.count("compact_boundary")
        at = terminal.at
        terminal.submit("/rewind")
        terminal.wait_for("Enter to continue", after=at)
        for _ in range(prompts):
            self._press_up()
        at = terminal.at
        terminal.send(ENTER)
        terminal.wait_for("Never mind", after=at)
        at = terminal.at
        terminal.send(choice)
        if choice == RESTORE:
            terminal.wait_for("manual mode on", after=at)
            terminal.send(CLEAR_LINE)  # the prompt is there again, to be edited
            terminal.wait_for("deleted text", after=at)
        else:
            wait_for("the summary", lambda: self.count("compact_boundary") > before)
            terminal.wait_for("manual mode on", after=at)

    def _press_up(self) -> None:
        at = self.terminal.at
        self.terminal.send(UP)
        wait_for("the menu", lambda: self.terminal.at > at)


async def test_every_row_with_words_is_on_the_heads_line_once(tmp_path: Path, model: Model) -> None:
    home = claude_code.set_up(tmp_path / "home", model)
    command = installed(CLAUDE_CODE)
    with Terminal(home, [command, "--session-id", SESSION]) as terminal:
        user = User(home, model, terminal)
        user.ask("First task äöü 🎉", [call("shell", command="echo one; ls /nonexist")], [say("Answer one.")])
        user.compact()
        user.ask("Second task", [call("shell", command="echo two")], [say("Answer two.")])
        user.ask("Third task", [say("Answer three.")])
        user.compact()
        user.ask("Fourth task", [say("Answer four.")])
        user.ask("Fifth task", [call("shell", command="echo five")], [say("Answer five.")])
        user.rewind(1, FROM_HERE)
        user.ask("Sixth task", [say("Answer six.")])
        user.ask("Seventh task", [say("Answer seven.")])
        user.rewind(1, UP_TO_HERE)
        user.ask("Eighth task", [say("Answer eight.")])
        user.rewind(1, RESTORE)
        user.ask("Ninth task", [say("Answer nine.")])
        model.replies.append([say("Half an answer."), hold()])
        terminal.submit("Tenth task")
        wait_for("an answer in progress", model.holding.is_set)
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.process.wait()
    model.release.set()
    model.replies.append([say("Answer eleven.")])
    home.run([command, "-p", "--resume", SESSION, "Eleventh task"])
    rows = rows_of(claude_code.transcript_of(home, SESSION))
    rewound = _between(rows, "Eighth task", "Ninth task")
    assert "Answer eight." in [word for row in rewound for word in words_of(row)]
    turns = await home.turns(SESSION)
    words = [word for row in rows if row not in rewound for word in words_of(row)]
    # A killed agent may not have written the prompt that its hook had received.
    assert_in_order(words, turns, also=["Tenth task"])
    assert not {word for row in rewound for word in words_of(row)} & {turn.content for turn in turns}
    assert home.doctor_faults("claude-code") == []


def _between(rows: list[Row], first: str, end: str) -> list[Row]:
    """The rows from one prompt to before another."""
    at = [next(i for i, row in enumerate(rows) if prompt in words_of(row)) for prompt in (first, end)]
    return rows[at[0] : at[1]]


async def test_what_the_recap_left_out_is_in_the_request_after_a_compaction(tmp_path: Path, model: Model) -> None:
    home = claude_code.set_up(tmp_path / "home", model)
    with Terminal(home, [installed(CLAUDE_CODE), "--session-id", SESSION]) as terminal:
        user = User(home, model, terminal)
        user.ask("First task", [call("shell", command="echo one; ls /nonexist")], [say("Answer one.")])
        user.compact()
        user.ask("Second task", [call("shell", command="echo two")], [say("Answer two.")])
    texts = [json.dumps(request.body) for request in model.main_requests]
    added = next(i for i, text in enumerate(texts) if LEFT_OUT in text)
    assert "Second task" in texts[added]
    assert "Second task" not in texts[added - 1]
    assert "- First task (t0 user)" in texts[added].split(LEFT_OUT)[1]
    assert all(text.count(LEFT_OUT) == 1 for text in texts[added:])


async def test_a_repeated_failure_is_reported_with_the_next_request(tmp_path: Path, model: Model) -> None:
    home = claude_code.set_up(tmp_path / "home", model)
    missing = call("shell", command="nosuchprogram --all .")
    with Terminal(home, [installed(CLAUDE_CODE), "--session-id", SESSION]) as terminal:
        user = User(home, model, terminal)
        user.ask("First task", [missing], [say("Answer one.")])
        home.ctxmem("list")  # drains the spool
        user.ask("Second task", [call("shell", command="echo two")], [say("Answer two.")])
        user.ask("Third task", [missing], [say("Answer three.")])
    texts = [json.dumps(request.body) for request in model.main_requests]
    added = next(i for i, text in enumerate(texts) if FAILED_BEFORE in text)
    assert "Third task" in texts[added]
    assert "nosuchprogram: command not found" in texts[added].split(FAILED_BEFORE)[1]
    assert all(text.count(FAILED_BEFORE) == 1 for text in texts[added:])
