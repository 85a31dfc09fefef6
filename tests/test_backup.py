"""`ctxmem-mcp backup`: consistent, verified, incremental, restorable."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.backup import RECORD_FILE, backup
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.record_files import SESSIONS, RecordFiles, new_id
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.team.folders import load_or_create_salt
from ctxmem_mcp.usage_ledger import LedgerEntry, add, read
from tests.stores.samples import memory_over, sample_turns
from tests.stores.writer_process import acknowledged, writers

pytestmark = pytest.mark.anyio
NAMES = ("alpha", "bravo", "charlie")


def open_memory(data: Path) -> Memory:
    return memory_over(SqliteStore(data, durability="normal"), time.time)


async def fill(data: Path, *names: str) -> None:
    memory = open_memory(data)
    for name in names:
        await memory.sync(sample_turns(30, f"the parser of {name}"), conversation_id=name)
    await memory.close()


async def contents(data: Path) -> dict[str, list[str]]:
    """Every conversation's turns, after its hashes were verified."""
    memory = open_memory(data)
    found = {}
    for info in await memory.all_conversations():
        assert await memory.verify(info.conversation_id) == []
        found[info.conversation_id] = [turn.content for turn in await memory.history(info.conversation_id)]
    await memory.close()
    return found


async def back_up_again_and_again(data: Path, target: Path) -> None:
    while True:
        await backup(data, target)


