"""Where each agent keeps its files on each system, what is written there, and how it is recognised."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.agents import CLINE
from ctxmem_mcp.install import cline, inspect
from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.install.registry import AGENTS
from ctxmem_mcp.install.server_entry import (
    ServerCommand,
    System,
    data_dir_of,
    find_our_call,
    is_our_hook,
    is_our_server,
)
from ctxmem_mcp.mcp_server.tools import TOOLS

PAGE = (Path(__file__).parents[2] / "examples" / "README.md").read_text("utf-8")
HOME = {"linux": "~", "macos": "~", "windows": "%USERPROFILE%"}
APPDATA = {"linux": "~/.config", "macos": "~/Library/Application Support", "windows": "%APPDATA%"}
SYSTEMS: tuple[System, ...] = ("linux", "macos", "windows")


def places(agent: str, system: System) -> list[str]:
    """An agent's files, as the docs write them."""
    home = Path("/home/me")
    environ = {"APPDATA": "/appdata", "LOCALAPPDATA": "/localappdata"} if system == "windows" else {}
    host = HostPaths(system, home, home / "project", environ)
    message = [str(edit.path) for edit in AGENTS[agent].edits(host, project=False)]
    shown = [one.replace("/appdata", "%APPDATA%").replace("/home/me", HOME[system]) for one in message]
    return [one.replace("/", "\\") if system == "windows" else one for one in shown]


@pytest.mark.parametrize("system", SYSTEMS)
def test_servers_are_registered_where_the_examples_page_says(system: System) -> None:
    slash = "\\" if system == "windows" else "/"
    for agent in ("claude-code", "claude-desktop", "cursor", "codex", "cline"):
        (path, *_) = places(agent, system)
        # The page has one path for macOS and Linux for Codex and Cursor.
        assert f"`{path}`" in PAGE, agent
    code = f"{APPDATA[system]}/Code/User".replace("/", slash)
    hooks = slash.join((HOME[system], ".copilot", "hooks", "ctxmem.json"))
    assert places("vscode", system) == [f"{code}{slash}mcp.json", hooks]
    assert f"{code}{slash}globalStorage" in PAGE


def test_hooks_are_in_the_agents_own_folders_and_cline_has_none_on_windows() -> None:
    assert places("claude-code", "linux")[1] == "~/.claude/settings.json"
    assert places("codex", "macos")[1] == "~/.codex/hooks.json"
    assert places("cursor", "windows")[1] == "%USERPROFILE%\\.cursor\\hooks.json"
    assert places("cline", "macos")[1:] == [f"~/Documents/Cline/Hooks/{event}" for event in CLINE.events]
    assert len(places("cline", "windows")) == 1


def test_environment_variables_name_other_folders(tmp_path: Path) -> None:
    environ = {
        "CLAUDE_CONFIG_DIR": "/c",
        "CODEX_HOME": "/x",
        "CLINE_MCP_SETTINGS_PATH": "/l.json",
        "XDG_CONFIG_HOME": "/g",
    }
    host = HostPaths("linux", tmp_path, tmp_path, environ)
    found = {name: [str(edit.path) for edit in agent.edits(host, project=False)] for name, agent in AGENTS.items()}
    assert found["claude-code"] == ["/c/.claude.json", "/c/settings.json"]
    assert found["codex"] == ["/x/config.toml", "/x/hooks.json"]
    assert found["cline"][0] == "/l.json"
    assert found["claude-desktop"] == ["/g/Claude/claude_desktop_config.json"]


