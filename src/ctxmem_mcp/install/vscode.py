"""VS Code (Copilot): servers in the user's mcp.json, or in a project's .vscode/mcp.json, under `servers`.

No hooks are registered for it: it runs those in ~/.claude/settings.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.agents import VSCODE
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import JsonServers
from ctxmem_mcp.install.host_paths import HostPaths

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
    project_servers=lambda host: [_edit(host.project / ".vscode")],
    after="Run `MCP: List Servers`, choose ctxmem, Start Server, and trust it once.",
)
