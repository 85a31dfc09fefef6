"""A simulated agent: a transcript that grows line by line, and the hook command run at its events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctxmem_mcp.capture.spool_worker import DrainResult, drain
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Turn
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.transcripts import claude_code
from ctxmem_mcp.transcripts.base import Transcript

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "ctxmem_mcp"]
# A hook whose time limit for a session's start is not reached on a busy machine.
_PATIENT_MAIN = """
import sys
from ctxmem_mcp.hooks import session_start
session_start.SECONDS_MAX = 90.0
from ctxmem_mcp.__main__ import main
sys.exit(main())
"""
PATIENT = [sys.executable, "-c", _PATIENT_MAIN]
REAL = ("spotter/ae4a*.jsonl", "spotter/tool_heavy.jsonl", "spotter/short.jsonl", "entire/2026-01-05_847*.jsonl")


def environment(data: Path, **more: str) -> dict[str, str]:
    """An environment without this machine's settings and agents."""
    home = str(data.parent / "home")
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return {
        **kept,
        "HOME": home,
        "USERPROFILE": home,
        "CTXMEM_DATA_DIR": str(data),
        "PYTHONPATH": f"{ROOT / 'src'}",
        **more,
    }


def run(data: Path, *words: str, given: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
    command = PATIENT if b"essionStart" in given else COMMAND
    return subprocess.run(
        [*command, *words], input=given, capture_output=True, env=environment(data, **more), timeout=100, check=False
    )


@dataclass
class Agent:
    """A session of Claude Code with these lines. at: how many of them are written to its file."""

    data: Path
    file: Path
    lines: list[str]
    at: int = 0
    called: list[str] = field(default_factory=list)

    @property
    def session(self) -> str:
        return self.file.stem

    def write(self, until: int, torn: int = 0) -> None:
        """Writes the lines up to there, and the first `torn` bytes of the next."""
        self.at = until
        beginning = self.lines[until].encode()[:torn] if until < len(self.lines) else b""
        self.file.write_bytes("".join(line + "\n" for line in self.lines[:until]).encode() + beginning)

    def hook(self, event: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        self.called.append(event)
        return run(self.data, "hook", "claude-code", given=self.event(event, **more))

    def event(self, name: str, **more: Any) -> bytes:
        said = {"session_id": self.session, "transcript_path": str(self.file), "cwd": "/w", "hook_event_name": name}
        return json.dumps({**said, **more}).encode()

    def read(self) -> Transcript:
        """Parses the whole session."""
        return claude_code.parse("".join(line + "\n" for line in self.lines), self.file.name)


def steps(lines: list[str]) -> list[tuple[int, str, dict[str, Any]]]:
    """Returns a session's events: after how many lines each is sent, its name, its fields. At a Stop the last row is
    not written yet, as in reality."""
    found: list[tuple[int, str, dict[str, Any]]] = []
    rows = [json.loads(line) for line in lines]
    for i, row in enumerate(rows):
        text = _text(row)
        if row.get("isSidechain") or row.get("isMeta"):
            continue
        if row.get("type") == "user" and text:
            found.append((i, "UserPromptSubmit", {"prompt": text}))
        elif row.get("type") == "user":
            found.append((i + 1, "PostToolUse", {"tool_name": "Bash", "tool_input": {}, "tool_response": "x"}))
        elif row.get("type") == "assistant" and text and _next_is_prompt(rows[i + 1 :]):
            found.append((i, "Stop", {"last_assistant_message": text}))
    return found


def _text(row: dict[str, Any]) -> str | None:
    message = row.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list) and len(content) == 1 and content[0].get("type") == "text":
        content = content[0]["text"]
    return content if isinstance(content, str) and content.strip() else None


def _next_is_prompt(rows: list[dict[str, Any]]) -> bool:
    said = next((row for row in rows if row.get("type") in ("user", "assistant")), None)
    return said is None or (said["type"] == "user" and _text(said) is not None)


def lines_of(file: Path) -> list[str]:
    return [line for line in file.read_text("utf-8").split("\n") if line.strip()]


def fields_of(turns: Sequence[Turn | NewTurn]) -> list[tuple[str, str | None, str | None, str]]:
    return [(turn.role, turn.name, turn.call_id, turn.content) for turn in turns]


async def drain_spool(data: Path, *, wait: bool = False) -> DrainResult:
    async with open_memory(Settings(data, durability="normal")) as memory:
        return await drain(memory, data, wait=wait)


async def load_turns(data: Path, conversation: str) -> tuple[list[Turn], int]:
    """Returns the turns up to the head, and the number of branches. Verifies the conversation."""
    async with open_memory(Settings(data, durability="normal")) as memory:
        assert await memory.verify(conversation) == []
        return await every_turn(memory, conversation), len(await memory.branches(conversation))


async def every_turn(memory: Memory, conversation: str) -> list[Turn]:
    head = await memory.head(conversation)
    return [await memory.turn(conversation, f"t{index}") for index in range(head.index)] + [head]
