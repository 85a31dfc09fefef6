"""Agents of which only the servers are registered, a few lines for each: their programs have no hooks, or none that
another program can add."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ctxmem_mcp.agents import AMP, GOOSE, JETBRAINS, KILO, KIRO, ROO, WINDSURF, ZED, AgentInfo
from ctxmem_mcp.capture.locations import EDITORS, KILO_EXTENSION, ROO_EXTENSION, extension_folder
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import ConfigEdit, JsonServers
from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.install.terminal_agents import opencode_servers
from ctxmem_mcp.install.yaml_servers import YamlServers

_USUAL = "mcpServers"
_DESCRIPTION = "Memory of every session: recall by tools"
_EXTENSION_FILE = Path("settings") / "mcp_settings.json"
Edit = Callable[[Path], ConfigEdit]


def _usual(path: Path) -> ConfigEdit:
    return JsonServers(path, _USUAL)


def _agent(
    info: AgentInfo,
    folder: Callable[[HostPaths], Path],
    file: str,
    after: str,
    *,
    project: str | None = None,
    edit: Edit = _usual,
) -> Agent:
    """An agent with one file in a folder, and maybe one in a project."""

    def project_servers(host: HostPaths) -> Sequence[ConfigEdit]:
        return [edit(host.project / project)] if project else []

    return Agent(
        info,
        markers=lambda host: [folder(host)],
        servers=lambda host: [edit(folder(host) / file)],
        project_servers=project_servers,
        after=after,
    )


def _zed_folder(host: HostPaths) -> Path:
    if host.system == "windows":
        return host.config / "Zed"
    # On macOS too.
    return (host.env_path("XDG_CONFIG_HOME") or host.home / ".config") / "zed"


def _zed(path: Path) -> ConfigEdit:
    return JsonServers(path, "context_servers", {"source": "custom"}, {"env": {}})


def _amp_folder(host: HostPaths) -> Path:
    return (host.env_path("XDG_CONFIG_HOME") or host.home / ".config") / "amp"


def _goose_folder(host: HostPaths) -> Path:
    if host.system == "windows":
        return host.config / "Block" / "goose" / "config"
    # On macOS too.
    return (host.env_path("XDG_CONFIG_HOME") or host.home / ".config") / "goose"


def _goose(path: Path) -> ConfigEdit:
    return YamlServers(path, "extensions", {"description": _DESCRIPTION, "envs": {}, "env_keys": [], "timeout": 300})


def _amp(path: Path) -> ConfigEdit:
    return JsonServers(path, "amp.mcpServers")


WINDSURF_AGENT = _agent(
    WINDSURF,
    lambda host: host.home / ".codeium" / "windsurf",
    "mcp_config.json",
    "Refresh the MCP servers in Cascade's panel, or restart Windsurf: ctxmem has a green mark.",
)
ZED_AGENT = _agent(
    ZED,
    _zed_folder,
    "settings.json",
    "In the Agent Panel's settings, ctxmem has a green mark.",
    project=".zed/settings.json",
    edit=_zed,
)
JETBRAINS_AGENT = _agent(
    JETBRAINS,
    lambda host: host.home / ".junie",
    "mcp/mcp.json",
    "Settings > Tools > Junie > MCP Settings lists ctxmem.",
    project=".junie/mcp/mcp.json",
)
KIRO_AGENT = _agent(
    KIRO,
    lambda host: host.home / ".kiro",
    "settings/mcp.json",
    "Kiro's MCP panel lists ctxmem as connected; in the CLI, `/mcp`.",
    project=".kiro/settings/mcp.json",
)
GOOSE_AGENT = _agent(
    GOOSE,
    _goose_folder,
    "config.yaml",
    "Start a new session. `goose info -v` lists ctxmem among the extensions.",
    edit=_goose,
)
AMP_AGENT = _agent(AMP, _amp_folder, "settings.json", "`amp mcp doctor` shows ctxmem.", edit=_amp)


def _in_editors(host: HostPaths, extension: str) -> list[Path]:
    return [extension_folder(host.config / editor, extension) for editor in EDITORS]


def _roo_servers(host: HostPaths) -> Sequence[ConfigEdit]:
    folders = _in_editors(host, ROO_EXTENSION)
    there = [folder for folder in folders if folder.is_dir()]
    return [_usual(folder / _EXTENSION_FILE) for folder in there or folders[:1]]


def _kilo_servers(host: HostPaths) -> Sequence[ConfigEdit]:
    """The file of the present version, and those of the extension before it."""
    folder = (host.env_path("XDG_CONFIG_HOME") or host.home / ".config") / "kilo"
    before = [one for one in _in_editors(host, KILO_EXTENSION) if one.is_dir()]
    present = opencode_servers(folder, "kilo") if folder.is_dir() or not before else []
    return [*present, *(_usual(one / _EXTENSION_FILE) for one in before)]


ROO_AGENT = Agent(
    ROO,
    markers=lambda host: _in_editors(host, ROO_EXTENSION),
    servers=_roo_servers,
    project_servers=lambda host: [_usual(host.project / ".roo" / "mcp.json")],
    after="Under MCP Servers ctxmem has a green mark.",
)
KILO_AGENT = Agent(
    KILO,
    markers=lambda host: [host.home / ".config" / "kilo", *_in_editors(host, KILO_EXTENSION)],
    servers=_kilo_servers,
    project_servers=lambda host: opencode_servers(host.project / ".kilo", "kilo"),
    after="Under MCP Servers ctxmem has a green mark.",
)