def test_every_installed_edition_is_registered(tmp_path: Path) -> None:
    host = HostPaths("windows", tmp_path, tmp_path, {})
    roaming, local = tmp_path / "AppData" / "Roaming", tmp_path / "AppData" / "Local"
    for folder in (
        roaming / "Code - Insiders" / "User",
        roaming / "Cursor" / "User" / "globalStorage" / "saoudrizwan.claude-dev",
        tmp_path / ".cline" / "data",
        local / "Packages" / "Claude_pzs8sxrjxfjjc" / "LocalCache" / "Roaming" / "Claude",
    ):
        folder.mkdir(parents=True)
    found = {name: [edit.path for edit in AGENTS[name].servers(host)] for name in ("vscode", "cline", "claude-desktop")}
    assert [path.relative_to(tmp_path).parts[2:4] for path in found["vscode"]] == [("Code - Insiders", "User")]
    assert [path.relative_to(tmp_path).parts[:3] for path in found["cline"]] == [
        ("AppData", "Roaming", "Cursor"), (".cline", "data", "settings"),
    ]  # fmt: skip
    assert [path.relative_to(local).parts[0] for path in found["claude-desktop"]] == ["Packages"]
    assert all(AGENTS[name].is_present(host) for name in found)
    assert not AGENTS["codex"].is_present(host)


def test_an_older_cline_keeps_its_hooks_in_its_rules_folder(tmp_path: Path) -> None:
    (tmp_path / "Documents" / "Cline" / "Rules" / "Hooks").mkdir(parents=True)
    host = HostPaths("macos", tmp_path, tmp_path)
    assert {edit.path.parent.parent.name for edit in AGENTS["cline"].hooks(host)} == {"Rules"}
    (tmp_path / "Documents" / "Cline" / "Hooks").mkdir()
    assert {edit.path.parent.parent.name for edit in AGENTS["cline"].hooks(host)} == {"Cline"}


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ('XDG_DOCUMENTS_DIR="$HOME/Dokumente"', "home/Dokumente"),
        ('XDG_DOCUMENTS_DIR="$HOME/"', "home"),
        ('XDG_DOCUMENTS_DIR="/mnt/Мои документы"', "/mnt/Мои документы"),
        ('# XDG_DOCUMENTS_DIR="/mnt"', "home/Documents"),
    ],
)
def test_clines_hooks_are_in_the_documents_folder_in_the_users_language(line: str, folder: str, tmp_path: Path) -> None:
    dirs = tmp_path / "home" / ".config" / "user-dirs.dirs"
    dirs.parent.mkdir(parents=True)
    dirs.write_text(f'XDG_DESKTOP_DIR="$HOME/Schreibtisch"\n{line}\n', "utf-8")
    expected: dict[System, Path] = {"linux": tmp_path / folder, "macos": tmp_path / "home" / "Documents"}
    for system in expected:
        host = HostPaths(system, tmp_path / "home", tmp_path)
        assert {edit.path.parent for edit in AGENTS["cline"].hooks(host)} == {expected[system] / "Cline" / "Hooks"}


def test_cline_may_call_only_read_only_tools_without_approval() -> None:
    assert set(cline.READ_ONLY_TOOLS) <= {tool.name for tool in TOOLS if tool.read_only}


# ---------------------------------------------------------------- what is written and recognised


@pytest.mark.parametrize(
    ("server", "by_bash", "line"),
    [
        (ServerCommand("/opt/ctxmem-mcp"), True, "/opt/ctxmem-mcp hook a"),
        (ServerCommand("/opt/it's mine/ctxmem-mcp"), False, "'/opt/it'\"'\"'s mine/ctxmem-mcp' hook a"),
        (ServerCommand("/opt/ctxmem-mcp", "/my data"), False, "/opt/ctxmem-mcp hook a --data-dir '/my data'"),
        (ServerCommand(r"C:\py\ctxmem-mcp.exe", None, "windows"), True, "C:/py/ctxmem-mcp.exe hook a"),
        (
            ServerCommand(r"C:\My Py\ctxmem-mcp.exe", r"D:\x", "windows"),
            True,
            '"C:/My Py/ctxmem-mcp.exe" hook a --data-dir D:/x',
        ),
        (ServerCommand(r"C:\My Py\ctxmem-mcp.exe", None, "windows"), False, r'"C:\My Py\ctxmem-mcp.exe" hook a'),
    ],
)
def test_a_hooks_command_line_is_written_for_the_shell_that_reads_it(
    server: ServerCommand, by_bash: bool, line: str
) -> None:
    assert server.hook_line("a", by_bash=by_bash) == line
    assert is_our_hook(line)


