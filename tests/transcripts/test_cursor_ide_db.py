"""Conversations of Cursor's editor, from its database through the reader, the parser and the command."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.capture import cursor_db, importer
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.cursor.ide_db import parse
from tests.capture.agents import run
from tests.transcripts.damage import mutated

AT = "2026-05-01T10:00:00.000Z"
TOOL = {"name": "read_file", "toolCallId": "t-1", "rawArgs": '{"path":"relay.toml"}', "result": '{"contents":"7412"}'}
LISTED = [{"bubbleId": name, "type": 2} for name in ("b", "a", "d", "c", "gone")]
COMPOSER = {"name": "Ports", "workspaceIdentifier": {"uri": {"fsPath": "/w"}}, "fullConversationHeadersOnly": LISTED}
MESSAGES: dict[str, Any] = {
    "a": {"type": 2, "text": "", "thinking": {"text": "It stands in a file."}, "createdAt": AT},
    "b": {"type": 1, "text": "Name the port.", "createdAt": AT, "attachedCodeChunks": ["x" * 1000]},
    "c": {"type": 2, "text": "It is 7412."},
    "d": {"type": 2, "text": "Looking.", "toolFormerData": TOOL},
    "stale": {"type": 1, "text": "taken back"},
}
OLD_COMPOSER = {
    "conversation": [{"type": 1, "bubbleId": "x", "text": "hi"}, {"type": 2, "bubbleId": "y", "text": "Hello."}]
}
TURNS = (
    NewTurn("user", "Name the port.", None, AT),
    NewTurn("assistant", "It stands in a file.", "thinking", AT),
    NewTurn("assistant", "Looking."),
    NewTurn("assistant", '{"path":"relay.toml"}', "read_file", None, "t-1"),
    NewTurn("tool", '{"contents":"7412"}', "read_file", None, "t-1"),
    NewTurn("assistant", "It is 7412."),
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database as the editor writes it: values are bytes or text; one is null, two are broken."""
    path = tmp_path / "state.vscdb"
    rows: dict[str, Any] = {
        "composerData:c-1": json.dumps(COMPOSER).encode(),
        "composerData:c-2": json.dumps(OLD_COMPOSER),
        "composerData:c-3": "{broken",
        "composerData:draft": json.dumps({"fullConversationHeadersOnly": []}),
        "bubbleId:c-1:gone": None,
        "bubbleId:c-1:torn": "{",
        "bubbleId:c-10:z": json.dumps({"type": 1, "text": "of another"}),
        "bubbleId:c-3:b": json.dumps({"type": 2, "text": "two", "createdAt": 1_777_629_600_500}),
        "bubbleId:c-3:c": json.dumps({"type": 1, "text": "one", "createdAt": 1_777_629_600_000}),
        **{f"bubbleId:c-1:{name}": json.dumps(message).encode() for name, message in MESSAGES.items()},
    }
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE cursorDiskKV (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB)")
        connection.executemany("INSERT INTO cursorDiskKV VALUES (?, ?)", rows.items())
    return path


def test_conversations_are_parsed_with_their_messages_in_order(database: Path) -> None:
    before = database.read_bytes()
    first, second, third = importer.read(database).threads
    assert (first.session_id, first.title, first.cwd, first.turns) == ("c-1", "Ports", "/w", TURNS)
    assert first.warnings == ("message torn: skipped, broken",)
    assert (second.session_id, [turn.content for turn in second.turns]) == ("c-2", ["hi", "Hello."])
    assert [turn.content for turn in third.turns] == ["one", "two"]
    assert third.warnings == ("the conversation's header is broken; its messages are in the order of their creation",)
    assert database.read_bytes() == before
    assert "xxxx" not in cursor_db.read_document(database)


def test_a_file_that_is_not_cursors_database_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "state.vscdb"
    for content in (b"no database at all, but long enough to be looked at" * 30, b""):
        other.write_bytes(content)
        with pytest.raises(InvalidArgument, match="Cursor's database"):
            importer.read(other)


def test_importing_a_database_again_stores_only_what_is_new(database: Path, tmp_path: Path) -> None:
    def imported() -> dict[str, int]:
        ran = run(tmp_path / "data", "import", "--json", str(database))
        assert ran.returncode == 0, ran.stderr
        return {one["conversation_id"]: one["new"] for one in json.loads(ran.stdout)}

    assert imported() == {"c-1": 6, "c-2": 2, "c-3": 2}
    assert imported() == {"c-1": 0, "c-2": 0, "c-3": 0}


def test_a_call_without_its_raw_arguments_has_those_that_cursor_parsed() -> None:
    tool = {"name": "run_terminal_command_v2", "params": {"command": "ls"}, "result": {"output": "a.py"}}
    head = {"id": "c", "composer": {"conversation": [{"type": 2, "toolFormerData": tool}]}, "messages": {}}
    assert parse(json.dumps({"cursor_conversations": [head]}), "state.vscdb").threads[0].turns == (
        NewTurn("assistant", '{"command":"ls"}', "run_terminal_command_v2", None, "call-1"),
        NewTurn("tool", '{"output":"a.py"}', "run_terminal_command_v2", None, "call-1"),
    )


BODY = {"cursor_conversations": [{"id": "c-1", "composer": COMPOSER, "messages": MESSAGES}]}


@given(st.data())
def test_no_malformed_field_raises(data: st.DataObject) -> None:
    parse(json.dumps(data.draw(mutated(BODY))), "state.vscdb")
