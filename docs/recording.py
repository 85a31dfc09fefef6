"""The recording of the README: install, work, a compaction, and what the memory brings back; an animated SVG.

The session is the example, written as a transcript of Claude Code; everything that ctxmem-mcp prints is what it prints
when the same events reach its real hooks. Only the agent's own screen is drawn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "session.jsonl"
SESSION, FOLDER = "5e551057-0000-4000-8000-000000000000", "/home/ada/promptkit"
COLUMNS, ROWS = 96, 26
CELL, LINE = 8.4, 19
SECONDS, LAST_SECONDS = 20.0, 4.0
# How long a line stays alone before the next, by the kind of line; all are scaled to SECONDS.
PAUSES = {"prompt": 9, "command": 9, "text": 3, "tool": 1.2, "note": 6, "memory": 2.5, "": 0.5}
SCREEN_CHARS = 150
MEMORY_LINES = 34
# A busy machine must not record that the hook's time was up.
PATIENT = """
import sys
from ctxmem_mcp.hooks import session_start
session_start.SECONDS_MAX = 90.0
from ctxmem_mcp.__main__ import main
sys.exit(main())
"""
RECAP = (
    "This session is being continued from a previous conversation that ran out of context. Summary: estimate_tokens "
    "was split into measured_chars and tokens_for, takes integers as counts of characters, and the one-letter names "
    "were replaced. All 10 tests pass and the work is committed."
)
NEXT_PROMPT = "Why did the whole test run fail when we added integers?"


@dataclass(frozen=True, slots=True)
class Shown:
    """A line of the screen. kind: its colour and pause."""

    kind: str
    text: str


def record() -> str:
    """Returns the recording."""
    return _animate(list(_lines()))


# ---------------------------------------------------------------- what happens


def _lines() -> Iterator[Shown]:
    with tempfile.TemporaryDirectory(prefix="ctxmem-recording-") as folder:
        home = Path(folder)
        (home / ".claude").mkdir()
        yield Shown("command", "$ ctxmem-mcp install claude-code")
        for line in _run(home, "install", "claude-code").replace(folder, "~").splitlines()[:3]:
            yield from _wrapped("text", line)
        yield Shown("", "")
        yield Shown("command", "$ claude")
        rows = [json.loads(line) for line in EXAMPLE.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            yield from _screen(row)
        yield Shown("note", "✻ Conversation compacted. The agent has its summary of it, and nothing else:")
        yield from _wrapped("tool", RECAP)
        yield Shown("", "")
        yield Shown("prompt", f"> {NEXT_PROMPT}")
        yield Shown("note", "The hook of ctxmem-mcp adds what the summary left out, word for word:")
        for line in _recalled(home, rows).splitlines()[:MEMORY_LINES]:
            yield from _wrapped("memory", line)
        yield Shown("memory", "…")


def _screen(row: dict[str, Any]) -> Iterator[Shown]:
    """How the agent's screen shows a turn: in one line, and a result by its first."""
    text = " ".join(row["content"].split())
    if row["role"] == "user":
        yield Shown("", "")
        yield from _wrapped("prompt", f"> {text[:SCREEN_CHARS]}{'…' if len(text) > SCREEN_CHARS else ''}")
    elif row["role"] == "tool":
        yield Shown("tool", f"  └ {text}"[:COLUMNS])
    elif "name" in row:
        yield Shown("tool", f"● {row['name']} {text}"[:COLUMNS])
    else:
        yield from _wrapped("text", f"● {text}")


