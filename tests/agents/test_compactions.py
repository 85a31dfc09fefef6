"""Sessions that the agent's own command compacts: the next request has what the summary leaves out, once."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import pytest

from ctxmem_mcp.text.host_text import RECALL_END
from tests.agents import copilot, opencode, qwen_code
from tests.agents.home import SECONDS, Home, wait_for
from tests.agents.model import Json, Model, call, say
from tests.agents.packages import COPILOT, OPENCODE, QWEN_CODE, installed
from tests.agents.terminal import ENTER, Terminal

pytestmark = pytest.mark.anyio
LEFT_OUT = "what the summary of this session leaves out"
# On a busy machine a hook's time limit may pass; then a later prompt brings it.
PROMPTS_MAX, COMMAND_SECONDS = 6, 20.0
# What the summary lacks: an error, or the last words if the agent has noted that the call failed.
SHOWN = re.compile(r"nosuchprogram: command not found|Seen it all\.")
# The summary must be much shorter than what it replaces.
WORK = " ".join(f"relay{i}" for i in range(1_500))


def script(model: Model) -> None:
    """Makes the model look around once; every later prompt gets a short answer."""
    command = "echo hi; nosuchprogram --all"
    model.replies.extend([[say(f"I look first. {WORK}"), call("shell", command=command)], [say("Seen it all.")]])


def recalled_after(model: Model, prompt: Callable[[], object]) -> str:
    """Sends prompts until a request has what was left out, once; returns it."""
    for number in range(PROMPTS_MAX):
        model.replies.append([say(f"Answer {number}.")])
        prompt()
        wait_for("the request", lambda: not model.replies)
        body = json.dumps(model.main_requests[-1].body)
        if LEFT_OUT in body:
            assert body.count(LEFT_OUT) == 1
            return body.partition(LEFT_OUT)[2].partition(RECALL_END)[0]
    raise AssertionError(f"{PROMPTS_MAX} requests after the compaction without {LEFT_OUT!r}")


def compact_in_terminal(
    terminal: Terminal, model: Model, command: str, done: str, said: Callable[[], Iterable[str]]
) -> str:
    """Works, compacts the session, and goes on; returns what is quoted in a later request.

    Args:
        terminal: the agent's.
        model: the model.
        command: the agent's command.
        done: what the agent shows after it.
        said: returns the texts in the session's own transcript.
    """
    script(model)
    terminal.submit("Look around.")
    wait_for("the answer", lambda: "Seen it all." in said())
    at = terminal.at
    for _ in range(PROMPTS_MAX):  # the agent may still wait for its hooks
        terminal.submit(command)
        with suppress(AssertionError):
            terminal.wait_for(done, after=at, seconds=COMMAND_SECONDS)
            break
        terminal.send(ENTER)
    else:
        raise AssertionError(f"{command} was not run")
    return recalled_after(model, lambda: terminal.submit("Go on now."))


async def test_qwen_code_gets_what_its_summary_leaves_out(tmp_path: Path, model: Model) -> None:
    home = qwen_code.set_up(tmp_path / "home", model)

    def said() -> Iterator[str]:
        return chain.from_iterable(map(qwen_code.words_of, qwen_code.transcripts(home)))

    with Terminal(home, [installed(QWEN_CODE), "--yolo"]) as terminal:
        terminal.wait_for("Type your message")
        added = compact_in_terminal(terminal, model, "/compress", "Chat history compressed", said)
    assert SHOWN.search(added)


async def test_copilot_cli_gets_what_its_summary_leaves_out(tmp_path: Path, model: Model) -> None:
    home = copilot.set_up(tmp_path / "home", model)

    def said() -> Iterator[str]:
        return chain.from_iterable(map(copilot.words_of, copilot.transcripts(home)))

    with Terminal(home, [installed(COPILOT), "--allow-all-tools"]) as terminal:
        terminal.wait_for("Do you trust the files")
        terminal.send(ENTER)
        terminal.wait_for("? help")
        added = compact_in_terminal(terminal, model, "/compact", "Compaction completed", said)
    assert SHOWN.search(added)


@contextmanager
def served(home: Home) -> Iterator[Callable[..., Json]]:
    """Runs opencode's server, which its terminal is a client of; yields a function that sends it a request."""
    process = subprocess.Popen(
        [str(installed(OPENCODE)), "serve", "--port", "0"], cwd=home.project, env=home.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = next(found[0] for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))

        def post(path: str, **body: object) -> Json:
            headers = {"content-type": "application/json"}
            request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                answer: Json = json.load(response)
            return answer

        yield post
    finally:
        process.kill()
        process.communicate()


async def test_opencode_gets_what_its_summary_leaves_out(tmp_path: Path, model: Model) -> None:
    home = opencode.set_up(tmp_path / "home", model)
    script(model)
    with served(home) as post:
        session = post("/session")["id"]

        def prompt(words: str) -> None:
            chosen = {"providerID": "stub", "modelID": "stub-model"}
            post(f"/session/{session}/message", model=chosen, parts=[{"type": "text", "text": words}])

        prompt("Look around.")
        post(f"/session/{session}/summarize", providerID="stub", modelID="stub-model")
        added = recalled_after(model, lambda: prompt("Go on now."))
    assert SHOWN.search(added)
