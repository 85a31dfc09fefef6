"""VS Code (Copilot): servers in the user's mcp.json, or in a project's .vscode/mcp.json, under `servers`.

No hooks of its own are registered: it runs those of ~/.claude/settings.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import JsonServers
from ctxmem_mcp.install.machine import Machine

NAME = "vscode"
EDITIONS = ("Code", "Code - Insiders")


def _folders(machine: Machine) -> list[Path]:
    return [machine.config / edition / "User" for edition in EDITIONS]


def _part(folder: Path) -> JsonServers:
    return JsonServers(folder / "mcp.json", "servers", {"type": "stdio"})


def _servers(machine: Machine) -> Sequence[JsonServers]:
    folders = _folders(machine)
    return [_part(folder) for folder in [folder for folder in folders if folder.is_dir()] or folders[:1]]


AGENT = Agent(
    NAME,
    "VS Code",
    traces=_folders,
    servers=_servers,
    project_servers=lambda machine: [_part(machine.project / ".vscode")],
    after="Run `MCP: List Servers`, choose ctxmem, Start Server, and trust it once.",
)
