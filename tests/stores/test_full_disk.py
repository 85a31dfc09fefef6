"""A full disk, a read-only folder and another user's folder: what is stored can be listed, searched and read, and on a
full disk it can be forgotten."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp import Settings, composition
from ctxmem_mcp.errors import StoreReadOnly, StoreUnavailable, UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.expiry import CONFIRM_SECONDS, ExpiryWatch
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.stores.sqlite.image import apply_log, load_image
from ctxmem_mcp.stores.testing.builders import NOW
from ctxmem_mcp.sweeper import Sweeper
from tests.stores.disks import fill_disk, mounted_read_only, small_disk
from tests.stores.samples import memory_over, sample_turns

pytestmark = pytest.mark.anyio
TURNS = 30


def open_memory(data: Path) -> Memory:
    return memory_over(SqliteStore(data, durability="normal"), lambda: NOW)


async def fill(data: Path, *names: str) -> None:
    memory = open_memory(data)
    for name in names:
        await memory.sync(sample_turns(TURNS, f"the parser of {name}"), conversation_id=name)
    await memory.close()


async def fill_unclosed(data: Path, *names: str) -> None:
    """Leaves the files as a killed process does: the turns are in the write-ahead logs, whose index is gone."""
    memory = open_memory(data / "open")
    for name in names:
        await memory.sync(sample_turns(TURNS, f"the parser of {name}"), conversation_id=name)
    shutil.copytree(data / "open" / FOLDER, data / FOLDER)
    await memory.close()
    shutil.rmtree(data / "open")
    for index in (data / FOLDER).glob("*-shm"):
        index.unlink()
    assert len(list((data / FOLDER).glob("*-wal"))) == len(names)


def path_of(data: Path, name: str) -> Path:
    return data / FOLDER / file_name(name)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


async def list_ids(memory: Memory) -> list[str]:
    return sorted(info.conversation_id for info in (await memory.conversations(limit=100)).conversations)


async def append_for_ever(memory: Memory, name: str) -> None:
    while True:
        await memory.append(NewTurn("user", os.urandom(2_000).hex()), conversation_id=name)


def run(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(data), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def assert_readable(memory: Memory, *names: str) -> None:
    assert await list_ids(memory) == sorted(names)
    for name in names:
        assert (await memory.info(name)).turns == TURNS
        turns = await memory.history(name)
        assert [turn.content for turn in turns] == [t.content for t in sample_turns(TURNS, f"the parser of {name}")]
        assert (await memory.view(name, query="parser", token_budget=2_000)).text
        assert await memory.verify(name) == []
        await memory.model_usage(name)
    assert {hit.conversation_id for hit in await memory.search("parser", limit=50)} == set(names)


# ------------------------------------------------------------ a full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 3) as folder:
        yield folder


@pytest.mark.parametrize("catalog", ["current", "stale", "missing", "open"])
@pytest.mark.parametrize("closed", [True, False])
async def test_on_a_full_disk_everything_can_be_read_and_forgotten(disk: Path, closed: bool, catalog: str) -> None:
    await (fill if closed else fill_unclosed)(disk, "alpha", "bravo", "charlie")
    memory = open_memory(disk)
    if catalog in ("current", "open"):
        await memory.conversations()
    if catalog == "open":
        await memory.history("alpha")
    else:
        await memory.close()
    if catalog == "missing":
        (disk / "catalog.db").unlink(missing_ok=True)
    filler = fill_disk(disk)
    await assert_readable(memory, "alpha", "bravo", "charlie")
    with pytest.raises(StoreReadOnly, match=r"disk is full|can't be written"):
        await append_for_ever(memory, "alpha")  # the log of an open file may have some room
    with pytest.raises(StoreReadOnly):
        await memory.append(NewTurn("user", "x"), conversation_id="new")
    receipt = await memory.forget("bravo", "bravo")
    assert receipt.turns == TURNS
    assert len(receipt.checked) == 3
    assert not path_of(disk, "bravo").exists()
    with pytest.raises(UnknownConversation):
        await memory.info("bravo")
    assert await list_ids(memory) == ["alpha", "charlie"]
    filler.unlink()
    assert (await memory.append(NewTurn("user", "x"), conversation_id="charlie")).index == TURNS
    assert (await memory.append(NewTurn("user", "x"), conversation_id="bravo")).index == 0
    await memory.close()


async def test_forgetting_makes_room_for_appends(disk: Path) -> None:
    await fill(disk, "alpha", "bravo", "charlie")
    fill_disk(disk)
    memory = open_memory(disk)
    for name in ("alpha", "bravo"):
        assert (await memory.forget(name, name)).turns == TURNS
    assert (await memory.append(NewTurn("user", "x"), conversation_id="charlie")).index == TURNS
    await memory.close()


async def test_on_a_full_disk_what_has_expired_is_swept(disk: Path) -> None:
    await fill(disk, "alpha", "bravo")
    fill_disk(disk)
    store = SqliteStore(disk)
    expired = await store.expired(NOW + 400 * 86_400)
    assert await store.sweep(expired) == ["alpha", "bravo"]
    await store.close()


# ------------------------------------------------------------ a folder that can't be written


@pytest.mark.parametrize("catalog", ["current", "stale", "missing"])
@pytest.mark.parametrize("closed", [True, False])
async def test_a_read_only_folder_can_be_read_and_says_why_it_is_not_written(
    tmp_path: Path, closed: bool, catalog: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    await (fill if closed else fill_unclosed)(data, "alpha", "bravo")
    if catalog == "current":
        memory = open_memory(data)
        await memory.conversations()
        await memory.close()
    elif catalog == "missing":
        (data / "catalog.db").unlink(missing_ok=True)
    before = bytes_of(data)
    with mounted_read_only(data):
        memory = open_memory(data)
        await assert_readable(memory, "alpha", "bravo")
        for attempt in (
            lambda: memory.append(NewTurn("user", "x"), conversation_id="alpha"),
            lambda: memory.append(NewTurn("user", "x"), conversation_id="new"),
            lambda: memory.forget("alpha", "alpha"),
            lambda: memory.set_retention("alpha", 3),
        ):
            with pytest.raises(StoreReadOnly, match=r"read-only|Read-only"):
                await attempt()
        assert await list_ids(memory) == ["alpha", "bravo"]
        await memory.close()
    assert bytes_of(data) == before


async def test_a_sweep_that_a_read_only_folder_prevents_is_reported_once_something_is_due(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    await fill(data, "alpha")  # in the past: it has expired, and the second reading, a minute later, confirms it
    sweeper, readings = Sweeper(), count(step=CONFIRM_SECONDS)
    sweeper.conversations = ExpiryWatch(lambda: next(readings))
    with mounted_read_only(data):
        for is_due in (False, True):
            async with composition.open_memory(Settings(data), sweeper=sweeper) as memory:
                await memory.conversations()
            assert ("The sweep of expired conversations failed" in caplog.text) == is_due


def allow_reading(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def foreign() -> Iterator[Path]:
    """A folder of root's that others may read, while this process is another user."""
    if not hasattr(os, "geteuid") or os.geteuid():
        pytest.skip("needs root")
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


