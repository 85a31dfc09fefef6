"""Claude Code: servers in ~/.claude.json, hooks in ~/.claude/settings.json.

A project's are in .mcp.json and, for this user only, in .claude/settings.local.json. What `claude mcp add` registers
without a scope is in ~/.claude.json as well, for a single folder.

On Windows older versions run hooks in Git's bash, which strips backslashes. Newer ones run them without a shell.

A version that does not know an event rejects all hooks of the file, so the newer events are registered only if the
installed version has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.agents import CLAUDE_CODE
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.agent_version import installed_version
from ctxmem_mcp.install.config_edits import JsonServers
from ctxmem_mcp.install.hook_edits import JsonHooks
from ctxmem_mcp.install.host_paths import HostPaths


def _folder(host: HostPaths) -> Path:
    return host.env_path("CLAUDE_CONFIG_DIR") or host.home / ".claude"


def _state(host: HostPaths) -> Path:
    return (host.env_path("CLAUDE_CONFIG_DIR") or host.home) / ".claude.json"


def _servers(path: Path) -> Sequence[JsonServers]:
    return [JsonServers(path, "mcpServers", {"type": "stdio"}, {"env": {}})]


def _hooks(host: HostPaths, path: Path) -> Sequence[JsonHooks]:
    version = installed_version("claude", host)
    return [JsonHooks(path, CLAUDE_CODE, by_bash=True, agent_version=version, shortens_outputs=host.shortens_outputs)]


AGENT = Agent(
    CLAUDE_CODE,
    markers=lambda host: [_folder(host), _state(host)],
    servers=lambda host: _servers(_state(host)),
    hooks=lambda host: _hooks(host, _folder(host) / "settings.json"),
    project_servers=lambda host: _servers(host.project / ".mcp.json"),
    project_hooks=lambda host: _hooks(host, host.project / ".claude" / "settings.local.json"),
    foreign_servers=lambda host: [
        JsonServers(_state(host), "mcpServers", within=("projects", str(host.project))),
    ],
    foreign_removal_command="claude mcp remove --scope local ctxmem",
    after="Start a new session. `/mcp` lists ctxmem as connected.",
    after_hooks="`/hooks` lists the hooks.",
)
