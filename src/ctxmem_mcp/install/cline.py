"""Cline: servers in cline_mcp_settings.json, in the folder of each editor it runs in and in that of its CLI.

A hook is a script named for its event in Documents/Cline/Hooks (in older versions Documents/Cline/Rules/Hooks). On
Windows no hooks are registered: they would have to be PowerShell scripts. A project has no file for servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.agents import CLINE
from ctxmem_mcp.capture.locations import CLINE_EXTENSION, EDITORS, extension_folder
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import JsonServers
from ctxmem_mcp.install.hook_files import HookScript
from ctxmem_mcp.install.host_paths import HostPaths

READ_ONLY_TOOLS = ["get_context", "expand_node", "search_turns", "list_conversations"]
_SETTINGS = Path("settings") / "cline_mcp_settings.json"


def _in_editor(host: HostPaths, editor: str) -> Path:
    return extension_folder(host.config / editor, CLINE_EXTENSION)


def _folders(host: HostPaths) -> list[Path]:
    return [*(_in_editor(host, editor) for editor in EDITORS), host.home / ".cline" / "data"]


def _servers(host: HostPaths) -> Sequence[JsonServers]:
    named = host.env_path("CLINE_MCP_SETTINGS_PATH")
    there = [folder / _SETTINGS for folder in _folders(host) if folder.is_dir()]
    paths = [named] if named else there or [_in_editor(host, EDITORS[0]) / _SETTINGS]
    return [JsonServers(path, "mcpServers", {}, {"disabled": False, "autoApprove": READ_ONLY_TOOLS}) for path in paths]


def _hooks(host: HostPaths) -> Sequence[HookScript]:
    if host.system == "windows":
        return []
    current, older = host.documents / "Cline" / "Hooks", host.documents / "Cline" / "Rules" / "Hooks"
    folder = older if older.is_dir() and not current.is_dir() else current
    return [HookScript(folder / event, CLINE.id) for event in CLINE.events]


AGENT = Agent(
    CLINE,
    markers=_folders,
    servers=_servers,
    hooks=_hooks,
    after="Reload the editor's window. Under MCP Servers ctxmem has a green mark.",
    after_hooks="Enable hooks in Cline's settings.",
)
