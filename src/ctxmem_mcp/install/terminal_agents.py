"""Agents of the terminal with a JSON file of servers: Gemini CLI, Qwen Code, GitHub Copilot CLI, opencode.

Gemini CLI and Qwen Code keep their hooks in the same file. Copilot CLI reads every file in its folder of hooks, and so
does VS Code. opencode has no hooks, but runs the plugins in its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.agents import COPILOT_CLI, GEMINI, OPENCODE, QWEN_CODE, AgentInfo
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import JsonServers
from ctxmem_mcp.install.hook_edits import JsonHooks
from ctxmem_mcp.install.hook_files import OpencodePlugin
from ctxmem_mcp.install.host_paths import HostPaths

_SETTINGS = "settings.json"
_HOOKS_AFTER = "`/hooks` lists the hooks."


def _gemini_like(info: AgentInfo, folder_name: str, variable: str) -> Agent:
    """Gemini CLI or a fork of it."""

    def folder(host: HostPaths) -> Path:
        return (host.env_path(variable) or host.home) / folder_name

    def hooks(folder: Path) -> Sequence[JsonHooks]:
        return [JsonHooks(folder / _SETTINGS, info, milliseconds=True)]

    return Agent(
        info,
        markers=lambda host: [folder(host)],
        servers=lambda host: [JsonServers(folder(host) / _SETTINGS, "mcpServers")],
        hooks=lambda host: hooks(folder(host)),
        project_servers=lambda host: [JsonServers(host.project / folder_name / _SETTINGS, "mcpServers")],
        project_hooks=lambda host: hooks(host.project / folder_name),
        after="Start a new session. `/mcp` lists ctxmem as ready.",
        after_hooks=_HOOKS_AFTER,
    )


GEMINI_AGENT = _gemini_like(GEMINI, ".gemini", "GEMINI_CLI_HOME")
QWEN_CODE_AGENT = _gemini_like(QWEN_CODE, ".qwen", "")


def copilot_folder(host: HostPaths) -> Path:
    """Returns the folder of Copilot CLI's own files."""
    return host.env_path("COPILOT_HOME") or host.home / ".copilot"


def copilot_hooks(folder: Path) -> Sequence[JsonHooks]:
    """Returns the hooks in a file of their own, which Copilot CLI and VS Code read."""
    return [JsonHooks(folder / "hooks" / "ctxmem.json", COPILOT_CLI, flat=True, version=1)]


COPILOT_AGENT = Agent(
    COPILOT_CLI,
    markers=lambda host: [copilot_folder(host)],
    servers=lambda host: [
        JsonServers(copilot_folder(host) / "mcp-config.json", "mcpServers", {"type": "local"}, {"tools": ["*"]})
    ],
    hooks=lambda host: copilot_hooks(copilot_folder(host)),
    project_hooks=lambda host: copilot_hooks(host.project / ".github"),
    after="Start a new session. `/mcp show` lists ctxmem.",
    after_hooks="VS Code runs the hooks as well.",
)


def _opencode_folder(host: HostPaths) -> Path:
    # On Windows and macOS too.
    return (host.env_path("XDG_CONFIG_HOME") or host.home / ".config") / "opencode"


def opencode_servers(folder: Path, name: str) -> Sequence[JsonServers]:
    """Returns the servers of a folder of opencode or a fork of it, in the file that is there."""
    files = [folder / f"{name}{suffix}" for suffix in (".json", ".jsonc")]
    path = next((file for file in files if file.is_file()), files[0])
    return [JsonServers(path, "mcp", {"type": "local"}, {"enabled": True}, one_list=True)]


OPENCODE_AGENT = Agent(
    OPENCODE,
    markers=lambda host: [_opencode_folder(host), host.home / ".local" / "share" / "opencode"],
    servers=lambda host: opencode_servers(_opencode_folder(host), "opencode"),
    hooks=lambda host: [OpencodePlugin(_opencode_folder(host) / "plugin" / "ctxmem.js", OPENCODE.id)],
    project_servers=lambda host: opencode_servers(host.project, "opencode"),
    project_hooks=lambda host: [OpencodePlugin(host.project / ".opencode" / "plugin" / "ctxmem.js", OPENCODE.id)],
    after="Start opencode again. `opencode mcp list` shows ctxmem as connected.",
    after_hooks="The plugin in its folder passes events on.",
)