def copies(target: Path) -> dict[str, tuple[int, int]]:
    """The number and time of each copy: both differ if it was written again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (target / FOLDER).glob("*.ctxmem")}


def run(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(data), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_a_backup_is_a_data_folder_and_writes_only_what_changed(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    await fill(data, *NAMES)
    assert len((await backup(data, target)).written) == 3
    before = copies(target)
    assert await contents(target) == await contents(data)
    memory = open_memory(data)
    await memory.append(NewTurn("user", "One more."), conversation_id="bravo")
    done = await backup(data, target)  # the turn is in the write-ahead log of an open file
    assert (done.written, len(done.unchanged)) == ([file_name("bravo")], 2)
    await memory.close()
    assert (await contents(target))["bravo"][-1] == "One more."
    assert (await backup(data, target)).written == []
    after = copies(target)
    assert {name for name in before if before[name] != after[name]} == {file_name("bravo")}
    assert not [name for name in os.listdir(target) if name.startswith(".")]


async def test_a_backup_beside_writers_is_consistent(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    await fill(data, "alpha")
    with writers(data, ("shared", "p0", 30), ("shared", "p1", 30), ("other", "p2", 30)) as processes:
        for _ in range(3):
            assert (await backup(data, target)).failed == {}
        texts = {text for process in processes for text in acknowledged(process).values()}
    assert (await backup(data, target)).failed == {}
    found = await contents(target)
    assert len(texts) == 90
    assert texts == {*found["shared"], *found["other"]}


async def test_what_was_forgotten_is_removed_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    await fill(data, *NAMES)
    await backup(data, target)
    await contents(target)  # creates a catalog there
    memory = open_memory(data)
    await memory.forget("bravo", "bravo")
    await memory.close()
    assert (await backup(data, target, keep_forgotten=True)).kept == [file_name("bravo")]
    assert set(await contents(target)) == set(NAMES)
    assert (await backup(data, target)).removed == [file_name("bravo")]
    assert set(await contents(target)) == {"alpha", "charlie"}
    assert not [path for path in target.rglob("*") if path.is_file() and b"bravo" in path.read_bytes()]


async def test_a_damaged_conversation_is_reported_and_its_older_copy_stays(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    await fill(data, *NAMES)
    await backup(data, target)
    before = copies(target)
    with closing(sqlite3.connect(data / FOLDER / file_name("bravo"))) as db:
        db.execute("UPDATE turns SET tokens = tokens + 1 WHERE seq = 9")
        db.commit()
    os.truncate(data / FOLDER / file_name("alpha"), 50)
    done = run(data, "backup", str(target))
    assert done.returncode == 1
    assert "'bravo' is damaged, and was not backed up" in done.stderr
    assert "truncated" in done.stderr
    assert copies(target) == before
    assert set(await contents(target)) == set(NAMES)


@pytest.mark.parametrize("step", range(1, 9))
async def test_an_interrupted_backup_is_completed_by_the_next(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    await fill(data, "alpha", "bravo")
    await backup(data, target)
    await fill(data, "charlie")
    memory = open_memory(data)
    await memory.append(NewTurn("user", "One more."), conversation_id="alpha")
    await memory.close()
    replace, calls = os.replace, 0

    def interrupted(*paths: Any) -> None:
        nonlocal calls
        calls += 1
        if calls >= step:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        await back_up_again_and_again(data, target)
    monkeypatch.setattr(os, "replace", replace)
    assert set(await contents(target)) >= {"alpha", "bravo"}
    assert (await backup(data, target)).failed == {}
    assert await contents(target) == await contents(data)


async def test_a_copy_that_was_changed_is_not_overwritten(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    await fill(data, *NAMES)
    await backup(data, target)
    memory = open_memory(target)
    await memory.append(NewTurn("user", "Only here."), conversation_id="bravo")
    await memory.close()
    done = await backup(data, target)
    assert list(done.failed) == [str(data / FOLDER / file_name("bravo"))]
    assert (await contents(target))["bravo"][-1] == "Only here."
    (target / FOLDER / file_name("bravo")).unlink()
    assert (await backup(data, target)).written == [file_name("bravo")]


async def test_records_ledger_salts_and_principals_are_backed_up(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    await fill(data, "alpha")
    principal = data / "principals" / "p1"
    salt = load_or_create_salt(principal)
    await fill(principal, "bravo")
    session = new_id("session")
    RecordFiles(data, SESSIONS).put(session, {"title": "One"})
    add(data, LedgerEntry(1, "alpha", 1, 2, 3, 4, 5))
    for _ in range(2):
        assert (await backup(data, target)).failed == {}
    assert RecordFiles(target, SESSIONS).get(session) == {"title": "One"}
    assert read(target) == read(data)
    assert load_or_create_salt(target / "principals" / "p1") == salt
    assert set(await contents(target / "principals" / "p1")) == {"bravo"}
    RecordFiles(data, SESSIONS).remove(session)
    await backup(data, target)
    assert RecordFiles(target, SESSIONS).get(session) is None


async def test_a_wrong_folder_is_refused_and_not_changed(tmp_path: Path) -> None:
    data, target, used = tmp_path / "data", tmp_path / "backup", tmp_path / "used"
    await fill(data, "alpha")
    await fill(tmp_path / "other", "bravo")
    await backup(data, target)
    used.mkdir()
    (used / "notes").touch()
    wrong: list[tuple[Path, Path, str]] = [
        (data, data, "is in the data folder"),
        (data, data / "backup", "is in the data folder"),
        (data, tmp_path, "or contains it"),
        (data, used, "is not empty and no backup"),
        (tmp_path / "other", target, "is a backup of"),
        (tmp_path / "missing", target, "holds no conversations"),
    ]
    for source, to, message in wrong:
        with pytest.raises(InvalidArgument, match=message):
            await backup(source, to)
    assert run(tmp_path / "missing", "backup", str(target)).returncode == 1
    assert not (tmp_path / "missing").exists()
    assert set(await contents(target)) == {"alpha"}
    assert os.listdir(used) == ["notes"]


async def test_the_command_restores_by_import(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    await fill(data, *NAMES)
    done = run(data, "backup", str(target), "--json")
    assert len(json.loads(done.stdout)["written"]) == 3
    assert "3 unchanged" in run(data, "backup", str(target)).stdout
    files = sorted(map(str, (target / FOLDER).glob("*.ctxmem")))
    assert run(tmp_path / "restored", "import", *files).returncode == 0
    assert await contents(tmp_path / "restored") == await contents(data)
    assert json.loads((target / RECORD_FILE).read_bytes())["source"] == str(data)
