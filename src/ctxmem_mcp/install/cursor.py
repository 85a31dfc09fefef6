"""Cursor: servers in ~/.cursor/mcp.json, hooks in ~/.cursor/hooks.json; the same in a project's .cursor folder.

Its events have their own names. Only those with content are registered: the others could only announce a transcript,
which has less than these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.agents import CURSOR
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import JsonServers
from ctxmem_mcp.install.hook_edits import JsonHooks


def _servers(folder: Path) -> Sequence[JsonServers]:
    return [JsonServers(folder / "mcp.json", "mcpServers")]


def _hooks(folder: Path) -> Sequence[JsonHooks]:
    return [JsonHooks(folder / "hooks.json", CURSOR, flat=True, typed=False, version=1)]


AGENT = Agent(
    CURSOR,
    markers=lambda host: [host.home / ".cursor"],
    servers=lambda host: _servers(host.home / ".cursor"),
    hooks=lambda host: _hooks(host.home / ".cursor"),
    project_servers=lambda host: _servers(host.project / ".cursor"),
    project_hooks=lambda host: _hooks(host.project / ".cursor"),
    after="Restart Cursor. Its settings list ctxmem under MCP, enabled.",
    after_hooks="They list the hooks under Hooks.",
)
