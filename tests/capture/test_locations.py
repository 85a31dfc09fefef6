"""Finding agents' transcripts, and a session's among them, on each system."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctxmem_mcp.agents import CLINE, CODEX, CURSOR
from ctxmem_mcp.capture import locations
from tests.capture.agents import run
from tests.transcripts.test_cline import FILE, SESSION
from tests.transcripts.test_cursor import SESSION as CURSOR_LINES
from tests.transcripts.test_cursor import TEXT

TASK = "tasks/17/api_conversation_history.json"
CLINE_IN = "User/globalStorage/saoudrizwan.claude-dev"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")


@pytest.mark.parametrize(
    ("platform", "config", "environ"),
    [
        ("linux", ".config", {}),
        ("linux", "elsewhere", {"XDG_CONFIG_HOME": "~/elsewhere"}),
        ("freebsd14", ".config", {}),
        ("darwin", "Library/Application Support", {}),
        ("win32", "AppData/Roaming", {}),
        ("win32", "roaming", {"APPDATA": "~/roaming"}),
    ],
)
def test_clines_tasks_are_found_in_every_editor(
    home: Path, platform: str, config: str, environ: dict[str, str]
) -> None:
    put(
        home / config,
        {
            f"{editor}/{CLINE_IN}/{TASK}": FILE
            for editor in ("Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf")
        }
        | {f"Code/User/globalStorage/rooveterinaryinc.roo-cline/{TASK}": FILE}
        | {f"Code/User/globalStorage/kilocode.kilo-code/{TASK}": FILE},
    )
    assert len(locations.find_locations(environ, platform)) == 7
    assert {location.agent for location in locations.find_locations(environ, platform)} == {CLINE.id}


@pytest.mark.parametrize(
    ("platform", "files"),
    [
        ("linux", {"zed": ".local/share/zed/threads/threads.db", "goose": ".local/share/goose/sessions/sessions.db"}),
        ("darwin", {
            "zed": "Library/Application Support/Zed/threads/threads.db",
            "kiro": "Library/Application Support/kiro-cli/data.sqlite3",
            "goose": ".local/share/goose/sessions/a.jsonl",
        }),
        ("win32", {
            "zed": "AppData/Local/Zed/threads/threads.db",
            "goose": "AppData/Roaming/Block/goose/data/sessions/sessions.db",
            "opencode": ".local/share/opencode/opencode.db",
        }),
    ],
)  # fmt: skip
def test_databases_are_found_where_each_system_has_them(home: Path, platform: str, files: dict[str, str]) -> None:
    put(home, dict.fromkeys(files.values(), ""))
    found = {
        (location.agent, file.relative_to(home).as_posix())
        for location in locations.find_locations({}, platform)
        for file in location.folder.glob(location.files)
    }
    assert found == set(files.items())


def test_transcripts_of_cursor_and_of_clines_cli_are_found_once_each(home: Path) -> None:
    transcripts = home / ".cursor" / "projects" / "w" / "agent-transcripts"
    put(
        transcripts,
        {"a/a.jsonl": CURSOR_LINES, "a/subagents/b.jsonl": CURSOR_LINES, "c.jsonl": CURSOR_LINES, "d.txt": TEXT,
         "../terminals/1.txt": "no transcript", "../../w/mcp.json": "{}"},
    )  # fmt: skip
    put(
        home / ".cline" / "data",
        {TASK: FILE, "tasks/17/ui_messages.json": "[]", "sessions/s-1/s-1.messages.json": json.dumps(SESSION),
         "sessions/s-1/s-1.json": "{}"},
    )  # fmt: skip
    put(home / ".vscode-server" / "data" / CLINE_IN, {"tasks/18/api_conversation_history.json": FILE})
    found = sorted(str(file.relative_to(home).as_posix()) for file in locations.find_transcripts({}))
    assert found == [
        ".cline/data/sessions/s-1/s-1.messages.json",
        f".cline/data/{TASK}",
        ".cursor/projects/w/agent-transcripts/a/a.jsonl",
        ".cursor/projects/w/agent-transcripts/a/subagents/b.jsonl",
        ".cursor/projects/w/agent-transcripts/c.jsonl",
        ".cursor/projects/w/agent-transcripts/d.txt",
        f".vscode-server/data/{CLINE_IN}/tasks/18/api_conversation_history.json",
    ]
    for agent, session, name in (
        (CURSOR, "a", "a.jsonl"), (CURSOR, "d", "d.txt"), (CLINE, "17", "api_conversation_history.json"),
        (CLINE, "s-1", "s-1.messages.json"),
    ):  # fmt: skip
        file = locations.find_transcript(agent.id, session, {})
        assert file is not None
        assert file.name == name
    assert locations.find_transcript(CLINE.id, "19", {}) is None
    assert locations.find_transcript(CODEX.id, "17", {}) is None
    assert locations.find_transcript(CURSOR.id, "../*", {}) is None
    assert [file.name for file in locations.subagents_of(transcripts / "a" / "a.jsonl")] == ["b.jsonl"]


def test_import_reads_transcripts_of_cline_and_cursor(tmp_path: Path) -> None:
    """Finds them among other files, by folder and by name; imported again after they grew, only the new turns."""
    data, tasks = tmp_path / "data", tmp_path / "tasks"
    lists = {
        "ui_messages.json": [{"ts": 1, "type": "say", "say": "task", "text": "hi"}],
        "context_history.json": [[1, [0, [[0, [[1, "text", ["cut"], []]]]]]]],
    }
    put(tasks / "17", {name: json.dumps(value) for name, value in lists.items()})
    put(tasks / "17", {"task_metadata.json": '{"files_in_context": [], "model_usage": []}', "settings.json": "{}"})
    put(tasks / "17", {"api_conversation_history.json": FILE, "focus_chain_taskid_17.md": "- [ ] a"})
    put(tmp_path / "agent-transcripts", {"a/a.jsonl": CURSOR_LINES, "a/subagents/b.jsonl": CURSOR_LINES, "d.txt": TEXT})

    def imported(*paths: Path) -> dict[str, tuple[str, int]]:
        ran = run(data, "import", "--json", *map(str, paths))
        assert ran.returncode == 0, ran.stderr
        return {one["conversation_id"]: (one["agent"], one["new"]) for one in json.loads(ran.stdout)}

    assert imported(tasks, tmp_path / "agent-transcripts") == {
        "17": ("cline", 13), "a": ("cursor", 6), "b": ("cursor", 6), "d": ("cursor", 9),
    }  # fmt: skip
    grown = [
        *json.loads(FILE),
        {"role": "user", "content": [{"type": "text", "text": "<feedback>\nthanks\n</feedback>"}]},
    ]
    put(tasks, {"17/api_conversation_history.json": json.dumps(grown)})
    assert imported(tasks) == {"17": ("cline", 1)}
    assert imported(tmp_path / "agent-transcripts" / "a" / "a.jsonl") == {"a": ("cursor", 0), "b": ("cursor", 0)}


def test_import_all_reads_them_and_later_what_was_added(tmp_path: Path) -> None:
    data, home = tmp_path / "data", tmp_path / "home"
    put(home / ".cline" / "data", {TASK: FILE})
    put(
        home / ".cursor" / "projects" / "w" / "agent-transcripts",
        {"a/a.jsonl": CURSOR_LINES, "a/subagents/b.jsonl": CURSOR_LINES},
    )

    def import_all() -> dict[str, int]:
        ran = run(data, "import", "--all", "--json")
        assert ran.returncode == 0, ran.stderr
        return {caught["conversation_id"]: caught["new"] for caught in json.loads(ran.stdout)}

    assert import_all() == {"17": 13, "a": 12}
    with (home / ".cursor/projects/w/agent-transcripts/a/subagents/b.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"role":"assistant","message":{"content":[{"type":"text","text":"more"}]}}\n')
    assert import_all() == {"17": 0, "a": 1}
