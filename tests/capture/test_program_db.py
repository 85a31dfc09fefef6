"""Programs' databases: their conversations are imported, also while the program writes; again adds nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from ctxmem_mcp.capture import importer, locations
from ctxmem_mcp.capture.transcript_sync import TranscriptSync
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.stores.in_memory import InMemoryStore
from tests.stores.samples import memory_over

pytestmark = pytest.mark.anyio

OPENCODE = """
CREATE TABLE session (id TEXT, parent_id TEXT, title TEXT, directory TEXT, revert TEXT, time_created INTEGER);
CREATE TABLE message (id TEXT, session_id TEXT, data TEXT);
CREATE TABLE part (id TEXT, message_id TEXT, session_id TEXT, data TEXT);
"""
GOOSE = """
CREATE TABLE sessions (id TEXT, description TEXT, working_dir TEXT, created_at TEXT);
CREATE TABLE messages (id INTEGER, session_id TEXT, role TEXT, content_json TEXT, created_timestamp INTEGER);
"""


def add_message(store: sqlite3.Connection, session: str, number: int, role: str, text: str) -> None:
    id, data = f"{session}-{number}", json.dumps({"role": role, "time": {"created": 1_777_600_000_000 + number}})
    store.execute("INSERT INTO message VALUES (?, ?, ?)", (id, session, data))
    part = json.dumps({"type": "text", "text": text})
    store.execute("INSERT INTO part VALUES (?, ?, ?, ?)", (f"p{id}", id, session, part))
    store.commit()


def opencode_db(file: Path) -> sqlite3.Connection:
    store = sqlite3.connect(file)
    store.execute("PRAGMA journal_mode = WAL")
    store.executescript(OPENCODE)
    store.execute("INSERT INTO session VALUES ('ses_1', NULL, 'Fix it', '/w', NULL, 1)")
    store.execute("INSERT INTO session VALUES ('ses_2', 'ses_1', 'Look', '/w', NULL, 2)")
    add_message(store, "ses_1", 1, "user", "Fix the relay.")
    add_message(store, "ses_1", 2, "assistant", "Done.")
    add_message(store, "ses_2", 1, "user", "Look into relay.py.")
    return store


async def test_the_sessions_of_opencode_are_imported_while_it_writes(tmp_path: Path) -> None:
    file = tmp_path / "opencode.db"
    memory = memory_over(InMemoryStore(), lambda: 1e9)
    sync = TranscriptSync(memory, tmp_path / "data")
    with closing(opencode_db(file)) as store:
        first = await sync.sync_file(file)
        again = await sync.sync_file(file)
        add_message(store, "ses_1", 3, "user", "Thanks.")
        third = await sync.sync_file(file)
    assert [result.new for result in (first, again, third) if result] == [3, 0, 1]
    assert [turn.content for turn in await memory.history("ses_1")] == ["Fix the relay.", "Done.", "Thanks."]
    assert [turn.content for turn in await memory.history("ses_1:ses_2")] == ["Look into relay.py."]
    assert (await memory.info("ses_1")).title == "Fix it"
    await memory.close()


async def test_what_was_taken_back_in_opencode_is_an_abandoned_branch(tmp_path: Path) -> None:
    file = tmp_path / "opencode.db"
    with closing(opencode_db(file)) as store:
        store.execute("UPDATE session SET revert = ? WHERE id = 'ses_1'", (json.dumps({"messageID": "ses_1-2"}),))
        store.commit()
        session = importer.read(file).threads[0]
    assert [turn.content for turn in session.turns] == ["Fix the relay."]
    assert [[turn.content for turn in branch] for branch in session.abandoned_branches] == [["Fix the relay.", "Done."]]


def test_gooses_sessions_are_read(tmp_path: Path) -> None:
    file = tmp_path / "sessions.db"
    with closing(sqlite3.connect(file)) as store:
        store.executescript(GOOSE)
        store.execute("INSERT INTO sessions VALUES ('20260501_1', 'Fix it', '/w', '2026-05-01')")
        content = json.dumps([{"type": "text", "text": "Fix the relay."}])
        store.execute("INSERT INTO messages VALUES (1, '20260501_1', 'user', ?, 1777600000)", (content,))
        store.commit()
    found = importer.read(file)
    assert (found.agent, found.session_id, found.title, found.cwd) == ("goose", "20260501_1", "Fix it", "/w")
    assert [turn.content for turn in found.turns] == ["Fix the relay."]


def test_opencodes_files_of_2025_are_one_session(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    files: dict[str, dict[str, object]] = {
        "session/p/ses_1.json": {"id": "ses_1", "title": "Fix it", "directory": "/w", "projectID": "p"},
        "message/ses_1/msg_1.json": {"id": "msg_1", "role": "user", "time": {"created": 1_777_600_000_000}},
        "message/ses_1/msg_2.json": {"id": "msg_2", "role": "assistant"},
        "part/msg_1/prt_1.json": {"type": "text", "text": "Fix the relay."},
        "part/msg_2/prt_2.json": {"type": "text", "text": "Done."},
    }
    for name, value in files.items():
        (storage / name).parent.mkdir(parents=True, exist_ok=True)
        (storage / name).write_text(json.dumps(value), "utf-8")
    found, _, others = importer.find_files([tmp_path])
    assert (found, others) == ([storage / "session/p/ses_1.json"], [])
    session = importer.read(found[0])
    assert (session.session_id, session.title, session.cwd) == ("ses_1", "Fix it", "/w")
    assert [turn.content for turn in session.turns] == ["Fix the relay.", "Done."]


def test_zeds_compressed_threads_are_read(tmp_path: Path) -> None:
    file = tmp_path / "threads.db"
    thread = json.dumps({"title": "Fix it", "messages": [{"User": {"content": [{"Text": "Fix the relay."}]}}]})
    with closing(sqlite3.connect(file)) as store:
        store.execute("CREATE TABLE threads (id TEXT, summary TEXT, updated_at TEXT, data_type TEXT, data BLOB)")
        packed = zstandard.compress(thread.encode())
        store.execute("INSERT INTO threads VALUES ('z-1', 'Fix it', '2026-05-01', 'zstd', ?)", (packed,))
        store.commit()
    found = importer.read(file)
    assert (found.agent, found.session_id, [turn.content for turn in found.turns]) == ("zed", "z-1", ["Fix the relay."])


def test_a_database_of_an_unknown_program_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as store:
        store.execute("CREATE TABLE things (id TEXT)")
    with pytest.raises(InvalidArgument, match="database of a program whose databases are not read"):
        importer.read(file)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(InvalidArgument, match="can't be read as a database"):
        importer.read(file)


def test_the_agents_own_places_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    places = (
        ".gemini/tmp/p/chats/session-2026-05-01T10-00-abcdef12.jsonl", ".qwen/projects/-w/chats/q-1.jsonl",
        ".local/share/opencode/opencode.db", ".copilot/session-state/c-1/events.jsonl", ".continue/sessions/a-b.json",
        ".local/share/goose/sessions/20260501_1.jsonl", ".local/share/goose/sessions/sessions.db",
        ".local/share/opencode/storage/session/p/ses_1.json", ".local/share/amp/threads/T-1.json",
        ".factory/sessions/-w/d-1.jsonl", ".local/share/kiro-cli/data.sqlite3",
        ".config/Code/User/workspaceStorage/h/chatSessions/v-1.json",
        ".config/Code/User/globalStorage/emptyWindowChatSessions/v-2.jsonl",
    )  # fmt: skip
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("{}", "utf-8")
    (tmp_path / ".continue/sessions/sessions.json").write_text("[]", "utf-8")
    found = [
        file.relative_to(tmp_path).as_posix()
        for location in locations.find_locations({}, "linux")
        for file in location.folder.glob(location.files)
    ]
    assert sorted(found) == sorted(places)
    assert locations.find_transcript("copilot-cli", "c-1", {}) == tmp_path / places[3]
    assert locations.find_transcript("gemini", "abcdef12-3456", {}) == tmp_path / places[0]


async def test_a_path_below_a_database_names_one_session_and_its_sub_agents(tmp_path: Path) -> None:
    file = tmp_path / "opencode.db"
    memory = memory_over(InMemoryStore(), lambda: 1e9)
    sync = TranscriptSync(memory, tmp_path / "data")
    with closing(opencode_db(file)) as store:
        store.execute("INSERT INTO session VALUES ('ses_3', NULL, 'Other', '/w', NULL, 3)")
        add_message(store, "ses_3", 1, "user", "Something else.")
        first = await sync.sync_file(file / "ses_1")
        again = await sync.sync_file(file / "ses_1")
        add_message(store, "ses_1", 3, "user", "Thanks.")
        third = await sync.sync_file(file / "ses_1")
        assert [(one.conversation, one.new) for one in (first, again, third) if one] == [
            ("ses_1", 3), ("ses_1", 0), ("ses_1", 1)
        ]  # fmt: skip
        known = [info.conversation_id for info in (await memory.conversations(limit=9)).conversations]
        assert sorted(known) == ["ses_1", "ses_1:ses_2"]
        await memory.forget("ses_1", confirm="ses_1")
        add_message(store, "ses_1", 4, "user", "Still here?")
        gone = await sync.sync_file(file / "ses_1")
    assert gone is not None
    assert gone.new == 0
    assert await sync.sync_file(tmp_path / "no.db" / "ses_1") is None