@pytest.mark.parametrize(
    "line",
    ["/usr/bin/python3 -m ctxmem_mcp hook claude-code", '& "C:\\a b\\ctxmem-mcp.exe" hook cursor',
     "uvx ctxmem-mcp hook x", "ctxmem-mcp --data-dir /x hook codex", "C:\\py\\ctxmem-mcp.cmd hook codex",
     "ctxmem-mcp hook codex 2>/dev/null || true", "'/opt/R&D; x/ctxmem-mcp' hook codex >> /tmp/log 2>&1; exit 0"],
)  # fmt: skip
def test_our_hooks_are_recognised_in_all_their_forms(line: str) -> None:
    assert is_our_hook(line)


@pytest.mark.parametrize(
    "line",
    ["ctxmem-mcp hook codex && notify-send done", "ctxmem-mcp hook codex; say done", "tee /log | ctxmem-mcp hook codex",
     "cd /x\nctxmem-mcp hook codex", "CTXMEM_DATA_DIR=/x ctxmem-mcp hook codex"],
)  # fmt: skip
def test_a_line_with_other_commands_is_the_users_and_our_call_in_it_is_found(line: str) -> None:
    assert not is_our_hook(line)
    assert find_our_call(line) == ["ctxmem-mcp", "hook", "codex"]


@pytest.mark.parametrize(
    "line",
    [
        "echo ctxmem-mcp hook",
        "/opt/ctxmem-mcp doctor",
        "cat /home/ctxmem-mcp/hook",
        "other hook claude-code",
        "'",
        "",
        None,
        3,
    ],
)
def test_others_hooks_are_not_taken_for_ours(line: Any) -> None:
    assert not is_our_hook(line)
    assert find_our_call(line) == []


@pytest.mark.parametrize(
    "entry",
    [{"command": "ctxmem-mcp"}, {"command": "C:\\x\\ctxmem-mcp.exe", "args": []},
     {"command": "uvx", "args": ["ctxmem-mcp"]}, {"command": "uvx", "args": ["--from", "/x.whl", "ctxmem-mcp"]},
     {"command": "python", "args": ["-m", "ctxmem_mcp"]}],
)  # fmt: skip
def test_our_server_is_recognised_in_all_its_forms(entry: dict[str, Any]) -> None:
    assert is_our_server(entry)


@pytest.mark.parametrize(
    "entry",
    [{"command": "npx", "args": ["fs", "/src/ctxmem-mcp"]}, {"url": "http://127.0.0.1:8377/mcp"}, {"command": 1}, {},
     None, {"command": "tail", "args": ["-f", "ctxmem-mcp"]}],
)  # fmt: skip
def test_others_servers_are_not_taken_for_ours(entry: Any) -> None:
    assert not is_our_server(entry)


def test_a_servers_data_folder_is_read_from_arguments_or_environment() -> None:
    assert data_dir_of({"args": ["serve", "--data-dir", "/a"]}) == "/a"
    assert data_dir_of({"args": ["--data-dir=/b"]}) == "/b"
    assert data_dir_of({"args": [], "env": {"CTXMEM_DATA_DIR": "/c"}}) == "/c"
    assert data_dir_of({"args": ["--data-dir"]}) is None
    assert data_dir_of({"command": "ctxmem-mcp --data-dir '/d e'"}) == "/d e"


def test_the_agents_page_describes_every_agent_and_event() -> None:
    page = (Path(__file__).parents[2] / "docs" / "agents.md").read_text("utf-8")
    for agent in AGENTS.values():
        section = re.search(rf"^## {re.escape(agent.title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, agent.title
        assert f"ctxmem-mcp install {agent.name}" in section[1]
        host = HostPaths("linux", Path("/home/me"), Path("/home/me/project"))
        events = inspect._events(agent.edits(host, project=False))
        assert [event for event in events if f"`{event}`" not in section[1]] == []
