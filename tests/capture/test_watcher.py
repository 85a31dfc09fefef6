"""`import --all` and `watch`: all transcripts on a machine, once or as they grow."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.capture.agents import COMMAND, Agent, environment, run
from tests.capture.test_spool_worker import LINES

CODEX = [
    {"type": "session_meta", "payload": {"id": "x-1", "cwd": "/w"}},
    {"type": "response_item", "payload": {"type": "message", "role": "user",
                                          "content": [{"type": "input_text", "text": "Name the host."}]}},
]  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Agent:
    """A home folder with a session of Claude Code and one of Codex."""
    home = tmp_path / "home"
    projects, sessions = home / ".claude" / "projects" / "-w", home / ".codex" / "sessions" / "2026"
    projects.mkdir(parents=True)
    sessions.mkdir(parents=True)
    (sessions / "rollout-2026-x-1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CODEX), "utf-8")
    agent = Agent(tmp_path / "data", projects / "s-1.jsonl", LINES)
    agent.write(2)
    return agent


def test_import_all_finds_every_session_and_later_only_what_is_new(machine: Agent) -> None:
    def import_all() -> dict[str, int]:
        ran = run(machine.data, "import", "--all", "--json")
        assert ran.returncode == 0, ran.stderr
        return {caught["conversation_id"]: caught["new"] for caught in json.loads(ran.stdout)}

    assert import_all() == {"s-1": 2, "x-1": 1}
    machine.write(3)
    assert import_all() == {"s-1": 1, "x-1": 0}


def test_import_requires_a_path_or_all(machine: Agent) -> None:
    for words in ((), ("--all", str(machine.file))):
        ran = run(machine.data, "import", *words)
        assert (ran.returncode, b"--all" in ran.stderr) == (1, True)


@pytest.mark.skipif(sys.platform == "win32", reason="control-C is another thing there")
def test_watch_stores_what_is_there_and_what_is_added_until_interrupted(machine: Agent) -> None:
    # A process in the background ignores control-C, and its children inherit that.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [*COMMAND, "watch", "--every", "0.1", "--json"], env=environment(machine.data), stdout=subprocess.PIPE
    ) as process:
        signal.signal(signal.SIGINT, handler)
        assert process.stdout is not None
        try:
            there = [json.loads(process.stdout.readline()) for _ in range(2)]
            machine.write(3)
            added = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()  # or a failing test would wait for it forever
    assert {caught["conversation_id"]: caught["new"] for caught in there} == {"s-1": 2, "x-1": 1}
    assert (added["conversation_id"], added["new"]) == ("s-1", 1)


@pytest.mark.skipif(sys.platform == "win32", reason="control-C is another thing there")
@pytest.mark.parametrize("pause", [0, 0.02, 0.1])
def test_two_quick_interrupts_end_watch_at_once(machine: Agent, pause: float) -> None:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [*COMMAND, "watch", "--every", "0.1", "--json"], env=environment(machine.data), stdout=subprocess.PIPE
    ) as process:
        signal.signal(signal.SIGINT, handler)
        assert process.stdout is not None
        try:
            assert process.stdout.readline()
            process.send_signal(signal.SIGINT)
            time.sleep(pause)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) in (0, 130)
        finally:
            process.kill()
