"""A user's home folder with one agent in it, set up by `ctxmem-mcp install`, and the memory that it fills."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.models import Turn
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.text.host_text import RECALL_START
from tests.agents.model import Model, say
from tests.agents.packages import node_folder

COMMAND = Path(sys.executable).with_name("ctxmem-mcp")
# An upper limit only: on an idle machine each run of an agent takes a few seconds.
SECONDS = 300.0
_STARTS_MAX = 6
T = TypeVar("T")


@dataclass
class Home:
    """The home folder. variables: what the agents' processes get beside a plain environment."""

    path: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.project.mkdir(parents=True, exist_ok=True)

    @property
    def project(self) -> Path:
        return self.path / "project"

    @property
    def data(self) -> Path:
        return self.path / ".local" / "share" / "ctxmem"

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(node_folder()), str(COMMAND.parent), os.environ.get("PATH", "")])
        plain = {"HOME": str(self.path), "PATH": path, "LANG": "C.UTF-8", "TERM": "xterm-256color", "USER": "me"}
        return plain | self.variables

    def run(self, command: Sequence[str | Path], *, input: str = "", check: bool = True) -> str:
        """Runs a command in the project; returns its output."""
        done = subprocess.run(
            [str(word) for word in command], cwd=self.project, env=self.environment, input=input,
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Starts a command in the project, in a process group of its own."""
        return subprocess.Popen(
            [str(word) for word in command], cwd=self.project, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def ctxmem(self, *words: str) -> str:
        """Runs `ctxmem-mcp`; returns its output."""
        return self.run([COMMAND, *words])

    def doctor_faults(self, agent: str) -> list[str]:
        """What `doctor` finds wrong with an agent and the data folder."""
        report = json.loads(self.run([COMMAND, "doctor", "--json"], check=False))
        (found,) = [one for one in report["agents"] if one["agent"] == agent]
        return [fault["what"] for fault in (*found["faults"], *report["data"]["faults"])]

    async def new_in_import(self, *words: str) -> int:
        """Imports all that agents have kept here, or these files; returns the number of turns that were new."""
        printed = await asyncio.to_thread(self.ctxmem, "import", "--json", *(words or ("--all",)))
        return sum(one["new"] for one in json.loads(printed))

    async def turns(self, conversation: str) -> list[Turn]:
        """The turns up to the head, after storing what hooks have spooled."""
        await asyncio.to_thread(self.ctxmem, "list")
        async with open_memory(Settings(self.data)) as memory:
            assert await memory.verify(conversation) == []
            return await memory.turns(conversation)

    async def conversations(self) -> list[str]:
        """The ids of all conversations."""
        await asyncio.to_thread(self.ctxmem, "list")
        async with open_memory(Settings(self.data)) as memory:
            return [info.conversation_id for info in (await memory.conversations(limit=1_000)).conversations]


def wait_for(what: str, look: Callable[[], T | None], seconds: float = SECONDS) -> T:
    """Waits until `look` returns something; fails after the upper limit."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def wait_for_recall(model: Model, run: Callable[[], object]) -> None:
    """Runs new sessions until the model is sent what our hook prints at a session's start: on a busy machine the hook's
    time limit may pass first, and then the session starts without it."""
    for _ in range(_STARTS_MAX):
        model.replies.append([say("A new session.")])
        run()
        if RECALL_START in json.dumps(model.main_requests[-1].body):
            return
    raise AssertionError(f"{_STARTS_MAX} sessions started without the one before")


def assert_in_order(words: Iterable[str], turns: Sequence[Turn], *, also: Collection[str] = ()) -> None:
    """Asserts that the turns contain exactly these texts once each, byte for byte, in this order, and beside them only
    what the host has injected, and texts in `also`."""
    expected, found = list(words), [turn.content for turn in turns]
    missing = [text for text in expected if text not in found]
    assert missing == [], missing
    kept = [text for text in found if text in set(expected)]
    assert kept == expected
    others = [turn for turn in turns if turn.content not in {*expected, *also}]
    strange = [(turn.role, turn.content) for turn in others if turn.role != "system"]
    assert strange == [], strange
