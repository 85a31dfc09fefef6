"""Where agents keep their transcripts on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.capture.events import CLAUDE_CODE, CODEX

# The folder, beside a session of Claude Code's, of its sub-agents' transcripts.
SUBAGENTS = "subagents"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of transcripts. variable: the environment's name for the agent's own folder, `home` where it is not
    set; below: the transcripts' folder in it; files: what they are called."""

    agent: str
    variable: str
    home: str
    below: str
    files: str


PLACES = (
    Place(CLAUDE_CODE, "CLAUDE_CONFIG_DIR", "~/.claude", "projects", "**/*.jsonl"),
    Place(CODEX, "CODEX_HOME", "~/.codex", "sessions", "**/rollout-*.jsonl"),
    Place(CODEX, "CODEX_HOME", "~/.codex", "archived_sessions", "rollout-*.jsonl"),
    Place("pi", "PI_CODING_AGENT_DIR", "~/.pi/agent", "sessions", "**/*.jsonl"),
)


def folders(environ: Mapping[str, str] | None = None) -> list[tuple[Place, Path]]:
    """The places that are there."""
    environ = os.environ if environ is None else environ
    found = []
    for place in PLACES:
        home = Path(environ.get(place.variable, "").strip() or place.home).expanduser()
        if (home / place.below).is_dir():
            found.append((place, home / place.below))
    return found


def transcripts(environ: Mapping[str, str] | None = None) -> Iterator[tuple[Place, Path]]:
    """Every transcript on this machine, oldest first, so that the conversation last active is the one last stored."""
    found = [(place, file) for place, folder in folders(environ) for file in folder.glob(place.files)]
    yield from sorted(found, key=lambda pair: (_changed(pair[1]), pair[1]))


def transcript_of(agent: str, session_id: str, environ: Mapping[str, str] | None = None) -> Path | None:
    """The file of a session whose event names none."""
    if not session_id.replace("-", "").replace("_", "").isalnum():
        return None
    for place, folder in folders(environ):
        if place.agent == agent:
            named = f"*-{session_id}.jsonl" if agent == CODEX else f"{session_id}.jsonl"
            found = next(folder.glob(f"**/{named}"), None)
            if found is not None:
                return found
    return None


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