async def test_another_users_folder_can_be_read_as_far_as_its_modes_allow(foreign: Path) -> None:
    await fill_unclosed(foreign, "open", "closed", "readable")
    allow_reading(foreign)
    path_of(foreign, "closed").chmod(0o600)
    before = bytes_of(foreign)
    os.seteuid(65534)
    memory = open_memory(foreign)
    page = await memory.conversations()
    assert sorted(info.conversation_id for info in page.conversations) == ["open", "readable"]
    assert list(page.unreadable) == [str(path_of(foreign, "closed"))]
    assert "Permission denied" in page.unreadable[str(path_of(foreign, "closed"))]
    assert len(await memory.history("open")) == TURNS
    with pytest.raises(StoreReadOnly, match="permissions do not allow it"):
        await memory.append(NewTurn("user", "x"), conversation_id="open")
    with pytest.raises(StoreReadOnly, match="permissions do not allow it"):
        await memory.forget("open", "open")
    await memory.close()
    os.seteuid(0)
    assert bytes_of(foreign) == before


async def test_a_folder_that_can_not_be_listed_is_an_error(foreign: Path) -> None:
    await fill(foreign, "a")
    os.seteuid(65534)
    memory = open_memory(foreign)
    with pytest.raises(StoreUnavailable, match="Permission denied"):
        await memory.conversations()
    await memory.close()


def test_the_command_list_says_what_it_could_not_read(tmp_path: Path) -> None:
    (tmp_path / "transcript.jsonl").write_text('{"role": "user", "content": "The port is 7412."}\n', encoding="utf-8")
    run(tmp_path, "import", str(tmp_path / "transcript.jsonl"))
    (sound,) = (tmp_path / FOLDER).glob("*.ctxmem")
    path = path_of(tmp_path, "torn")
    path.write_bytes(sound.read_bytes()[:50])
    done = run(tmp_path, "list")
    assert done.stdout.count("\n") == 2
    assert f"not listed, because it can't be read: {path}" in done.stderr
    sound.unlink()
    done = run(tmp_path, "list")
    assert "No conversations yet" not in done.stdout
    done = run(tmp_path, "show", "last")
    assert done.returncode == 1
    assert "None of 1 files can be read" in done.stderr


# ------------------------------------------------------------ the copy in memory


@given(
    st.lists(st.lists(st.integers(0, 200), min_size=1, max_size=40), min_size=1, max_size=8),
    st.floats(0, 1),
    st.booleans(),
)
def test_an_image_is_what_sqlite_reads_wherever_the_log_ends(
    transactions: list[list[int]], end: float, checkpoint: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        live, copy = Path(folder) / "live.db", Path(folder) / "copy.db"
        with closing(sqlite3.connect(live, isolation_level=None)) as db:
            db.executescript("PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; CREATE TABLE t (a, b);")
            for number, rows in enumerate(transactions):
                db.execute("BEGIN")
                db.execute("DELETE FROM t WHERE a % 7 = ?", (number,))
                db.executemany("INSERT INTO t VALUES (?, ?)", [(row, bytes(row * 20)) for row in rows])
                db.execute("COMMIT")
                if checkpoint and number == len(transactions) // 2:
                    db.execute("PRAGMA wal_checkpoint(RESTART)")
            shutil.copy(live, copy)
            log = Path(f"{live}-wal").read_bytes()
        Path(f"{copy}-wal").write_bytes(log[: int(len(log) * end)])
        image, _ = load_image(copy)
        with closing(image), closing(sqlite3.connect(copy)) as db:
            assert list(image.iterdump()) == list(db.iterdump())


def test_a_log_of_another_database_is_not_applied() -> None:
    raw = bytearray(b"x" * 4096)
    for log in (b"", b"short", b"\0" * 5000, bytes.fromhex("377f0682") + b"\1" * 9000):
        apply_log(raw, log)
    assert raw == b"x" * 4096
