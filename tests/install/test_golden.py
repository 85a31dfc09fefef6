"""Installing into files in the agents' real formats, made by hand, and uninstalling back to the same bytes.

An agent's files are `golden/AGENT/NAME.before.*` and `NAME.after.*`; FILES says where they belong in a home.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from ctxmem_mcp.errors import ConfigRefused
from ctxmem_mcp.install import apply
from ctxmem_mcp.install.apply import Change
from ctxmem_mcp.install.config_edits import ConfigEdit
from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.install.registry import AGENTS
from ctxmem_mcp.install.server_entry import ServerCommand

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 11, 12, 10, 15, 0)
CLINE = ".config/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"
ROO = ".config/Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json"
# agent, the golden file's name, its place in the home
FILES = [
    ("claude-code", "state.{}.json", ".claude.json"),
    ("claude-code", "settings.{}.json", ".claude/settings.json"),
    ("claude-desktop", "servers.{}.json", ".config/Claude/claude_desktop_config.json"),
    ("cursor", "servers.{}.json", ".cursor/mcp.json"),
    ("cursor", "hooks.{}.json", ".cursor/hooks.json"),
    ("cline", "servers.{}.json", CLINE),
    ("vscode", "servers.{}.json", ".config/Code/User/mcp.json"),
    ("vscode", "hooks.{}.json", ".copilot/hooks/ctxmem.json"),
    ("codex", "servers.{}.toml", ".codex/config.toml"),
    ("codex", "hooks.{}.json", ".codex/hooks.json"),
    ("gemini", "settings.{}.json", ".gemini/settings.json"),
    ("qwen-code", "settings.{}.json", ".qwen/settings.json"),
    ("opencode", "servers.{}.json", ".config/opencode/opencode.json"),
    ("copilot-cli", "servers.{}.json", ".copilot/mcp-config.json"),
    ("windsurf", "servers.{}.json", ".codeium/windsurf/mcp_config.json"),
    ("zed", "settings.{}.json", ".config/zed/settings.json"),
    ("jetbrains", "servers.{}.json", ".junie/mcp/mcp.json"),
    ("kiro", "servers.{}.json", ".kiro/settings/mcp.json"),
    ("amp", "settings.{}.json", ".config/amp/settings.json"),
    ("goose", "config.{}.yaml", ".config/goose/config.yaml"),
    ("roo", "servers.{}.json", ROO),
    ("kilo", "servers.{}.json", ".config/kilo/kilo.json"),
]
AS_IT_IS: Callable[[bytes], bytes] = bytes


def crlf(content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n")


def with_bom(content: bytes) -> bytes:
    return b"\xef\xbb\xbf" + content


def edits_of(agent: str, host: HostPaths) -> list[ConfigEdit]:
    return AGENTS[agent].edits(host, project=False)


def installed(agent: str, host: HostPaths, server: ServerCommand) -> list[Path]:
    """Installs; returns the copies that were kept."""
    changes = apply.plan_install(edits_of(agent, host), server)
    return [kept for change in changes if (kept := apply.apply_change(change, NOW))]


def uninstalled(agent: str, host: HostPaths) -> list[Change]:
    changes = apply.plan_uninstall(edits_of(agent, host))
    for change in changes:
        apply.apply_change(change, NOW)
    return changes


@pytest.mark.parametrize("form", [AS_IT_IS, crlf, with_bom], ids=["as it is", "crlf", "bom"])
@pytest.mark.parametrize(("agent", "name", "place"), FILES, ids=[f"{agent} {name}" for agent, name, _ in FILES])
def test_install_produces_the_golden_file_and_uninstall_restores_the_original(
    agent: str, name: str, place: str, form: Callable[[bytes], bytes], host: HostPaths, server: ServerCommand
) -> None:
    before, after = (form((GOLDEN / agent / name.format(when)).read_bytes()) for when in ("before", "after"))
    path = host.home / place
    path.parent.mkdir(parents=True)
    path.write_bytes(before)
    kept = installed(agent, host, server)
    assert path.read_bytes() == after
    assert [copy.read_bytes() for copy in kept] == [before]
    assert kept[0].name == f"{path.name}.ctxmem-20261112-101500.bak"
    assert apply.plan_install(edits_of(agent, host), server) == []
    uninstalled(agent, host)
    assert path.read_bytes() == before
    assert apply.plan_uninstall(edits_of(agent, host)) == []


@pytest.mark.parametrize("content", [None, b"", b"\n", b"  \n\n"], ids=["missing", "empty", "a line", "blank"])
@pytest.mark.parametrize("agent", AGENTS)
def test_uninstall_removes_files_that_install_created(
    agent: str, content: bytes | None, host: HostPaths, server: ServerCommand
) -> None:
    paths = list(dict.fromkeys(edit.path for edit in edits_of(agent, host) if edit.path.suffix))
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(content)
    installed(agent, host, server)
    assert all(path.stat().st_size > 20 for path in paths)
    uninstalled(agent, host)
    left = {path: path.read_bytes() if path.exists() else None for path in paths}
    assert left == dict.fromkeys(paths, content)
    files = [path for path in host.home.rglob("*") if path.is_file() and path.suffix != ".bak"]
    assert sorted(files) == (sorted(paths) if content is not None else [])


@pytest.mark.parametrize("agent", AGENTS)
def test_an_older_entry_is_updated_in_place(agent: str, host: HostPaths, server: ServerCommand) -> None:
    installed(agent, host, ServerCommand("/home/me/.venv old/bin/ctxmem-mcp", "/mnt/memory"))
    age_events = {edit.path: edit.path.read_text("utf-8") for edit in edits_of(agent, host)}
    installed(agent, host, server)
    for path, text in age_events.items():
        assert path.read_text("utf-8") == text.replace("'/home/me/.venv old/bin/ctxmem-mcp'", server.command).replace(
            "/home/me/.venv old/bin/ctxmem-mcp", server.command
        )
    # The data folder stays the same until another one is named.
    assert all("/mnt/memory" in text for text in age_events.values())
    installed(agent, host, ServerCommand(server.command, "/mnt/other"))
    assert all("/mnt/other" in edit.path.read_text("utf-8") for edit in edits_of(agent, host))
    uninstalled(agent, host)
    assert not any(edit.path.exists() for edit in edits_of(agent, host))


def test_what_the_user_added_to_and_around_our_entry_is_kept(host: HostPaths, server: ServerCommand) -> None:
    path = host.home / ".cursor" / "mcp.json"
    path.parent.mkdir(parents=True)
    text = """{
  "mcpServers": { // all of them
    "ctxmem": {"command": "uvx", "args": ["ctxmem-mcp"], "env": {"CTXMEM_RETENTION_DAYS": "90"}, },
    "other": {"command": "x"} }
}"""
    path.write_text(text, "utf-8")
    installed("cursor", host, server)
    assert path.read_text("utf-8") == text.replace('"uvx", "args": ["ctxmem-mcp"]', f'"{server.command}", "args": []')
    uninstalled("cursor", host)
    assert path.read_text("utf-8") == '{\n  "mcpServers": { // all of them\n    "other": {"command": "x"} }\n}'


def test_duplicate_hooks_become_one_and_others_hooks_are_kept(host: HostPaths, server: ServerCommand) -> None:
    path = host.home / ".claude" / "settings.json"
    path.parent.mkdir(parents=True)
    path.write_text(
        """{"hooks": {
  "Stop": [
    {"hooks": [{"command": "/old/ctxmem-mcp hook claude-code"}, {"type": "command", "command": "a"}]},
    {"hooks": [{"type": "command", "command": "python -m ctxmem_mcp hook claude-code"}]}
  ],
  "Notification": [
    {"hooks": [{"type": "command", "command": "\\"C:/x y/ctxmem-mcp.exe\\" hook claude-code"}]},
    {"hooks": [{"type": "command", "command": "echo ctxmem-mcp hook"}]}
  ]
}}""",
        "utf-8",
    )
    installed("claude-code", host, server)
    text, line = path.read_text("utf-8"), f"{server.command} hook claude-code"
    assert text.startswith(
        f"""{{"hooks": {{
  "Stop": [
    {{"hooks": [{{"command": "{line}", "timeout": 10}}, {{"type": "command", "command": "a"}}]}}
  ],
  "Notification": [
    {{"hooks": [{{"type": "command", "command": "echo ctxmem-mcp hook"}}]}}
  ],
"""
    )
    uninstalled("claude-code", host)
    assert path.read_text("utf-8").split("\n") == [
        '{"hooks": {',
        '  "Stop": [',
        '    {"hooks": [{"type": "command", "command": "a"}]}',
        "  ],",
        '  "Notification": [',
        '    {"hooks": [{"type": "command", "command": "echo ctxmem-mcp hook"}]}',
        "  ]",
        "}}",
    ]


def test_the_users_own_timeout_is_kept(host: HostPaths, server: ServerCommand) -> None:
    installed("claude-code", host, server)
    path = host.home / ".claude" / "settings.json"
    edited = path.read_text("utf-8").replace('"timeout": 10', '"timeout": 60', 2)
    path.write_text(edited, "utf-8")
    assert apply.plan_install(edits_of("claude-code", host), server) == []


@pytest.mark.parametrize(
    ("agent", "place", "text"),
    [
        ("claude-code", ".claude/settings.json", '{"hooks": {"Stop": [{"hooks": [{"command": "%s"}]}]}}'),
        ("cursor", ".cursor/hooks.json", '{"version": 1, "hooks": {"stop": [{"command": "%s"}]}}'),
    ],
)
def test_a_hook_that_does_more_than_call_us_is_neither_removed_nor_overwritten(
    agent: str, place: str, text: str, host: HostPaths, server: ServerCommand
) -> None:
    path = host.home / place
    path.parent.mkdir(parents=True)
    text = text % f"/old/ctxmem-mcp hook {agent} && notify-send done"
    path.write_text(text, "utf-8")
    message = (
        r"has a hook for \w+ that does more than call this program, `.*notify-send done`; put the call and the rest"
    )
    for act in (lambda: installed(agent, host, server), lambda: uninstalled(agent, host)):
        with pytest.raises(ConfigRefused, match=message):
            act()
    assert [one for one in host.home.rglob("*") if one.is_file()] == [path]
    assert path.read_text("utf-8") == text


def test_an_edited_hook_script_is_the_users_own(host: HostPaths, server: ServerCommand) -> None:
    installed("cline", host, server)
    path = host.home / "Documents" / "Cline" / "Hooks" / "PostToolUse"
    edited = path.read_text("utf-8").replace("exec ", "export CTXMEM_REDACT=secrets\nexec ")
    path.write_text(edited, "utf-8")
    with pytest.raises(ConfigRefused, match="hook of your own"):
        installed("cline", host, ServerCommand("/opt/b/ctxmem-mcp"))
    uninstalled("cline", host)
    assert path.read_text("utf-8") == edited


def test_a_file_edited_since_keeps_the_edits_and_a_copy_is_kept(host: HostPaths, server: ServerCommand) -> None:
    path = host.home / ".codex" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text('model = "a"', "utf-8")
    installed("codex", host, server)
    edited = path.read_text("utf-8").replace('"a"', '"b"') + '\n[projects."/x"]\ntrust_level = "trusted"\n'
    path.write_text(edited, "utf-8")
    changes = {change.path: change for change in uninstalled("codex", host)}
    assert path.read_text("utf-8") == 'model = "b"\n\n[projects."/x"]\ntrust_level = "trusted"\n'
    assert changes[path].backs_up
    assert not (host.home / ".codex" / "hooks.json").exists()


# ---------------------------------------------------------------- refusing


BROKEN = {
    "yaml": b"extensions: {developer: {enabled: true}\n",
    "json": b'{"mcpServers": {"a": 1 "b": 2}, "hooks": {}}',
    "toml": b"[mcp_servers\n",
    "bytes": b'{"a": "\xff"}',
}


@pytest.mark.parametrize("kind", ["broken", "bytes"])
@pytest.mark.parametrize(("agent", "name", "place"), FILES, ids=[f"{agent} {name}" for agent, name, _ in FILES])
def test_a_broken_file_is_refused_by_name_and_none_of_the_agents_files_changes(
    agent: str, name: str, place: str, kind: str, host: HostPaths, server: ServerCommand
) -> None:
    path = host.home / place
    content = BROKEN["bytes"] if kind == "bytes" else BROKEN[path.suffix[1:]]
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for act in (lambda: installed(agent, host, server), lambda: uninstalled(agent, host)):
        with pytest.raises(ConfigRefused, match=path.name):
            act()
    assert path.read_bytes() == content
    assert [one for one in host.home.rglob("*") if one.is_file()] == [path]


def test_the_users_own_hook_in_cline_is_not_overwritten(host: HostPaths, server: ServerCommand) -> None:
    own = host.home / "Documents" / "Cline" / "Hooks" / "PostToolUse"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\necho '{}'\n", "utf-8")
    with pytest.raises(ConfigRefused, match=r"hook of your own.*--no-hooks"):
        installed("cline", host, server)
    assert own.read_text("utf-8") == "#!/bin/sh\necho '{}'\n"


def test_a_file_that_changed_since_it_was_read_is_not_written(host: HostPaths, server: ServerCommand) -> None:
    (change, *_) = apply.plan_install(edits_of("vscode", host), server)
    change.path.parent.mkdir(parents=True)
    change.path.write_text("{}", "utf-8")
    with pytest.raises(ConfigRefused, match="changed by another program"):
        apply.apply_change(change, NOW)
    assert change.path.read_text("utf-8") == "{}"


# ---------------------------------------------------------------- the file system


def test_permissions_and_links_are_kept_and_the_copy_has_them_too(host: HostPaths, server: ServerCommand) -> None:
    real = host.home / "dotfiles" / "claude.json"
    real.parent.mkdir(parents=True)
    real.write_text('{"oauthAccount": "secret"}\n', "utf-8")
    real.chmod(0o640)
    link = host.home / ".claude.json"
    link.symlink_to(real)
    (kept,) = installed("claude-code", host, server)
    assert link.is_symlink()
    assert "ctxmem" in real.read_text("utf-8")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (real, kept)] == [0o640, 0o640]
    assert kept.parent == link.parent
    assert [path.name for path in real.parent.iterdir()] == ["claude.json"]
    uninstalled("claude-code", host)
    assert link.is_symlink()
    assert real.read_text("utf-8") == '{"oauthAccount": "secret"}\n'


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_new_files_follow_the_umask_and_hook_scripts_are_executable(host: HostPaths, server: ServerCommand) -> None:
    before = os.umask(0o027)
    try:
        installed("cline", host, server)
    finally:
        os.umask(before)
    modes = {edit.path.name: stat.S_IMODE(edit.path.stat().st_mode) for edit in edits_of("cline", host)}
    assert modes.pop("cline_mcp_settings.json") == 0o640
    assert set(modes.values()) == {0o750}


# A folder in which nobody can create a file, not even root.
UNWRITABLE = Path("/sys/kernel")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.skipif(
    getattr(os, "geteuid", int)() == 0 and not UNWRITABLE.is_dir(), reason="root may write anywhere but to Linux's /sys"
)
def test_an_unwritable_folder_is_refused(host: HostPaths, server: ServerCommand) -> None:
    folder = host.home / ".cursor"
    if UNWRITABLE.is_dir():
        host.home.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(UNWRITABLE)
    else:
        folder.mkdir(parents=True)
        folder.chmod(0o500)
    before = sorted(folder.iterdir())
    with pytest.raises(ConfigRefused, match="can't be written"):
        installed("cursor", host, server)
    assert sorted(folder.iterdir()) == before


def test_a_read_only_file_is_refused_and_none_of_the_agents_files_changes(
    host: HostPaths, server: ServerCommand
) -> None:
    hooks = host.home / ".cursor" / "hooks.json"
    hooks.parent.mkdir(parents=True)
    hooks.write_text("{}", "utf-8")
    hooks.chmod(0o444)
    with pytest.raises(ConfigRefused, match=r"hooks\.json is read-only\. Make it writable, then run this again\."):
        installed("cursor", host, server)
    assert [(path.name, path.read_text("utf-8")) for path in hooks.parent.iterdir()] == [("hooks.json", "{}")]
    hooks.chmod(0o644)
    installed("cursor", host, server)
    hooks.chmod(0o444)
    assert apply.plan_install(edits_of("cursor", host), server) == []
    with pytest.raises(ConfigRefused, match="is read-only"):
        uninstalled("cursor", host)
    hooks.chmod(0o644)


def test_two_copies_in_one_second_are_two_files(host: HostPaths, server: ServerCommand) -> None:
    path = host.home / ".cursor" / "mcp.json"
    path.parent.mkdir(parents=True)
    path.write_text("{ }", "utf-8")
    kept = [*installed("cursor", host, server), *installed("cursor", host, ServerCommand("/opt/b/ctxmem-mcp"))]
    assert len({copy for copy in kept if copy.name.startswith("mcp.json")}) == 2
    uninstalled("cursor", host)
    assert path.read_text("utf-8") == "{ }"
