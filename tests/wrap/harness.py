"""A program that is wrapped, as a script of a few steps, and the command that wraps it: real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("ctxmem-mcp")
# An upper limit only.
SECONDS = 120.0
# The program: takes the steps in the file that its first argument names, and prints what it received.
_PROGRAM = '''\
import json, os, subprocess, sys, urllib.error, urllib.request

import psutil

def post(path, body):
    url = os.environ["ANTHROPIC_BASE_URL"] + path
    headers = {"content-type": "application/json", "x-api-key": "sk-own", "anthropic-version": "2023-06-01"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=100) as response:
            return [response.status, response.headers.get("x-ctxmem-memory"), json.load(response)]
    except urllib.error.HTTPError as error:
        return [error.code, None, None]

def kill_gateway():
    """Kills the process that the wrapper started beside this program."""
    for process in psutil.Process().parent().children():
        if "gateway_process" in " ".join(process.cmdline()):
            process.kill()

for step in json.load(open(sys.argv[1])):
    if "post" in step:
        print(json.dumps(post(step["path"], step["post"])), flush=True)
    elif "hook" in step:
        subprocess.run([step["command"], "hook", step["hook"]], input=json.dumps(step["event"]), text=True, check=True)
    elif "environment" in step:
        print(json.dumps({name: os.environ.get(name) for name in step["environment"]}), flush=True)
    elif "kill" in step:
        kill_gateway()
    elif "arguments" in step:
        print(json.dumps(sys.argv[2:]), flush=True)
    elif "signal" in step:
        os.kill(os.getpid(), step["signal"])
    elif "exit" in step:
        sys.exit(step["exit"])
'''


@dataclass
class Machine:
    """A user's home folder with a program in it."""

    path: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.path / "bin").mkdir(parents=True)
        self.install("agent")

    def install(self, name: str) -> None:
        """Installs the program under a name."""
        file = self.path / "bin" / name
        file.write_text(f"#!{sys.executable}\n{_PROGRAM}", "utf-8")
        file.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.path / "bin"), os.environ["PATH"]])
        plain = {"HOME": str(self.path), "PATH": path, "LANG": "C.UTF-8", "CTXMEM_DURABILITY": "normal"}
        return plain | {"CTXMEM_EMBEDDINGS": "off"} | self.variables

    def command(
        self, steps: list[Any], *options: str, program: str = "agent", arguments: Sequence[str] = ()
    ) -> list[str]:
        """Returns the command that runs the program, wrapped, with these steps."""
        file = self.path / "steps.json"
        file.write_text(json.dumps(steps), "utf-8")
        return [str(COMMAND), "wrap", *options, program, str(file), *arguments]

    def wrap(self, steps: list[Any], *options: str, program: str = "agent", arguments: Sequence[str] = ()) -> Run:
        """Runs the program, wrapped, until it ends."""
        command = self.command(steps, *options, program=program, arguments=arguments)
        done = subprocess.run(
            command, cwd=self.path, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        return Run(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr)

    def ctxmem(self, *words: str) -> Any:
        """Runs a command with `--json`; returns what it prints."""
        done = subprocess.run(
            [str(COMMAND), *words, "--json"], env=self.environment, capture_output=True, text=True, timeout=SECONDS,
            check=True,
        )  # fmt: skip
        return json.loads(done.stdout)


@dataclass
class Run:
    """A finished run: its exit code, the values that the program printed, and what was written to stderr."""

    code: int
    values: list[Any]
    stderr: str


def ask(*messages: dict[str, Any]) -> dict[str, Any]:
    """A step that sends messages to Anthropic's API, with a tool as an agent has it."""
    tool = {"name": "read", "input_schema": {"type": "object"}}
    return {"path": "/v1/messages", "post": {"model": "m", "max_tokens": 500, "tools": [tool], "messages": messages}}


def hook(agent: str, name: str, **fields: Any) -> dict[str, Any]:
    """A step that runs an agent's hook for an event of a session."""
    event = {"session_id": "s-1", "cwd": "/w", "hook_event_name": name, **fields}
    return {"hook": agent, "event": event, "command": str(COMMAND)}


ANSWER = "It is fixed."


def history(length: int, words: int = 120) -> list[dict[str, Any]]:
    """The messages of a session, whose model always answers the same."""
    messages: list[dict[str, Any]] = []
    for i in range(length):
        messages += [
            {"role": "user", "content": f"Look at file {i}: " + f"token{i} failed\n" * words},
            {"role": "assistant", "content": ANSWER},
        ]
    return messages[:-1]
