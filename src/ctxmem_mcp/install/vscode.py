"""VS Code (Copilot): servers in the user's mcp.json, or in a project's .vscode/mcp.json, under `servers`.

Its hooks are those of Copilot CLI, in a file that both read. It runs those in ~/.claude/settings.json, too: with
Claude Code's hooks installed, each event is handled twice, unless `chat.hookFilesLocations` turns one file off.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.agents import VSCODE
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import JsonServers
from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.install.terminal_agents import copilot_folder, copilot_hooks

EDITIONS = ("Code", "Code - Insiders")


def _folders(host: HostPaths) -> list[Path]:
    return [host.config / edition / "User" for edition in EDITIONS]


def _edit(folder: Path) -> JsonServers:
    return JsonServers(folder / "mcp.json", "servers", {"type": "stdio"})


def _servers(host: HostPaths) -> Sequence[JsonServers]:
    folders = _folders(host)
    return [_edit(folder) for folder in [folder for folder in folders if folder.is_dir()] or folders[:1]]


AGENT = Agent(
    VSCODE,
    markers=_folders,
    servers=_servers,
    hooks=lambda host: copilot_hooks(copilot_folder(host)),
    project_servers=lambda host: [_edit(host.project / ".vscode")],
    project_hooks=lambda host: copilot_hooks(host.project / ".github"),
    after="Run `MCP: List Servers`, choose ctxmem, Start Server, and trust it once.",
    after_hooks="The output channel `GitHub Copilot Chat Hooks` shows each run. Copilot CLI runs them as well.",
)
