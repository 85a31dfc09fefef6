"""Claude Desktop: servers in claude_desktop_config.json. It has no hooks, and no projects with files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import JsonServers
from ctxmem_mcp.install.machine import Machine

NAME = "claude-desktop"


def _folders(machine: Machine) -> list[Path]:
    """Its folder; from Microsoft's store it is installed with a folder of its own that stands for the usual one."""
    usual = machine.config / "Claude"
    packed = machine.local.glob("Packages/Claude_*/LocalCache/Roaming/Claude") if machine.system == "windows" else ()
    there = [folder for folder in (usual, *sorted(packed)) if folder.is_dir()]
    return there or [usual]


def _servers(machine: Machine) -> Sequence[JsonServers]:
    return [JsonServers(folder / "claude_desktop_config.json", "mcpServers") for folder in _folders(machine)]


AGENT = Agent(
    NAME,
    "Claude Desktop",
    traces=_folders,
    servers=_servers,
    after="Quit the program, not only its window, and start it again. Settings > Developer lists ctxmem as running.",
)
