"""Where agents keep their transcripts on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.agents import AGENTS, CLINE, CLINE_SESSION_SUFFIX, CLINE_TASK_FILE, SessionFiles

# The folder of a session's sub-agents' transcripts.
SUBAGENTS = "subagents"
# Editors that Cline runs in, by the folder where they keep their own.
EDITORS = ("Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf")
# The same folder where an editor's other half runs on the machine that one works on.
_REMOTE_EDITORS = ("~/.vscode-server/data", "~/.vscode-server-insiders/data", "~/.vscode-remote/data")
CLINE_EXTENSION = "saoudrizwan.claude-dev"
_CLINES = (CLINE_EXTENSION, "rooveterinaryinc.roo-cline", "kilocode.kilo-code")
# What a folder that is watched is searched for.
TRANSCRIPT_GLOBS = ("*.jsonl", CLINE_TASK_FILE, f"*{CLINE_SESSION_SUFFIX}")


@dataclass(frozen=True, slots=True)
class Location:
    """A folder that is there, of an agent's transcripts. files, file: globs, as in SessionFiles."""

    agent: str
    folder: Path
    files: str
    file: str


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


def find_locations(environ: Mapping[str, str] | None = None, platform: str = sys.platform) -> list[Location]:
    """The folders of transcripts on this machine, each once."""
    environ = os.environ if environ is None else environ
    known = [
        Location(agent.id, _home(sessions, environ) / sessions.folder, sessions.files, sessions.file)
        for agent in AGENTS.values()
        for sessions in agent.sessions
    ]
    known += _in_editors(environ, platform)
    found: dict[tuple[str, Path], Location] = {}
    for location in known:
        if location.folder.is_dir():
            found.setdefault((location.files, location.folder.resolve()), location)
    return list(found.values())


def _home(sessions: SessionFiles, environ: Mapping[str, str]) -> Path:
    return _env_path(environ, sessions.variable) or Path(sessions.home).expanduser()


def _in_editors(environ: Mapping[str, str], platform: str) -> Iterator[Location]:
    """Cline's places, and its forks', in every editor."""
    system = {"win32": "windows", "darwin": "macos"}.get(platform, "linux")
    config = app_data(system, Path.home(), environ)
    tasks = CLINE.sessions[0]
    for data in (*(config / editor for editor in EDITORS), *(Path(data).expanduser() for data in _REMOTE_EDITORS)):
        for extension in _CLINES:
            yield Location(CLINE.id, extension_folder(data, extension) / "tasks", tasks.files, tasks.file)


def find_transcripts(environ: Mapping[str, str] | None = None) -> list[Path]:
    """Every transcript on this machine, oldest first, so that the conversation last active is the one last stored."""
    found = [file for location in find_locations(environ) for file in location.folder.glob(location.files)]
    return sorted(found, key=lambda file: (_mtime(file), file))


def find_transcript(agent: str, session_id: str, environ: Mapping[str, str] | None = None) -> Path | None:
    """The file of a session whose event names none."""
    if not session_id.replace("-", "").replace("_", "").isalnum():
        return None
    for location in find_locations(environ):
        if location.agent == agent:
            found = next(location.folder.glob(location.file.format(session_id)), None)
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
