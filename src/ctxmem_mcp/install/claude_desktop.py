"""Claude Desktop: servers in claude_desktop_config.json. It has no hooks and no project files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.agents import CLAUDE_DESKTOP
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import JsonServers
from ctxmem_mcp.install.host_paths import HostPaths


def _folders(host: HostPaths) -> list[Path]:
    """Its config folders. An installation from the Microsoft Store has a folder of its own instead of the usual one."""
    usual = host.config / "Claude"
    packed = host.local.glob("Packages/Claude_*/LocalCache/Roaming/Claude") if host.system == "windows" else ()
    there = [folder for folder in (usual, *sorted(packed)) if folder.is_dir()]
    return there or [usual]


def _servers(host: HostPaths) -> Sequence[JsonServers]:
    return [JsonServers(folder / "claude_desktop_config.json", "mcpServers") for folder in _folders(host)]


AGENT = Agent(
    CLAUDE_DESKTOP,
    markers=_folders,
    servers=_servers,
    after="Quit the program, not only its window, and start it again. Settings > Developer lists ctxmem as running.",
)
