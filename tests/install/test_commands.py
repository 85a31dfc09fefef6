"""`install`, `uninstall` and `doctor` as a user runs them, in the test's own home folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.__main__ import main
from ctxmem_mcp.capture import spool
from ctxmem_mcp.cli import server_check
from ctxmem_mcp.install import apply, inspect, probe
from ctxmem_mcp.install.config_edits import FoundEntry
from ctxmem_mcp.install.hook_edits import JsonHooks
from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.install.probe import ProbeResult
from ctxmem_mcp.install.registry import AGENTS
from ctxmem_mcp.install.server_entry import ServerCommand
from ctxmem_mcp.text import embeddings

EXAMPLE = Path(__file__).parents[2] / "examples" / "session.jsonl"
# Other variables that could lead a command to the real home.
ELSEWHERE = (
    "XDG_CONFIG_HOME", "XDG_DATA_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "CLINE_MCP_SETTINGS_PATH", "CTXMEM_CONFIG",
    "APPDATA", "LOCALAPPDATA",
)  # fmt: skip


@dataclass
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    for folder in (".claude", ".codex", ".cursor", "project"):
        (home / folder).mkdir(parents=True)
    for variable in ELSEWHERE:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("CTXMEM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(home / "project")
    return home


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command as an installation leaves it: a script that runs this code."""
    script = tmp_path / "b in" / "ctxmem-mcp"
    script.parent.mkdir()
    source = Path(sys.modules["ctxmem_mcp"].__file__ or "").parents[1]
    script.write_text(
        f"#!/bin/sh\nPYTHONPATH='{source}' exec '{sys.executable}' -m ctxmem_mcp \"$@\"\n", encoding="utf-8"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script)])
    return script


