"""Codex: servers in ~/.codex/config.toml, hooks in ~/.codex/hooks.json; the same in a project's .codex folder.

A hook runs only after the user trusted it, and only as it was then: ours change no more than necessary. Codex waits at
most three seconds for a SessionEnd hook.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.agents import CODEX
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import TomlServers
from ctxmem_mcp.install.hook_edits import JsonHooks
from ctxmem_mcp.install.host_paths import HostPaths

START_SECONDS = 20


def _folder(host: HostPaths) -> Path:
    return host.env_path("CODEX_HOME") or host.home / ".codex"


def _servers(folder: Path) -> Sequence[TomlServers]:
    return [TomlServers(folder / "config.toml", "mcp_servers", {"startup_timeout_sec": START_SECONDS})]


def _hooks(folder: Path) -> Sequence[JsonHooks]:
    return [JsonHooks(folder / "hooks.json", CODEX)]


AGENT = Agent(
    CODEX,
    markers=lambda host: [_folder(host)],
    servers=lambda host: _servers(_folder(host)),
    hooks=lambda host: _hooks(_folder(host)),
    project_servers=lambda host: _servers(host.project / ".codex"),
    project_hooks=lambda host: _hooks(host.project / ".codex"),
    after="Start a new session. `/mcp` lists ctxmem.",
    after_hooks="Open `/hooks` and trust the hooks: Codex runs them only then.",
)
