"""Measures whether an agent is warned of a call that failed before, and how often wrongly.

    python -m bench repeats [TRANSCRIPT...] [--planted 60]

Reads Claude Code sessions, by default those in $CTXMEM_EVAL_DIR. *Planted* repeats are real failed calls, written
another way (spaces, quotes, a `cd` before them, a `tail` after), sent to the hook right after the failure, and, if it
lasts, by another session of the project as well. *Real* calls are all calls of the sessions, sent in their order, each
with what was recorded before it: a line is false if the call then succeeds. The processor time is that of the hook's
process.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxmem_mcp.capture import failed_calls
from ctxmem_mcp.capture.call_failures import find_outcomes
from ctxmem_mcp.hooks import repeats
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Turn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.transcripts import claude_code

WINDOW = 150
TOOLS = ("Bash", "Edit", "MultiEdit")
TIMES = 10


@dataclass(frozen=True)
class Session:
    name: str
    turns: list[Turn]


async def load(paths: Sequence[Path]) -> list[Session]:
    return [Session(name, await _stored(turns)) for name, turns in _sessions(paths)]


def _sessions(paths: Sequence[Path]) -> Iterator[tuple[str, list[NewTurn]]]:
    for path in paths:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                for one in map(json.loads, lines):
                    yield (
                        one["id"],
                        [
                            NewTurn(t["role"], t["content"], t["name"], t["said_at"], t.get("call_id"))
                            for t in one["turns"]
                        ],
                    )
        else:
            yield path.stem, list(claude_code.parse(path.read_text("utf-8"), path.name).turns)


async def _stored(turns: Sequence[NewTurn]) -> list[Turn]:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    await memory.sync(turns, conversation_id="c")
    return await memory.history("c")


class Project:
    """A project's folder and record. write(): a session's transcript as it is at a turn."""

    def __init__(self, folder: Path) -> None:
        self.data, self.cwd, self.transcript = str(folder / "data"), str(folder), str(folder / "s.jsonl")
        self.secret = failed_calls.load_secret(self.data, create=True)

    def record(self, session: Session, until: int) -> None:
        found = find_outcomes(session.turns[max(0, until - WINDOW) : until], session.name, self.secret)
        failed_calls.update(self.data, self.cwd, found.failed, found.succeeded)

    def write(self, session: Session, until: int) -> None:
        rows = "".join(json.dumps(row_of(turn)) + "\n" for turn in session.turns[max(0, until - WINDOW) : until])
        Path(self.transcript).write_text(rows, "utf-8")

    def line(self, tool: str, arguments: dict[str, Any], session: str) -> str:
        event = {"tool_name": tool, "tool_input": arguments, "cwd": self.cwd, "session_id": session}
        return repeats.line_for({**event, "transcript_path": self.transcript}, self.data)


def row_of(turn: Turn) -> dict[str, Any]:
    role = turn.role if turn.role in ("user", "assistant") else "user"
    if turn.role == "tool":
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": turn.call_id, "content": turn.content}
    elif turn.call_id and turn.role == "assistant":
        block = {"type": "tool_use", "id": turn.call_id, "name": turn.name, "input": arguments_of(turn)}
    elif turn.role == "user" and turn.name is None:
        block = {"type": "text", "text": turn.content}
    else:
        block = {"type": "thinking", "thinking": turn.content}
    return {"type": role, "message": {"role": role, "content": [block]}}


def arguments_of(turn: Turn) -> dict[str, Any]:
    try:
        found = json.loads(turn.content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def reworded(arguments: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    command = arguments.get("command")
    if not isinstance(command, str):
        return arguments
    command = command.replace('"', "'").replace(" ", "  ", 1)
    return {**arguments, "command": rng.choice(("cd /home/me/app && {}", "{} 2>&1 | tail -40", "{}")).format(command)}


def planted(sessions: Sequence[Session], count: int) -> None:
    rng, cases = random.Random(18), []
    for session in sessions:
        calls = {turn.call_id: turn for turn in session.turns if turn.role == "assistant" and turn.name in TOOLS}
        with tempfile.TemporaryDirectory() as folder:
            project = Project(Path(folder))
            for turn in session.turns:
                call = calls.get(turn.call_id) if turn.role == "tool" else None
                if call is None:
                    continue
                window = session.turns[turn.index : turn.index + 1]
                found = find_outcomes([call, *window], session.name, project.secret)
                if found.failed:
                    cases.append((session, turn.index, call, False))
                    if found.failed[0].lasts:
                        cases.append((session, turn.index, call, True))
    rng.shuffle(cases)
    warned = {False: [0, 0], True: [0, 0]}
    for session, index, call, is_elsewhere in cases[:count]:
        with tempfile.TemporaryDirectory() as folder:
            project = Project(Path(folder))
            until = min(len(session.turns), index + WINDOW // 2) if is_elsewhere else index + 1
            project.record(session, until)
            project.write(session, until)
            line = project.line(call.name or "", reworded(arguments_of(call), rng), "s-2" if is_elsewhere else "s-1")
            warned[is_elsewhere][0] += bool(line)
            warned[is_elsewhere][1] += 1
    for is_elsewhere, (said, n) in warned.items():
        print(f"planted {'in another session' if is_elsewhere else 'right after':20s} n={n:4d}  warned {said}")
    said, n = (sum(counts) for counts in zip(*warned.values(), strict=True))
    print(f"planted, of {len(cases):4d} possible         n={n:4d}  warned {said}")


def real(sessions: Sequence[Session], verbose: bool) -> None:
    calls = said = false = 0
    for session in sessions:
        results = {turn.call_id: turn for turn in session.turns if turn.role == "tool"}
        with tempfile.TemporaryDirectory() as folder:
            project = Project(Path(folder))
            for turn in session.turns:
                if turn.role == "tool":
                    project.record(session, turn.index + 1)
                if turn.role != "assistant" or turn.name not in TOOLS or turn.call_id not in results:
                    continue
                calls += 1
                project.write(session, turn.index)
                line = project.line(turn.name, arguments_of(turn), session.name)
                if line:
                    result = results[turn.call_id]
                    failed = find_outcomes([turn, result], session.name, project.secret).failed
                    said, false = said + 1, false + (not failed)
                    if verbose:
                        print(f"{'right' if failed else 'FALSE'}  {turn.content[:120]}\n       {line[:300]}")
    print(f"real calls           n={calls:4d}  lines {said}, false {false} ({200 * false / max(1, calls):.2f} of 200)")


def processor_time() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        calls = [
            failed_calls.FailedCall(f"{i:024x}", "c", "c" * 36, f"t{i}-123456789012", "2026-01-09", True, "e" * 90, "")
            for i in range(failed_calls.RECORDS_MAX)
        ]
        failed_calls.update(project.data, project.cwd, calls, ())
        event = {"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {"command": "make test"},
                 "cwd": project.cwd, "session_id": "s", "transcript_path": project.transcript}  # fmt: skip
        variables = {**os.environ, "CTXMEM_DATA_DIR": project.data}
        for name, command in (
            ("bare interpreter", ["-c", "pass"]),
            ("hook", ["-m", "ctxmem_mcp", "hook", "claude-code"]),
        ):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            for _ in range(TIMES):
                given = json.dumps(event).encode()
                subprocess.run([sys.executable, *command], input=given, env=variables, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{name:20s} {1000 * spent / TIMES:.1f} ms of processor time")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench repeats", description=__doc__)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--planted", type=int, default=60)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(arguments)
    root = Path(os.environ.get("CTXMEM_EVAL_DIR", "."))
    paths = [root / "data" / "people-dev.jsonl.gz", *sorted((root / "transcripts" / "claude-code").glob("*/*.jsonl"))]
    sessions = asyncio.run(load(options.data or paths))
    planted(sessions, options.planted)
    real(sessions, options.verbose)
    processor_time()