@pytest.fixture
def run(home: Path, command: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def ran(*words: str) -> Ran:
        code = main(list(words))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return ran


def contents(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_a_dry_run_shows_the_change_and_makes_none(run: Callable[..., Ran], home: Path, command: Path) -> None:
    (home / ".cursor" / "mcp.json").write_text('{\n  "mcpServers": {}\n}\n', "utf-8")
    before = contents(home)
    shown = run("install", "cursor", "--dry-run")
    assert shown.code == 0
    assert f'+      "command": "{command}",' in shown.out.splitlines()
    assert f"--- {home / '.cursor' / 'mcp.json'}" in shown.out
    assert "Cursor: 2 files would change." in shown.out
    assert contents(home) == before


def test_the_change_of_a_long_line_is_shown_in_context(run: Callable[..., Ran], home: Path, command: Path) -> None:
    settings = home / ".cursor" / "mcp.json"
    settings.write_text(f'{{"a":"{"x" * 2000}","mcpServers":{{"b":{{"command":"c"}}}},"z":"{"y" * 2000}"}}', "utf-8")
    shown = run("install", "cursor", "--no-hooks", "--dry-run").out
    assert f'"mcpServers":{{"b":{{"command":"c"}},"ctxmem":{{"command":"{command}","args":[]}}}},"z":"y' in shown
    assert "Cursor: 1 file would change." in shown
    assert max(map(len, shown.splitlines())) < 600
    run("install", "cursor", "--no-hooks")
    taken_out = run("uninstall", "cursor", "--dry-run").out.splitlines()
    assert [line[0] for line in taken_out if '"ctxmem"' in line] == ["-"]


def test_a_refusal_names_the_file_the_rule_and_the_remedy(run: Callable[..., Ran], home: Path) -> None:
    path = home / ".cursor" / "mcp.json"
    path.write_text('{"mcpServers": null}', "utf-8")
    refused = run("install", "cursor")
    assert refused.code == 1
    why, remedy = "has 'mcpServers', which is not an object", "It was not changed; correct it, then run this again"
    assert refused.err == f"ctxmem-mcp: Cursor: {path} {why}. {remedy}.\n"


def test_install_all_finds_the_agents_and_uninstall_restores_the_home(run: Callable[..., Ran], home: Path) -> None:
    (home / ".claude.json").write_text('{"numStartups": 3}', "utf-8")
    before = contents(home)
    done = run("install", "--all")
    assert done.code == 0, done.err
    kept = [line.split("backup: ")[1] for line in done.out.splitlines() if "backup: " in line]
    assert [Path(one).read_bytes() for one in kept] == [b'{"numStartups": 3}']
    named = {".claude.json", ".claude/settings.json", ".codex/config.toml", ".codex/hooks.json", ".cursor/mcp.json",
             ".cursor/hooks.json"}  # fmt: skip
    assert contents(home).keys() == named | {Path(one).name for one in kept}
    again = run("install", "--all")
    assert again.out.count("nothing changed") == 3
    assert run("uninstall", "--all").code == 0
    assert {name: text for name, text in contents(home).items() if not name.endswith(".bak")} == before


def test_one_broken_file_stops_no_other_agent_and_sets_the_exit_code(run: Callable[..., Ran], home: Path) -> None:
    (home / ".claude" / "settings.json").write_text('{"hooks": ', "utf-8")
    done = run("install", "--all")
    assert done.code == 1
    assert "Claude Code" in done.err
    assert "settings.json is not valid JSON" in done.err
    assert not (home / ".claude.json").exists()
    assert (home / ".codex" / "config.toml").exists()


def test_a_project_gets_its_own_files(run: Callable[..., Ran], home: Path) -> None:
    assert run("install", "claude-code", "cursor", "vscode", "codex", "--project").code == 0
    assert {name for name in contents(home) if name.startswith("project/")} == set(contents(home)) == {
        "project/.mcp.json", "project/.claude/settings.local.json", "project/.cursor/mcp.json",
        "project/.cursor/hooks.json", "project/.vscode/mcp.json", "project/.codex/config.toml",
        "project/.codex/hooks.json", "project/.github/hooks/ctxmem.json",
    }  # fmt: skip
    assert run("uninstall", "--all", "--project").code == 0
    assert {"project/.vscode/mcp.json", "project/.github/hooks/ctxmem.json"} == contents(
        home
    ).keys()  # VS Code is not installed, so --all leaves it out
    assert run("uninstall", "vscode", "--project").code == 0
    assert contents(home) == {}


def test_without_hooks_only_the_server_is_registered(run: Callable[..., Ran], home: Path) -> None:
    done = run("install", "claude-code", "--no-hooks", "--data-dir", "kept here")
    assert done.code == 0
    assert done.out.endswith("`/mcp` lists ctxmem as connected.\n")
    assert "trust the hooks" not in run("install", "codex", "--no-hooks", "--project").out
    assert "trust the hooks" in run("install", "codex", "--project").out
    assert run("uninstall", "codex", "--project").code == 0
    entry = json.loads(contents(home)[".claude.json"])["mcpServers"]["ctxmem"]
    assert entry["args"] == ["--data-dir", str(home / "project" / "kept here")]
    assert contents(home).keys() == {".claude.json"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["install"], "give either agents or --all"),
        (["install", "cursor", "--all"], "give either agents or --all"),
        (["install", "emacs"], "'emacs' is not a known agent"),
        (["install", "claude-desktop", "--project"], "Claude Desktop has no config of a project"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_changed(
    words: list[str], why: str, run: Callable[..., Ran], home: Path
) -> None:
    done = run(*words)
    assert (done.code, contents(home)) == (1, {})
    assert why in done.err


def test_the_hooks_command_line_runs_and_fills_the_spool(run: Callable[..., Ran], home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other data"
    assert run("install", "claude-code", "codex", "cursor", "cline", "--data-dir", str(folder)).code == 0
    lines = {json.loads(contents(home)[f".{agent}/{name}.json"])["hooks"][event][0]["hooks"][0]["command"]
             for agent, name, event in (("claude", "settings", "Stop"), ("codex", "hooks", "Stop"))}  # fmt: skip
    lines |= {json.loads(contents(home)[".cursor/hooks.json"])["hooks"]["afterFileEdit"][0]["command"]}
    lines |= {f"'{home / 'Documents' / 'Cline' / 'Hooks' / 'PostToolUse'}'"}
    assert len(lines) == 4
    for line in lines:
        event = json.dumps({"session_id": "s", "taskId": "s", "hook_event_name": "Stop", "prompt": line})
        done = subprocess.run(["/bin/sh", "-c", line], input=event, text=True, capture_output=True, check=True)
        assert done.stderr == ""
    agents = [one.read()[0] for one in spool.pending(str(folder))]
    assert sorted(agents) == ["claude-code", "cline", "codex", "cursor"]


# ---------------------------------------------------------------- doctor

# It carries no words.
EVENT = b'{"session_id": "s-1", "hook_event_name": "SessionEnd"}'


def doctor_report(run: Callable[..., Ran], code: int) -> dict[str, Any]:
    done = run("doctor", "--json")
    assert done.code == code, done.out
    value: dict[str, Any] = json.loads(done.out)
    return value


def test_doctor_starts_the_registered_servers_and_finds_no_problems(
    run: Callable[..., Ran], home: Path, tmp_path: Path, command: Path
) -> None:
    run("import", str(EXAMPLE))
    run("install", "claude-code")
    spool.put(str(tmp_path / "data"), "claude-code", EVENT)
    report = doctor_report(run, 0)
    (agent,) = [one for one in report["agents"] if one["agent"] == "claude-code"]
    (server,) = agent["servers"]
    assert (server["command"], server["file"]) == ([str(command)], str(home / ".claude.json"))
    assert (server["starts"], server["name"], server["version"]) == (True, "ctxmem", "0.1.0")
    (edit,) = AGENTS["claude-code"].hooks(_host(home))
    assert isinstance(edit, JsonHooks)
    assert {hook["event"] for hook in agent["hooks"]} == set(edit.events)
    assert (agent["present"], agent["faults"], agent["remarks"]) == (True, [], [])
    data = report["data"]
    assert (data["path"], data["writable"]) == (str(tmp_path / "data"), True)
    assert (data["conversations"], data["spooled"]) == (1, 0)
    assert data["free_bytes"] > 0
    text = run("doctor").out
    assert "starts: ctxmem 0.1.0" in text
    assert "No problems found." in text
    assert "not registered; `ctxmem-mcp install codex` registers it" in text


def test_doctor_says_why_turns_are_found_by_words_only(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = embeddings.missing_package() is None
    assert doctor_report(run, 0)["search"]["by_meaning"] is installed
    monkeypatch.setattr(embeddings, "_REQUIRED_PACKAGES", ("numpy", "no_such_package"))
    assert "Search: by words only, because no_such_package is not installed" in run("doctor").out
    monkeypatch.setenv("CTXMEM_EMBEDDINGS", "off")
    assert "because CTXMEM_EMBEDDINGS is off" in run("doctor").out


def test_doctor_reports_problems_and_remedies(run: Callable[..., Ran], home: Path, command: Path) -> None:
    run("install", "cursor")
    settings = home / ".claude" / "settings.json"
    settings.write_text('{"hooks": ]', "utf-8")
    hooks = json.loads(contents(home)[".cursor/hooks.json"])
    hooks["hooks"]["afterFileEdit"] *= 2
    del hooks["hooks"]["sessionStart"]
    (home / ".cursor" / "hooks.json").write_text(json.dumps(hooks), "utf-8")
    command.unlink()
    report = doctor_report(run, 1)
    faults = {one["agent"]: " | ".join(fault["what"] for fault in one["faults"]) for one in report["agents"]}
    assert f"{settings} is not valid JSON" in faults["claude-code"]
    assert "can't be started: No such file" in faults["cursor"]
    assert "more than once for afterFileEdit" in faults["cursor"]
    assert "no hook for sessionStart" in faults["cursor"]
    assert f"the hooks call {command}, which does not exist" in faults["cursor"]
    assert report["faults"] == 5
    assert "PROBLEM: no hook for sessionStart. Run `ctxmem-mcp install cursor`." in run("doctor").out


def test_doctor_reports_hooks_whose_events_do_not_arrive(
    run: Callable[..., Ran], home: Path, tmp_path: Path, command: Path
) -> None:
    run("install", "cursor")
    source = command.read_text("utf-8")
    for broken, said in (
        ("#!/bin/sh\nexit 0\n", "spools no event"),
        ("#!/bin/sh\necho 'no module' >&2\nexit 3\n", "spools no event, with the message: no module"),
    ):
        command.write_text(broken, "utf-8")
        faults = [fault["what"] for one in doctor_report(run, 1)["agents"] for fault in one["faults"]]
        assert [said in fault for fault in faults if " hook " in fault] == [True], faults
    command.write_text(source, "utf-8")
    assert doctor_report(run, 0)["faults"] == 0


def test_doctor_reports_an_agent_that_does_not_call_its_hooks(
    run: Callable[..., Ran], home: Path, tmp_path: Path
) -> None:
    (home / ".codex").mkdir(parents=True, exist_ok=True)
    run("install", "codex")
    hooks = home / ".codex" / "hooks.json"
    session = home / ".codex" / "sessions" / "2026" / "11" / "29" / "rollout-2026-11-29T10-00-00-s-1.jsonl"
    session.parent.mkdir(parents=True)
    session.write_text("{}\n", "utf-8")
    assert doctor_report(run, 0)["faults"] == 0
    long_ago = hooks.stat().st_mtime - 3_600
    os.utime(hooks, (long_ago, long_ago))
    (fault,) = [fault for one in doctor_report(run, 1)["agents"] for fault in one["faults"]]
    assert f"although {session} was written at" in fault["what"]
    assert "trust the hooks" in fault["remedy"]
    spool.put(str(tmp_path / "data"), "codex", EVENT)
    assert doctor_report(run, 0)["faults"] == 0


def test_install_repairs_what_doctor_found(run: Callable[..., Ran], home: Path) -> None:
    run("install", "cursor", "--data-dir", "elsewhere")
    path = home / ".cursor" / "hooks.json"
    text = path.read_text("utf-8")
    path.write_text(text.replace(f" --data-dir {home}/project/elsewhere", ""), "utf-8")
    (cursor,) = [one for one in doctor_report(run, 1)["agents"] if one["agent"] == "cursor"]
    assert [fault["what"] for fault in cursor["faults"]] == [
        f"the hooks write to the default folder, the server reads {home / 'project' / 'elsewhere'}"
    ]
    run("install", "cursor")
    assert path.read_text("utf-8") == text
    assert doctor_report(run, 0)["faults"] == 0


def test_doctor_checks_the_data_folders_of_the_agents_entries(
    run: Callable[..., Ran], home: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other data"
    run("--data-dir", str(other), "import", str(EXAMPLE))
    run("install", "claude-code", "cursor", "--data-dir", str(other))
    spool.put(str(other), "claude-code", EVENT)
    report = doctor_report(run, 0)
    assert report["data"]["path"] == str(tmp_path / "data")
    (data,) = report["other_data"]
    assert (data["path"], data["agents"]) == (str(other), ["Claude Code", "Cursor"])
    assert (data["conversations"], data["spooled"]) == (1, 0)
    text = run("doctor").out
    assert f"Data of Claude Code, Cursor: {other}\n  1 conversation, 0 events in the spool" in text
    (tmp_path / "a file").write_text("", "utf-8")
    run("install", "cursor", "--data-dir", str(tmp_path / "a file" / "data"))
    _, data = doctor_report(run, 1)["other_data"]
    (fault,) = data["faults"]
    assert fault["what"].startswith(f"{tmp_path / 'a file'} is not writable")
    assert "run `ctxmem-mcp install cursor --data-dir DIR`" in fault["remedy"]


def test_doctor_reports_why_a_server_exits(run: Callable[..., Ran], home: Path) -> None:
    run("install", "cursor", "--no-hooks")
    path = home / ".cursor" / "mcp.json"
    entry = json.loads(path.read_text("utf-8"))
    entry["mcpServers"]["ctxmem"]["env"] = {"CTXMEM_RETENTION_DAYS": "999"}
    path.write_text(json.dumps(entry), "utf-8")
    (cursor,) = [one for one in doctor_report(run, 1)["agents"] if one["agent"] == "cursor"]
    (fault,) = cursor["faults"]
    assert (
        "exits without a response (exit code 1), with the message: ctxmem-mcp: CTXMEM_RETENTION_DAYS: must be"
        in fault["what"]
    )
    assert fault["remedy"] == "Correct that, or run `ctxmem-mcp install cursor`."


def test_a_projects_problems_are_repaired_in_the_project(run: Callable[..., Ran], home: Path, command: Path) -> None:
    run("install", "cursor", "--project")
    command.rename(command.with_name("gone"))
    faults = [fault["remedy"] for one in doctor_report(run, 1)["agents"] for fault in one["faults"]]
    assert faults == ["Run `ctxmem-mcp install cursor --project`."] * 2


def test_a_different_server_named_ctxmem_is_reported_rather_than_a_missing_one(
    run: Callable[..., Ran], home: Path
) -> None:
    path = home / ".cursor" / "mcp.json"
    path.write_text('{"mcpServers": {"ctxmem": {"url": "http://127.0.0.1:8377/mcp"}}}', "utf-8")
    why = "has a server named 'ctxmem' that does not start this program; rename or remove it first"
    assert _inspect(home, "cursor").remarks == [f"{path} {why}, then run `ctxmem-mcp install cursor`"]


def test_doctor_reports_what_claude_code_registered_for_a_folder(
    run: Callable[..., Ran], home: Path, command: Path
) -> None:
    path = home / ".claude.json"
    folder_entry = {"mcpServers": {"ctxmem": {"type": "stdio", "command": str(command), "args": []}}}
    path.write_text(json.dumps({"projects": {str(home / "project"): folder_entry, str(home): {}}}), "utf-8")
    here = f"server ctxmem in {path} takes precedence in {home / 'project'}; "
    remark = here + "`claude mcp remove --scope local ctxmem` removes it"
    assert _inspect(home, "claude-code").remarks == [
        "not registered; `ctxmem-mcp install claude-code` registers it",
        remark,
    ]
    before = path.read_bytes()
    run("install", "claude-code")
    assert _inspect(home, "claude-code").remarks == [remark]
    run("uninstall", "claude-code")
    assert path.read_bytes() == before


def test_disabled_entries_are_reported(run: Callable[..., Ran], home: Path) -> None:
    run("install", "claude-code", "codex")
    config, settings = home / ".codex" / "config.toml", home / ".claude" / "settings.json"
    config.write_text(config.read_text("utf-8") + "enabled = false\n", "utf-8")
    settings.write_text(json.dumps({"disableAllHooks": True, **json.loads(settings.read_text("utf-8"))}), "utf-8")
    assert _inspect(home, "codex").remarks == [f"server ctxmem in {config} is disabled there"]
    assert _inspect(home, "claude-code").remarks == [f"hooks in {settings} are disabled there"]


def test_other_spellings_of_an_entry_are_not_problems(
    home: Path, command: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program under $HOME or ~, a Windows folder with slashes, two servers for two folders."""
    windows = HostPaths("windows", home, home / "project")
    (home / "bin").mkdir()
    (home / "bin" / "ctxmem-mcp").symlink_to(command)
    for program in ("$HOME/bin/ctxmem-mcp", "${HOME}/bin/ctxmem-mcp", "~/bin/ctxmem-mcp"):
        server = ServerCommand(program, "D:\\my data", "windows")
        for change in apply.plan_install(AGENTS["claude-code"].edits(windows, project=False), server):
            apply.apply_change(change, datetime.now())
        assert _inspect(home, "claude-code").faults == []
    entries = {name: {"command": "ctxmem-mcp", "env": {"CTXMEM_DATA_DIR": f"/{name}"}} for name in "ab"}
    (home / ".cursor" / "mcp.json").write_text(json.dumps({"mcpServers": entries}), "utf-8")
    assert _inspect(home, "cursor").faults == []


def _host(home: Path) -> HostPaths:
    return HostPaths("linux", home, home / "project")


def _inspect(home: Path, agent: str) -> inspect.AgentReport:
    return inspect.inspect_agent(AGENTS[agent], _host(home), probe=lambda found: ProbeResult("ctxmem", "0"))


def test_doctor_reports_hooks_of_both_the_user_and_the_project(run: Callable[..., Ran], home: Path) -> None:
    run("install", "claude-code")
    run("install", "claude-code", "--project")
    (fault,) = _inspect(home, "claude-code").faults
    assert "more than once" in fault.what
    assert fault.remedy == "Run `ctxmem-mcp uninstall claude-code --project`."
    run("uninstall", "claude-code", "--project")
    assert _inspect(home, "claude-code").faults == []


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import time; time.sleep(200)", "does not respond within 1 s"),
        ("print('Welcome!')", "prints 'Welcome!' instead of a response"),
        ("import sys; sys.exit(3)", "exits without a response (exit code 3)"),
        ("print('{\"result\": 1}')", "prints '{\"result\": 1}' instead of a response"),
    ],
)
def test_a_command_that_is_not_a_server_is_reported(code: str, fault: str) -> None:
    answer = probe.probe_server([sys.executable, "-c", code], dict(os.environ), seconds=1 if "sleep" in code else 100)
    assert answer == ProbeResult(fault=fault, timed_out="sleep" in code)


SLOW_SERVER = """
import sys, time
sys.stdin.readline()
time.sleep(float(sys.argv[1]))
print('{"result": {"serverInfo": {"name": "ctxmem", "version": "0"}}}')
"""


def test_a_slow_or_hanging_start_is_reported_once_and_without_advice_to_install_again(
    run: Callable[..., Ran], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for agent in ("claude-code", "cursor", "vscode", "cline"):
        run("install", agent)
    monkeypatch.setattr(server_check, "SLOW_SECONDS", 0.3)
    probe_server, started = probe.probe_server, list[object]()

    def slow(command: Sequence[str], environment: Mapping[str, str]) -> ProbeResult:
        started.append(command)
        return probe_server([sys.executable, "-c", SLOW_SERVER, "0.4"], environment)

    monkeypatch.setattr(server_check, "probe_server", slow)
    out = run("doctor").out
    assert out.count("slow: ") == 1
    assert "PROBLEM" not in out
    assert len(started) == 1

    def hanging(command: Sequence[str], environment: Mapping[str, str]) -> ProbeResult:
        return probe_server([sys.executable, "-c", SLOW_SERVER, "600"], environment, 0.1)

    monkeypatch.setattr(server_check, "probe_server", hanging)
    out = run("doctor").out
    assert out.count("PROBLEM") == 1
    assert "1 problem found." in out
    assert "install" not in out[out.index("PROBLEM") :]


def test_a_registered_server_is_started_with_its_environment(home: Path) -> None:
    path = home / ".cursor" / "mcp.json"
    entry = {"command": "ctxmem-mcp", "args": ["--log-level", "error"], "env": {"CTXMEM_DATA_DIR": "/d"}}
    path.write_text(json.dumps({"mcpServers": {"memory": entry}}), "utf-8")
    asked: list[FoundEntry] = []

    def probe_server(entry: FoundEntry) -> ProbeResult:
        asked.append(entry)
        return ProbeResult("ctxmem", "0")

    inspect.inspect_agent(AGENTS["cursor"], _host(home), probe_server)
    assert asked == [FoundEntry("memory", ("ctxmem-mcp", "--log-level", "error"), {"CTXMEM_DATA_DIR": "/d"})]


def test_the_installed_command_is_registered(run: Callable[..., Ran], home: Path, command: Path) -> None:
    assert shutil.which(str(command))
    run("install", "vscode")
    (entry,) = json.loads(contents(home)[".config/Code/User/mcp.json"])["servers"].values()
    assert entry == {"type": "stdio", "command": str(command), "args": []}