def _recalled(home: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Returns what the hooks add to the context after the compaction."""
    transcript = home / f"{SESSION}.jsonl"
    lines = [json.dumps(one) for one in _transcript(rows)]
    recap = {"isCompactSummary": True, **_row(len(rows) + 1, "user", RECAP), "parentUuid": "boundary"}
    boundary = {
        "type": "system", "subtype": "compact_boundary", "uuid": "boundary", "parentUuid": None,
        "logicalParentUuid": str(len(rows) - 1), "sessionId": SESSION, "content": "Conversation compacted",
    }  # fmt: skip
    transcript.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _hook(home, transcript, "SessionStart", source="compact")
    transcript.write_text("\n".join([*lines, json.dumps(boundary), json.dumps(recap)]) + "\n", encoding="utf-8")
    response = json.loads(_hook(home, transcript, "UserPromptSubmit", prompt=NEXT_PROMPT))
    return str(response["hookSpecificOutput"]["additionalContext"])


def _transcript(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        content: Any = row["content"]
        if row["role"] == "tool":
            is_error = content.startswith("Exit code")
            content = [{"type": "tool_result", "tool_use_id": row["call_id"], "content": content, "is_error": is_error}]
        elif "name" in row:
            content = [{"type": "tool_use", "id": row["call_id"], "name": row["name"], "input": json.loads(content)}]
        role = "user" if row["role"] == "tool" else row["role"]
        yield {**_row(number, role, content), "timestamp": row["said_at"]}


def _row(number: int, role: str, content: object) -> dict[str, Any]:
    parent = str(number - 1) if number else None
    message = {"role": role, "content": content}
    return {
        "type": role,
        "uuid": str(number),
        "parentUuid": parent,
        "sessionId": SESSION,
        "cwd": FOLDER,
        "message": message,
    }


def _hook(home: Path, transcript: Path, event: str, **more: str) -> str:
    given = {"hook_event_name": event, "session_id": SESSION, "transcript_path": str(transcript), "cwd": FOLDER, **more}
    return _run(home, "hook", "claude-code", given=json.dumps(given))


def _run(home: Path, *arguments: str, given: str = "") -> str:
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("CTXMEM_", "CLAUDE", "XDG_"))
    }
    command = [sys.executable, "-c", PATIENT, "--data-dir", str(home / "data"), *arguments]
    settings = variables | {"HOME": str(home), "CTXMEM_DATA_DIR": str(home / "data")}
    return subprocess.run(command, input=given, env=settings, capture_output=True, text=True, check=True).stdout


def _wrapped(kind: str, text: str) -> Iterator[Shown]:
    for line in textwrap.wrap(text, COLUMNS, subsequent_indent="  ") or [""]:
        yield Shown(kind, line)


# ---------------------------------------------------------------- how it is drawn

TITLE = (
    "ctxmem-mcp is installed, an agent works, its context is compacted, and the memory brings back what the summary "
    "left out"
)
STYLE = """
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre; fill: #d6d9de; }
.prompt { fill: #8cc0f0; font-weight: 700; } .command { fill: #fff; font-weight: 700; } .tool { fill: #8b939e; }
.note { fill: #e0cf7a; } .memory { fill: #7fd6a3; }
"""


def _animate(lines: Sequence[Shown]) -> str:
    """Returns the lines as an SVG in which each appears at its time, and the screen scrolls.

    It begins again at the end. A reader who asked for no motion sees the end.
    """
    pauses = [PAUSES[line.kind] for line in lines]
    scale = (SECONDS - LAST_SECONDS) / sum(pauses)
    width, height = round(COLUMNS * CELL + 32), ROWS * LINE + 32
    texts, frames, moves, at = [], [], ["0% { transform: translateY(0); }"], 0.0
    for number, line in enumerate(lines):
        percent = 100 * at * scale / SECONDS
        texts.append(f'<text class="{line.kind} l{number}" x="16" y="{(number + 1) * LINE}">{escape(line.text)}</text>')
        shown = f"0%, {percent:.2f}% {{ opacity: 0; }} {percent + 0.01:.2f}%, 100% {{ opacity: 1; }}"
        frames.append(f"@keyframes l{number} {{ {shown} }} .l{number} {{ animation-name: l{number}; }}")
        if number >= ROWS:
            offset = (number - ROWS + 1) * LINE
            moves.append(f"{percent:.2f}% {{ transform: translateY(-{offset - LINE}px); }}")
            moves.append(f"{percent + 0.01:.2f}% {{ transform: translateY(-{offset}px); }}")
        at += pauses[number]
    end = max(0, len(lines) - ROWS) * LINE
    screen = (
        f"{SECONDS:g}s step-end infinite; }} .screen {{ animation-name: scroll; animation-timing-function: linear; }}"
    )
    motion = (
        f"@media (prefers-reduced-motion: no-preference) {{ text, .screen {{ animation: {screen} {' '.join(frames)} }} "
        f"@keyframes scroll {{ {' '.join(moves)} 100% {{ transform: translateY(-{end}px); }} }}"
    )
    size, newline = f'width="{width}" height="{height}"', "\n"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size} role="img">
<title>{TITLE}</title>
<style>{STYLE}.screen {{ transform: translateY(-{end}px); }}
{motion}</style>
<rect width="100%" height="100%" rx="10" fill="#16181b"/>
<svg y="12" width="{width}" height="{ROWS * LINE + 8}"><g class="screen">
{newline.join(texts)}
</g></svg>
</svg>
"""
