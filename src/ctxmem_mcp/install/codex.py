"""Codex: servers in ~/.codex/config.toml, hooks in ~/.codex/hooks.json; the same in a project's .codex folder.

Hooks run only once they are trusted, in the words they have then: ours change no more than they must. The end of a
session is given three seconds at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import TomlServers
from ctxmem_mcp.install.hook_edits import Event, JsonHooks
from ctxmem_mcp.install.machine import Machine

NAME = "codex"
EVENTS: Mapping[str, Event] = {
    "SessionStart": Event("startup|resume|clear|compact"),
    "UserPromptSubmit": Event(),
    "PostToolUse": Event(),
    "PreCompact": Event(),
    "SubagentStop": Event(),
    "Stop": Event(),
    "SessionEnd": Event(seconds=3),
}
START_SECONDS = 20


def _folder(machine: Machine) -> Path:
    return machine.named("CODEX_HOME") or machine.home / ".codex"


def _servers(folder: Path) -> Sequence[TomlServers]:
    return [TomlServers(folder / "config.toml", "mcp_servers", {"startup_timeout_sec": START_SECONDS})]


def _hooks(folder: Path) -> Sequence[JsonHooks]:
    return [JsonHooks(folder / "hooks.json", NAME, EVENTS)]


AGENT = Agent(
    NAME,
    "Codex",
    traces=lambda machine: [_folder(machine)],
    servers=lambda machine: _servers(_folder(machine)),
    hooks=lambda machine: _hooks(_folder(machine)),
    project_servers=lambda machine: _servers(machine.project / ".codex"),
    project_hooks=lambda machine: _hooks(machine.project / ".codex"),
    after="Start a new session. `/mcp` lists ctxmem.",
    after_hooks="Open `/hooks` and trust the hooks, they run only then.",
)
