"""A listing reads the times of the conversations' files only if one may have changed."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore, catalog_contents, folder_watch
from ctxmem_mcp.stores.sqlite.conversation_files import file_name, fingerprints
from ctxmem_mcp.stores.testing.builders import NOW
from tests.stores.samples import memory_over

pytestmark = pytest.mark.anyio


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    opened = memory_over(SqliteStore(tmp_path / "data", durability="normal"), lambda: NOW)
    for number in range(3):
        await opened.append(NewTurn("user", f"hello {number}"), conversation_id=f"c{number}")
    yield opened
    await opened.close()


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of files whose times were read, for each time that they were."""
    read: list[int] = []

    def counted(entries: dict[str, os.DirEntry[str]]) -> dict[str, str]:
        read.append(len(found := fingerprints(entries)))
        return found

    monkeypatch.setattr(catalog_contents, "fingerprints", counted)
    return read


async def listed(memory: Memory) -> dict[str, int]:
    return {info.conversation_id: info.turns for info in await memory.all_conversations()}


async def settle(memory: Memory, scans: list[int]) -> None:
    """Lists until nothing is read: times of the last tenth of a second are read again."""
    with anyio.fail_after(60):
        while True:
            scans.clear()
            await listed(memory)
            if not scans:
                return


async def test_times_are_read_again_only_after_a_change(memory: Memory, scans: list[int], tmp_path: Path) -> None:
    await settle(memory, scans)
    assert await listed(memory) == {"c0": 1, "c1": 1, "c2": 1}
    await memory.last_turns("c0", token_budget=100)
    assert await listed(memory) == {"c0": 1, "c1": 1, "c2": 1}
    assert scans == []
    other = memory_over(SqliteStore(tmp_path / "data", durability="normal"), lambda: NOW)
    try:
        await other.append(NewTurn("user", "again"), conversation_id="c1")
        assert await listed(memory) == {"c0": 1, "c1": 2, "c2": 1}
        await other.forget("c2", "c2")
        assert await listed(memory) == {"c0": 1, "c1": 2}
    finally:
        await other.close()


async def test_a_file_that_another_program_adds_is_listed(memory: Memory, scans: list[int], tmp_path: Path) -> None:
    other = memory_over(SqliteStore(tmp_path / "other", durability="normal"), lambda: NOW)
    await other.append(NewTurn("user", "from elsewhere"), conversation_id="d")
    await other.close()
    await settle(memory, scans)
    for file in (tmp_path / "other" / "conversations").iterdir():
        shutil.copy(file, tmp_path / "data" / "conversations")
    assert await listed(memory) == {"c0": 1, "c1": 1, "c2": 1, "d": 1}


async def test_a_change_that_was_not_noted_is_noticed_later(
    memory: Memory, scans: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    await settle(memory, scans)
    with monkeypatch.context() as patch:  # as by a process that is killed after its commit
        patch.setattr(catalog_contents, "note_change", lambda _: True)
        await memory.append(NewTurn("user", "again"), conversation_id="c1")
    monkeypatch.setattr(folder_watch, "RESCAN_SECONDS", -1.0)
    assert await listed(memory) == {"c0": 1, "c1": 2, "c2": 1}


async def test_a_deleted_catalog_is_created_again(memory: Memory, scans: list[int], tmp_path: Path) -> None:
    await settle(memory, scans)
    (tmp_path / "data" / "catalog.db").unlink()
    await memory.append(NewTurn("user", "again"), conversation_id="c0")
    assert await listed(memory) == {"c0": 2, "c1": 1, "c2": 1}


async def test_the_own_change_is_noticed_if_the_catalog_is_of_another_user(
    memory: Memory, scans: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    await settle(memory, scans)

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "utime", refuse)
    await memory.append(NewTurn("user", "again"), conversation_id="c1")
    assert await listed(memory) == {"c0": 1, "c1": 2, "c2": 1}


async def test_a_change_is_noted_after_the_commit_also_if_its_caller_is_cancelled(
    memory: Memory, scans: list[int], tmp_path: Path
) -> None:
    store = SqliteStore(tmp_path / "data", durability="normal")
    file = tmp_path / "data" / "conversations" / file_name("c1")
    try:
        await store.set_extra("c1", "key", b"first", NOW)
        with closing(sqlite3.connect(file, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")  # the commit waits for it on its thread
            task = asyncio.create_task(store.set_extra("c1", "key", b"second", NOW))
            await anyio.sleep(0.1)
            task.cancel()
            await anyio.sleep(0.01)
            await settle(memory, scans)
            db.execute("ROLLBACK")
        await asyncio.gather(task, return_exceptions=True)
        assert await store.extra("c1", "key") == b"second"
        await listed(memory)
        assert scans
    finally:
        await store.close()
