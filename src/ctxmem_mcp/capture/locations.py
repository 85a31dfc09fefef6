"""Where agents keep their transcripts on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.capture.events import CLAUDE_CODE, CLINE, CODEX, CURSOR
from ctxmem_mcp.transcripts.cline.parser import SESSION_SUFFIX, TASK_FILE

# The folder of a session's sub-agents' transcripts.
SUBAGENTS = "subagents"
# Editors that Cline runs in, by the folder where they keep their own.
EDITORS = ("Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf")
# The same folder where an editor's other half runs on the machine that one works on.
_REMOTE_EDITORS = ("~/.vscode-server/data", "~/.vscode-server-insiders/data", "~/.vscode-remote/data")
CLINE_EXTENSION = "saoudrizwan.claude-dev"
_CLINES = (CLINE_EXTENSION, "rooveterinaryinc.roo-cline", "kilocode.kilo-code")
_TASKS, _SESSIONS = f"*/{TASK_FILE}", f"*/*{SESSION_SUFFIX}"
_CURSORS = "*/agent-transcripts"
# What a folder that is watched is searched for.
TRANSCRIPT_GLOBS = ("*.jsonl", TASK_FILE, f"*{SESSION_SUFFIX}")


@dataclass(frozen=True, slots=True)
class Location:
    """A folder of transcripts. variable: the environment's name for the agent's own folder, `home` where it is not
    set; below: the transcripts' folder in it; files: what they are called; named: what that of a session is."""

    agent: str
    variable: str
    home: str
    below: str
    files: str
    named: str = "**/{}.jsonl"


def app_data(system: str, home: Path, environ: Mapping[str, str]) -> Path:
    """Where programs with a window keep theirs: Electron's appData."""
    if system == "windows":
        return _env_path(environ, "APPDATA") or home / "AppData" / "Roaming"
    if system == "macos":
        return home / "Library" / "Application Support"
    return _env_path(environ, "XDG_CONFIG_HOME") or home / ".config"


def extension_folder(data: Path, extension: str) -> Path:
    """The folder that an editor, whose data these are, keeps for an extension."""
    return data / "User" / "globalStorage" / extension


LOCATIONS = (
    Location(CLAUDE_CODE, "CLAUDE_CONFIG_DIR", "~/.claude", "projects", "**/*.jsonl"),
    Location(CODEX, "CODEX_HOME", "~/.codex", "sessions", "**/rollout-*.jsonl", "**/*-{}.jsonl"),
    Location(CODEX, "CODEX_HOME", "~/.codex", "archived_sessions", "rollout-*.jsonl", "*-{}.jsonl"),
    Location("pi", "PI_CODING_AGENT_DIR", "~/.pi/agent", "sessions", "**/*.jsonl"),
    Location(CURSOR, "CURSOR_DATA_DIR", "~/.cursor", "projects", f"{_CURSORS}/**/*.jsonl", f"{_CURSORS}/**/{{}}.jsonl"),
    Location(CURSOR, "CURSOR_DATA_DIR", "~/.cursor", "projects", f"{_CURSORS}/*.txt", f"{_CURSORS}/{{}}.txt"),
    Location(CLINE, "CLINE_DIR", "~/.cline", "data/tasks", _TASKS, f"{{}}/{TASK_FILE}"),
    Location(CLINE, "CLINE_DIR", "~/.cline", "data/sessions", _SESSIONS, f"{{0}}/{{0}}{SESSION_SUFFIX}"),
    Location(CLINE, "CLINE_DATA_DIR", "~/.cline/data", "tasks", _TASKS, f"{{}}/{TASK_FILE}"),
    Location(CLINE, "CLINE_DATA_DIR", "~/.cline/data", "sessions", _SESSIONS, f"{{0}}/{{0}}{SESSION_SUFFIX}"),
)


def existing_folders(
    environ: Mapping[str, str] | None = None, platform: str = sys.platform
) -> list[tuple[Location, Path]]:
    """The places that are there."""
    environ = os.environ if environ is None else environ
    known = [(location, _home(location, environ) / location.below) for location in LOCATIONS]
    known += [(location, Path(location.home) / location.below) for location in _in_editors(environ, platform)]
    found: dict[tuple[str, Path], tuple[Location, Path]] = {}
    for location, folder in known:
        if folder.is_dir():
            found.setdefault((location.files, folder.resolve()), (location, folder))
    return list(found.values())


def _home(location: Location, environ: Mapping[str, str]) -> Path:
    return _env_path(environ, location.variable) or Path(location.home).expanduser()


def _in_editors(environ: Mapping[str, str], platform: str) -> Iterator[Location]:
    """Cline's places, and its forks', in every editor."""
    system = {"win32": "windows", "darwin": "macos"}.get(platform, "linux")
    config = app_data(system, Path.home(), environ)
    for data in (*(config / editor for editor in EDITORS), *(Path(data).expanduser() for data in _REMOTE_EDITORS)):
        for extension in _CLINES:
            yield Location(CLINE, "", str(extension_folder(data, extension)), "tasks", _TASKS, f"{{}}/{TASK_FILE}")


def find_transcripts(environ: Mapping[str, str] | None = None) -> Iterator[tuple[Location, Path]]:
    """Every transcript on this machine, oldest first, so that the conversation last active is the one last stored."""
    found = [(location, file) for location, folder in existing_folders(environ) for file in folder.glob(location.files)]
    yield from sorted(found, key=lambda pair: (_mtime(pair[1]), pair[1]))


def find_transcript(agent: str, session_id: str, environ: Mapping[str, str] | None = None) -> Path | None:
    """The file of a session whose event names none."""
    if not session_id.replace("-", "").replace("_", "").isalnum():
        return None
    for location, folder in existing_folders(environ):
        if location.agent == agent:
            found = next(folder.glob(location.named.format(session_id)), None)
            if found is not None:
                return found
    return None


def subagents_of(file: Path) -> list[Path]:
    """The transcripts of a session's sub-agents. Their folder lies in one of the session's name: beside the session's
    file, or with it in that."""
    folder = file.parent if file.parent.name == file.stem else file.with_suffix("")
    return sorted((folder / SUBAGENTS).glob("*.jsonl"))


def _env_path(environ: Mapping[str, str], variable: str) -> Path | None:
    given = environ.get(variable, "").strip()
    return Path(given).expanduser() if given else None


def _mtime(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
