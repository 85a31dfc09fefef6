"""The index over all conversations is brought up to date before anybody searches; what it lacks is counted."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

from ctxmem_mcp.cli import output
from ctxmem_mcp.index_worker import finish_index, index_repeatedly
from ctxmem_mcp.memory import Memory, global_search
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.sqlite.conversation_files import file_name
from ctxmem_mcp.stores.testing.builders import NOW
from tests.stores.samples import memory_over

pytestmark = pytest.mark.anyio

CONVERSATIONS = 20


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    opened = memory_over(SqliteStore(tmp_path, durability="normal"), lambda: NOW)
    for number in range(CONVERSATIONS):
        await opened.append(NewTurn("user", f"The zeppelin leaks, number {number}."), conversation_id=f"c{number}")
    yield opened
    await opened.close()


def indexed(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "search.db")) as db:
        with suppress(sqlite3.OperationalError):
            return int(db.execute("SELECT count(*) FROM indexed").fetchone()[0])
        return 0


async def test_a_server_indexes_in_the_background_what_was_stored(memory: Memory, tmp_path: Path) -> None:
    task = asyncio.create_task(index_repeatedly(memory))
    try:
        with anyio.fail_after(60):
            while indexed(tmp_path) < CONVERSATIONS:  # noqa: ASYNC110
                await anyio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await memory.forget("c3", "c3")
    assert len((await memory.search("zeppelin", limit=100)).hits) == CONVERSATIONS - 1


async def test_one_slice_reads_one_file_if_the_time_is_up_then(memory: Memory, tmp_path: Path) -> None:
    """Between two files appends and searches get the catalog's lock and its thread."""
    assert await memory.index_for_search(1e-9) == CONVERSATIONS - 1
    assert indexed(tmp_path) == 1


async def test_files_that_can_not_be_indexed_are_read_once_and_hold_up_no_others(
    memory: Memory, tmp_path: Path
) -> None:
    newest = [f"c{number}" for number in range(CONVERSATIONS - 8, CONVERSATIONS)]
    for conversation_id in newest:
        with closing(sqlite3.connect(tmp_path / "conversations" / file_name(conversation_id))) as db:
            db.execute("DROP TABLE waiting")
            db.commit()
    assert len((await memory.conversations(limit=100)).conversations) == CONVERSATIONS
    with anyio.fail_after(60):
        while await memory.index_for_search(1e-9):
            pass
    assert indexed(tmp_path) == CONVERSATIONS - len(newest)
    found = await memory.search("zeppelin", limit=100)
    assert (len(found), found.not_indexed) == (CONVERSATIONS - len(newest), 0)


async def test_an_import_reports_how_much_is_indexed(memory: Memory, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    await finish_index(memory, lambda done, total: reports.append((done, total)))
    assert reports[0] == (0, CONVERSATIONS)
    assert reports == sorted(reports)
    assert indexed(tmp_path) == CONVERSATIONS
    assert await memory.index_for_search(60.0) == 0


async def test_a_search_says_how_many_conversations_are_not_indexed_yet(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("UPDATE_SECONDS", -1.0), ("BEHIND_SECONDS", -1.0), ("CONVERSATIONS_READ", 5)):
        monkeypatch.setattr(global_search, name, value)
    found = await memory.search("zeppelin", limit=100)
    assert (found.searched, found.conversations, found.not_indexed) == (5, CONVERSATIONS, CONVERSATIONS - 5)
    output.print_searched(found)
    assert "5 of 20 conversations searched; 15 are not indexed yet." in capsys.readouterr().err
    monkeypatch.undo()
    found = await memory.search("zeppelin", limit=100)
    assert (found.searched, found.not_indexed) == (CONVERSATIONS, 0)
