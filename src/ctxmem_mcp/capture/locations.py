"""Finds the transcripts that agents keep on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.agents import (
    AGENTS,
    CLINE,
    CLINE_SESSION_SUFFIX,
    CLINE_TASK_FILE,
    COPILOT_CHAT,
    GOOSE,
    KIRO,
    ZED,
    AgentInfo,
    SessionFiles,
)
from ctxmem_mcp.home_folder import expand_user, home_folder

# The folder of a session's sub-agents' transcripts.
SUBAGENTS = "subagents"
# The editors that Cline runs in, by their data folder's name.
EDITORS = ("Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf")
# The data folder of an editor's server, on a remote machine.
_REMOTE_EDITORS = ("~/.vscode-server/data", "~/.vscode-server-insiders/data", "~/.vscode-remote/data")
CLINE_EXTENSION = "saoudrizwan.claude-dev"
ROO_EXTENSION, KILO_EXTENSION = "rooveterinaryinc.roo-cline", "kilocode.kilo-code"
_CLINE_EXTENSIONS = (CLINE_EXTENSION, ROO_EXTENSION, KILO_EXTENSION)
_COPILOT_CHATS = (
    ("workspaceStorage", "*/chatSessions/*.json*"),
    ("globalStorage/emptyWindowChatSessions", "*.json*"),
)
# What `watch` looks for in a folder.
TRANSCRIPT_GLOBS = ("*.jsonl", CLINE_TASK_FILE, f"*{CLINE_SESSION_SUFFIX}")


@dataclass(frozen=True, slots=True)
class Location:
    """An existing folder of an agent's transcripts. files, file: as in SessionFiles."""

    agent: str
    folder: Path
    files: str
    file: str


def app_data(system: str, home: Path, environ: Mapping[str, str]) -> Path:
    """Returns the folder in which desktop programs keep their data (Electron's appData)."""
    if system == "windows":
        return _env_path(environ, "APPDATA") or home / "AppData" / "Roaming"
    if system == "macos":
        return home / "Library" / "Application Support"
    return _env_path(environ, "XDG_CONFIG_HOME") or home / ".config"


def extension_folder(data: Path, extension: str) -> Path:
    """Returns the folder that an editor with this data folder keeps for an extension."""
    return data / "User" / "globalStorage" / extension


def find_locations(environ: Mapping[str, str] | None = None, platform: str = sys.platform) -> list[Location]:
    """Returns the folders of transcripts on this machine, each once."""
    environ = os.environ if environ is None else environ
    known = [
        Location(agent.id, _home(sessions, environ) / sessions.folder, sessions.files, sessions.file)
        for agent in AGENTS.values()
        for sessions in agent.sessions
    ]
    known += [*_in_editors(environ, platform), *_in_app_data(environ, platform)]
    found: dict[tuple[str, Path], Location] = {}
    for location in known:
        if location.folder.is_dir():
            found.setdefault((location.files, location.folder.resolve()), location)
    return list(found.values())


def sessions_folder(agent: AgentInfo, environ: Mapping[str, str] | None = None) -> Path:
    """Returns the folder in which an agent keeps its sessions, whether it exists or not."""
    return _home(agent.sessions[0], os.environ if environ is None else environ) / agent.sessions[0].folder


def _home(sessions: SessionFiles, environ: Mapping[str, str]) -> Path:
    return _env_path(environ, sessions.variable) or Path(expand_user(sessions.home))


def _in_editors(environ: Mapping[str, str], platform: str) -> Iterator[Location]:
    """The folders of Copilot's chats and of the tasks of Cline and its forks, in every editor."""
    config = app_data(_system(platform), Path(home_folder()), environ)
    tasks = CLINE.sessions[0]
    for data in (*(config / editor for editor in EDITORS), *(Path(expand_user(data)) for data in _REMOTE_EDITORS)):
        for folder, files in _COPILOT_CHATS:
            yield Location(COPILOT_CHAT.id, data / "User" / folder, files, "**/{}.json*")
        for extension in _CLINE_EXTENSIONS:
            yield Location(CLINE.id, extension_folder(data, extension) / "tasks", tasks.files, tasks.file)


def _in_app_data(environ: Mapping[str, str], platform: str) -> Iterator[Location]:
    """The folders of programs that keep their data elsewhere on Windows and macOS than on Linux."""
    system, home = _system(platform), Path(home_folder())
    data = app_data(system, home, environ)
    local = _env_path(environ, "LOCALAPPDATA") or home / "AppData" / "Local"
    folders = {
        "windows": [(ZED, local / "Zed" / "threads"), (GOOSE, data / "Block" / "goose" / "data" / "sessions")],
        "macos": [(ZED, data / "Zed" / "threads"), (KIRO, data / "kiro-cli")],
    }
    for agent, folder in folders.get(system, []):
        for sessions in agent.sessions:
            yield Location(agent.id, folder, sessions.files, sessions.file)


def _system(platform: str) -> str:
    return {"win32": "windows", "darwin": "macos"}.get(platform, "linux")


def find_transcripts(environ: Mapping[str, str] | None = None) -> list[Path]:
    """Returns every transcript on this machine, oldest first, so that the session last active is stored last."""
    found = [file for location in find_locations(environ) for file in location.folder.glob(location.files)]
    return sorted(found, key=lambda file: (_mtime(file), file))


def find_transcript(agent: str, session_id: str, environ: Mapping[str, str] | None = None) -> Path | None:
    """Returns a session's transcript; None if there is none. For events that do not name it.

    A session in a database is named by a path below it (see `program_db`).
    """
    if not session_id.replace("-", "").replace("_", "").isalnum():
        return None
    for location in find_locations(environ):
        if location.agent == agent:
            found = next(location.folder.glob(location.file.format(session_id)), None)
            if found is not None:
                return found / session_id if found.suffix == ".db" else found
    return None


def subagents_of(file: Path) -> list[Path]:
    """Returns the transcripts of a session's sub-agents. They are in a folder named for the session, which is either
    beside the session's file or contains it."""
    folder = file.parent if file.parent.name == file.stem else file.with_suffix("")
    return sorted((folder / SUBAGENTS).glob("*.jsonl"))


def _env_path(environ: Mapping[str, str], variable: str) -> Path | None:
    value = environ.get(variable, "").strip()
    return Path(expand_user(value)) if value else None


def _mtime(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
