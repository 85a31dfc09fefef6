"""Claude Code's newer hooks are registered only with versions that know them: an older one would reject all hooks."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.install import apply
from ctxmem_mcp.install.agent_version import _version_of, installed_version
from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.install.inspect import inspect_agent
from ctxmem_mcp.install.probe import ProbeResult
from ctxmem_mcp.install.registry import AGENTS
from ctxmem_mcp.install.server_entry import ServerCommand

GOLDEN = Path(__file__).parent / "golden" / "claude-code"
NEWER = {"PostToolUseFailure", "StopFailure"}
OLD, PRESENT = "2.0.30 (Claude Code)", "2.1.332 (Claude Code)"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the program is a shell script")


@pytest.fixture(autouse=True)
def no_cached_versions() -> Iterator[None]:
    yield
    _version_of.cache_clear()


def with_claude(host: HostPaths, prints: str, *, code: int = 0) -> HostPaths:
    """A user who has this version of Claude Code on the PATH."""
    folder = host.home / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "claude").write_text(f"#!/bin/sh\necho '{prints}'\nexit {code}\n", "utf-8")
    (folder / "claude").chmod(0o755)
    _version_of.cache_clear()
    return replace(host, environ={"PATH": str(folder)})


def settings_after_install(host: HostPaths, server: ServerCommand) -> Any:
    for change in apply.plan_install(AGENTS["claude-code"].edits(host, project=False), server):
        apply.apply_change(change, datetime(2026, 11, 12))
    return json.loads((host.home / ".claude" / "settings.json").read_text("utf-8"))


def our_hooks(settings: Any) -> list[Any]:
    return [hook for groups in settings["hooks"].values() for group in groups for hook in group["hooks"]]


def faults(host: HostPaths) -> list[str]:
    report = inspect_agent(AGENTS["claude-code"], host, probe=lambda found: ProbeResult("ctxmem", "0"))
    return [fault.what for fault in report.faults]


@pytest.mark.parametrize(
    ("prints", "code", "expected"),
    [
        (PRESENT, 0, (2, 1, 332)),
        ("v3.0", 0, (3, 0)),
        ("Usage: claude [options]", 0, None),
        (PRESENT, 1, None),
    ],
)
def test_the_version_is_what_the_program_prints(
    prints: str, code: int, expected: tuple[int, ...] | None, host: HostPaths
) -> None:
    assert installed_version("claude", with_claude(host, prints, code=code)) == expected
    assert installed_version("other", host) is None


def test_a_present_version_gets_the_golden_file_and_uninstall_restores_the_original(
    host: HostPaths, server: ServerCommand
) -> None:
    host = with_claude(host, PRESENT)
    path = host.home / ".claude" / "settings.json"
    path.parent.mkdir()
    shutil.copy(GOLDEN / "settings.before.json", path)
    settings_after_install(host, server)
    assert path.read_text("utf-8") == (GOLDEN / "settings.2.1.332.json").read_text("utf-8")
    edits = AGENTS["claude-code"].edits(host, project=False)
    assert apply.plan_install(edits, server) == []
    for change in apply.plan_uninstall(edits):
        apply.apply_change(change, datetime(2026, 11, 12))
    assert path.read_bytes() == (GOLDEN / "settings.before.json").read_bytes()


def test_the_events_follow_the_installed_version(host: HostPaths, server: ServerCommand) -> None:
    old = set(settings_after_install(with_claude(host, OLD), server)["hooks"])
    assert not old & NEWER
    present = with_claude(host, PRESENT)
    assert any("no hook for PostToolUseFailure, StopFailure" in what for what in faults(present))
    assert set(settings_after_install(present, server)["hooks"]) == old | NEWER
    # An install from a shell that does not find the program keeps what is there, and updates it.
    moved = settings_after_install(host, replace(server, command="/opt/b/ctxmem-mcp"))
    assert set(moved["hooks"]) == old | NEWER
    assert {hook["command"] for hook in our_hooks(moved)} == {"/opt/b/ctxmem-mcp hook claude-code"}
    assert set(settings_after_install(with_claude(host, OLD), server)["hooks"]) == old
    assert not any("no hook" in what for what in faults(with_claude(host, OLD)))


def test_hooks_on_windows_need_no_shell_if_the_version_can_do_that(host: HostPaths) -> None:
    windows = ServerCommand(r"C:\Users\Änne O'Neil\bin\ctxmem-mcp.exe", r"D:\my data", "windows")
    hooks = our_hooks(settings_after_install(with_claude(host, PRESENT), windows))
    assert {(hook["command"], *hook["args"]) for hook in hooks} == {
        (windows.command, "hook", "claude-code", "--data-dir", r"D:\my data")
    }
    edits = AGENTS["claude-code"].edits(with_claude(host, PRESENT), project=False)
    found = [entry for edit in edits if edit.role == "hooks" for entry in edit.find(edit.path.read_text("utf-8"))]
    assert {entry.command for entry in found} == {(windows.command, *hooks[0]["args"])}
    hooks = our_hooks(settings_after_install(with_claude(host, OLD), windows))
    line = """"C:/Users/Änne O'Neil/bin/ctxmem-mcp.exe" hook claude-code --data-dir "D:/my data\""""
    assert {(hook["command"], "args" in hook) for hook in hooks} == {(line, False)}
    settings_after_install(with_claude(host, PRESENT), windows)
    for change in apply.plan_uninstall(edits):
        apply.apply_change(change, datetime(2026, 11, 12))
    assert not (host.home / ".claude" / "settings.json").exists()


def test_claude_code_waits_for_the_hook_after_a_call_only_if_that_shortens_outputs(
    host: HostPaths, server: ServerCommand
) -> None:
    host = with_claude(host, PRESENT)
    for shortens_outputs in (False, True, False):
        settings = settings_after_install(replace(host, shortens_outputs=shortens_outputs), server)
        ((hook,),) = (group["hooks"] for group in settings["hooks"]["PostToolUse"])
        assert hook.get("async", False) is not shortens_outputs
        assert ("--wait" in hook["command"].split()) is shortens_outputs
        ((other,),) = (group["hooks"] for group in settings["hooks"]["SubagentStop"])
        assert other["async"] is True
        assert "--wait" not in other["command"]


def test_doctor_names_a_hook_that_is_too_early_to_shorten_outputs(host: HostPaths, server: ServerCommand) -> None:
    host = with_claude(host, PRESENT)
    settings_after_install(host, server)
    early = "outputs are not shortened: the agent does not wait for the hook for PostToolUse"
    assert early not in faults(host)
    host = replace(host, shortens_outputs=True)
    assert early in faults(host)
    settings_after_install(host, server)
    assert early not in faults(host)
    path = host.home / ".claude" / "settings.json"
    path.write_text(path.read_text("utf-8").replace(" --wait", ""), "utf-8")
    assert early in faults(host)
