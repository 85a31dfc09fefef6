"""Cline: servers in cline_mcp_settings.json, in the folder of the editor it runs in and in that of its command; a hook
is a file named for its event in Documents/Cline/Hooks (in older versions Documents/Cline/Rules/Hooks).

There are no hooks on Windows: there they would have to be PowerShell scripts. A project has no file for servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.capture.locations import CLINE_EXTENSION, EDITORS, in_editor
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import JsonServers
from ctxmem_mcp.install.hook_edits import Script
from ctxmem_mcp.install.machine import Machine

NAME = "cline"
# Those that carry words.
EVENTS = ("UserPromptSubmit", "PostToolUse")
ONLY_READ = ["get_context", "expand_node", "search_turns", "list_conversations"]
_SETTINGS = Path("settings") / "cline_mcp_settings.json"


def _in_editor(machine: Machine, editor: str) -> Path:
    return in_editor(machine.config / editor, CLINE_EXTENSION)


def _folders(machine: Machine) -> list[Path]:
    return [*(_in_editor(machine, editor) for editor in EDITORS), machine.home / ".cline" / "data"]


def _servers(machine: Machine) -> Sequence[JsonServers]:
    named = machine.named("CLINE_MCP_SETTINGS_PATH")
    there = [folder / _SETTINGS for folder in _folders(machine) if folder.is_dir()]
    paths = [named] if named else there or [_in_editor(machine, EDITORS[0]) / _SETTINGS]
    return [JsonServers(path, "mcpServers", {}, {"disabled": False, "autoApprove": ONLY_READ}) for path in paths]


def _hooks(machine: Machine) -> Sequence[Script]:
    if machine.system == "windows":
        return []
    now, older = machine.documents / "Cline" / "Hooks", machine.documents / "Cline" / "Rules" / "Hooks"
    folder = older if older.is_dir() and not now.is_dir() else now
    return [Script(folder / event, NAME) for event in EVENTS]


AGENT = Agent(
    NAME,
    "Cline",
    traces=_folders,
    servers=_servers,
    hooks=_hooks,
    after="Reload the editor's window. Under MCP Servers ctxmem has a green mark.",
    after_hooks="Switch hooks on in Cline's settings.",
)
