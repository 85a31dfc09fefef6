"""The files themselves: whose they are, what is refused, what may be lost, what stays open."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import threading
import time
import unicodedata
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from ctxmem_mcp.errors import BrokenHistory, NewerFormat, StoreUnavailable, UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore, schema
from ctxmem_mcp.stores.sqlite.catalog import FOLDER, Catalog, file_name
from ctxmem_mcp.stores.sqlite.connection import WAL_BYTES_MAX, Durability
from ctxmem_mcp.stores.sqlite.store import FILES_OPEN_MAX
from ctxmem_mcp.stores.testing.builders import DAY, NOW, extend, new_state
from ctxmem_mcp.stores.testing.listing_tests import ODD_IDS
from tests.stores.samples import memory_over, sample_turns

pytestmark = pytest.mark.anyio


def opened(data: Path, durability: Durability = "normal") -> Memory:
    return memory_over(SqliteStore(data, durability=durability), lambda: NOW)


async def filled(data: Path, *names: str) -> None:
    memory = opened(data)
    for name in names:
        await memory.sync(sample_turns(30, f"the parser of {name}"), conversation_id=name)
    await memory.close()


async def listed(memory: Memory) -> list[str]:
    return [info.conversation_id for info in (await memory.conversations(limit=100)).conversations]


def path_of(data: Path, name: str) -> Path:
    return data / FOLDER / file_name(name)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Only for folders that no store of this process has open."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------ whose file it is


async def test_a_file_of_a_newer_format_is_refused_and_not_touched(tmp_path: Path) -> None:
    await filled(tmp_path, "new", "old")
    with closing(sqlite3.connect(path_of(tmp_path, "new"), isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute(f"PRAGMA user_version = {schema.FORMAT + 1}")
    before = bytes_of(tmp_path / FOLDER)
    memory = opened(tmp_path)
    for attempt in (
        lambda: memory.info("new"),
        lambda: memory.append(NewTurn("user", "x"), conversation_id="new"),
        lambda: memory.forget("new", "new"),
    ):
        with pytest.raises(NewerFormat, match=f"format {schema.FORMAT + 1}"):
            await attempt()
    assert await listed(memory) == ["old"]
    assert await memory.sweep() == []
    await memory.close()
    assert bytes_of(tmp_path / FOLDER) == before


async def test_a_newer_format_that_still_lies_in_the_write_ahead_log_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path, "c")
    path = path_of(tmp_path, "c")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA wal_autocheckpoint = 0")
        other.execute(f"PRAGMA user_version = {schema.FORMAT + 1}")
        memory = opened(tmp_path)
        with pytest.raises(NewerFormat):
            await memory.info("c")
        assert other.execute("PRAGMA user_version").fetchone() == (schema.FORMAT + 1,)
        await memory.close()


@pytest.mark.parametrize("kind", ["text", "empty", "sqlite", "folder"])
async def test_what_is_not_ours_is_refused_passed_over_and_not_touched(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await filled(tmp_path, "ours")
    path = path_of(tmp_path, "theirs")
    if kind == "sqlite":
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE turns (a)")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("My notes\n" * 50 if kind == "text" else "", encoding="utf-8")
    before = bytes_of(tmp_path / FOLDER)
    memory = opened(tmp_path)
    with pytest.raises(StoreUnavailable):
        await memory.info("theirs")
    with pytest.raises(StoreUnavailable):
        await memory.append(NewTurn("user", "x"), conversation_id="theirs")
    with pytest.raises(StoreUnavailable):
        await memory.forget("theirs", "theirs")
    assert await listed(memory) == ["ours"]
    assert f"Skipped {path}" in caplog.text
    assert await memory.sweep() == []
    await memory.close()
    assert bytes_of(tmp_path / FOLDER) == before


async def test_a_damaged_file_is_told_and_can_be_forgotten(tmp_path: Path) -> None:
    await filled(tmp_path, "c", "other")
    path = path_of(tmp_path, "c")
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + b"\xff" * (len(whole) - 200))
    memory = opened(tmp_path)
    with pytest.raises(BrokenHistory):
        await memory.info("c")
    assert await listed(memory) == ["other"]
    assert (await memory.forget("c", "c")).bytes >= len(whole)
    assert not path.exists()
    await memory.close()


@pytest.mark.parametrize(
    "harm", ["body = x'00112233', codec = 1", "codec = 7", "codec = 0, body = x'ff'", "role = 99", "tokens = 'many'"]
)
async def test_a_damaged_turn_is_found_by_verifying_and_is_not_in_the_way_of_others(tmp_path: Path, harm: str) -> None:
    await filled(tmp_path, "c", "other")
    with closing(sqlite3.connect(path_of(tmp_path, "c"))) as db:
        db.execute(f"UPDATE turns SET {harm} WHERE seq = 9")
        db.commit()
    memory = opened(tmp_path)
    faults = await memory.verify("c")
    assert len(faults) == 1
    assert "turn number 9" in faults[0] or "t8-" in faults[0] or "branch from turn number 1" in faults[0]
    assert {hit.conversation_id for hit in await memory.search("parser")} >= {"other"}
    assert await memory.verify("other") == []
    await memory.close()


async def test_a_damaged_text_is_told_by_who_reads_it(tmp_path: Path) -> None:
    await filled(tmp_path, "c")
    with closing(sqlite3.connect(path_of(tmp_path, "c"))) as db:
        db.execute("UPDATE turns SET body = x'00112233', codec = 1")
        db.commit()
    memory = opened(tmp_path)
    with pytest.raises(BrokenHistory, match="verify"):
        await memory.turn("c", "t3")
    with pytest.raises(BrokenHistory, match="verify"):
        await memory.view("c", query="parser")
    with pytest.raises(BrokenHistory, match="verify"):
        await memory.append(NewTurn("user", "x"), conversation_id="c")
    await memory.close()


async def test_a_damaged_conversation_that_has_expired_keeps_no_other_from_being_swept(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(4)]
    await filled(tmp_path, *names)
    memory = memory_over(SqliteStore(tmp_path), lambda: NOW + 31 * DAY)
    await memory.conversations()
    catalog = (tmp_path / "catalog.db").stat().st_ino
    for name, pages in (("c1", "nodes"), ("c2", "conversation")):
        with closing(sqlite3.connect(path_of(tmp_path, name))) as db:
            (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (pages,)).fetchone()
        state = path_of(tmp_path, name).stat()
        raw = bytearray(path_of(tmp_path, name).read_bytes())
        raw[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
        path_of(tmp_path, name).write_bytes(raw)
        os.utime(path_of(tmp_path, name), ns=(state.st_atime_ns, state.st_mtime_ns))  # the catalog sees no change
    assert await memory.sweep() == ["c0", "c1", "c3"]
    assert (tmp_path / "catalog.db").stat().st_ino == catalog
    assert (await memory.forget("c2", "c2")).bytes > 0
    await memory.close()


# ------------------------------------------------------------ the catalog is a cache


@pytest.mark.parametrize("harm", ["gone", "text", "torn", "other format", "pages"])
async def test_harm_to_the_catalog_loses_nothing(tmp_path: Path, harm: str) -> None:
    names = [f"c{i}" for i in range(12)]
    await filled(tmp_path, *names)
    memory = opened(tmp_path)
    before = (await memory.conversations(limit=100)).conversations
    await memory.close()
    catalog = tmp_path / "catalog.db"
    raw = catalog.read_bytes()
    if harm == "gone":
        catalog.unlink()
    elif harm == "other format":
        with closing(sqlite3.connect(catalog)) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        spoilt = {"text": b"not a database at all\n" * 400, "torn": raw[:1000], "pages": raw[:4096] + b"\xff" * 30_000}
        catalog.write_bytes(spoilt[harm])
    memory = opened(tmp_path)
    assert (await memory.conversations(limit=100)).conversations == before
    found = await memory.sync(sample_turns(30, "the parser of c3"))
    assert (found.conversation_id, found.known, found.appended) == ("c3", 30, 0)
    await memory.close()


async def test_a_catalog_damaged_while_it_is_open_is_made_anew(tmp_path: Path) -> None:
    await filled(tmp_path, *(f"c{i}" for i in range(12)))
    memory = opened(tmp_path)
    assert len(await listed(memory)) == 12
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as db:  # as a disk error would: the root page of a table
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET rootpage = 9999 WHERE name = 'files'")
        db.commit()
    assert len(await listed(memory)) == 12
    await memory.close()


async def test_a_catalog_deleted_while_it_is_open_is_made_anew(tmp_path: Path) -> None:
    await filled(tmp_path, "kept", "left")
    memory, other = opened(tmp_path), opened(tmp_path)
    verbs: list[Callable[[], Awaitable[object]]] = [
        lambda: memory.info("kept"),  # opens a file
        lambda: memory.conversations(),
        lambda: memory.append(NewTurn("user", "x"), conversation_id="new"),  # makes one
        lambda: memory.forget("left", "left"),
        lambda: memory.sweep(),
        lambda: memory.model_usage("kept"),
    ]
    assert await listed(memory) == await listed(other) == ["kept", "left"]
    for verb in verbs:
        (tmp_path / "catalog.db").unlink()
        await verb()
        assert await listed(other) == await listed(memory)
    assert sorted(await listed(memory)) == ["kept", "new"]
    for one in (memory, other):
        (tmp_path / "catalog.db").unlink(missing_ok=True)
        await one.close()


async def test_who_has_a_deleted_catalog_open_locks_the_one_made_since(tmp_path: Path) -> None:
    await filled(tmp_path, "c")
    first, second = Catalog(tmp_path), Catalog(tmp_path)
    await first.connect()
    (tmp_path / "catalog.db").unlink()
    await second.connect()
    inside: list[str] = []

    def hold(_: sqlite3.Connection) -> None:
        inside.append("in")
        time.sleep(0.05)
        inside.append("out")

    async with anyio.create_task_group() as tasks:
        for catalog in (first, second):
            tasks.start_soon(catalog.run_locked, hold)
    assert inside == ["in", "out"] * 2
    for catalog in (first, second):
        await catalog.close()


async def test_a_folder_deleted_while_it_is_open_begins_anew(tmp_path: Path) -> None:
    data = tmp_path / "data"
    await filled(data, "c")
    memory = opened(data)
    assert await listed(memory) == ["c"]
    shutil.rmtree(data)
    assert await listed(memory) == []
    with pytest.raises(UnknownConversation):
        await memory.info("c")
    assert (await memory.append(NewTurn("user", "x"), conversation_id="c")).index == 0
    assert await listed(memory) == ["c"]
    await memory.close()


async def test_a_file_copied_into_another_data_directory_is_a_conversation_there(tmp_path: Path) -> None:
    await filled(tmp_path / "here", "c", "d")
    there = opened(tmp_path / "there")
    assert await listed(there) == []
    shutil.copy(path_of(tmp_path / "here", "c"), path_of(tmp_path / "there", "c"))
    assert await listed(there) == ["c"]
    assert (await there.sync(sample_turns(31, "the parser of c"))).appended == 1
    assert await there.verify("c") == []
    await there.close()


async def test_a_copy_under_another_name_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await filled(tmp_path, "c")
    shutil.copy(path_of(tmp_path, "c"), tmp_path / FOLDER / "my backup.ctxmem")
    memory = opened(tmp_path)
    assert await listed(memory) == ["c"]
    assert f"whose file must be called {file_name('c')}" in caplog.text
    await memory.close()


def test_names_differ_on_any_file_system() -> None:
    names = [file_name(name) for name in (*ODD_IDS, *(f"x{i}" for i in range(200)))]
    assert len({unicodedata.normalize("NFKC", name).casefold() for name in names}) == len(names)
    for name in names:
        assert name.isascii()
        assert len(name) < 100
        assert not set(name) & set('<>:"/\\|?*')


# ------------------------------------------------------------ formats


def schema_of(db: sqlite3.Connection) -> list[tuple[object, ...]]:
    found = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
    return [*found, *(db.execute(f"PRAGMA {name}").fetchone() for name in ("user_version", "application_id"))]


def test_migrating_step_by_step_gives_the_schema_made_from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (*schema.MIGRATIONS, "CREATE TABLE later (a);\nCREATE INDEX later_a ON later (a);\n")
    whole, stepwise = (sqlite3.connect(":memory:", isolation_level=None) for _ in range(2))
    for count in range(1, len(steps) + 1):
        monkeypatch.setattr(schema, "MIGRATIONS", steps[:count])
        monkeypatch.setattr(schema, "FORMAT", count)
        schema.migrate(stepwise)
        assert stepwise.execute("PRAGMA user_version").fetchone() == (count,)
    schema.migrate(whole)
    assert schema_of(stepwise) == schema_of(whole)
    for db in (whole, stepwise):
        db.close()


async def test_a_file_of_the_format_before_is_migrated_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path, "c")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE later (a);\n"))
    monkeypatch.setattr(schema, "FORMAT", schema.FORMAT + 1)
    memory = opened(tmp_path)
    assert await memory.verify("c") == []
    await memory.close()
    with closing(sqlite3.connect(path_of(tmp_path, "c"))) as db:
        assert db.execute("SELECT count(*) FROM later").fetchone() == (0,)


# ------------------------------------------------------------ places that can't be used


@pytest.mark.parametrize("in_the_way", ["data", "conversations", "catalog"])
async def test_a_data_directory_that_can_not_be_used_is_told_with_a_remedy(tmp_path: Path, in_the_way: str) -> None:
    data = tmp_path / "data"
    if in_the_way == "data":
        data.write_text("a file", encoding="utf-8")
    else:
        data.mkdir()
        if in_the_way == "catalog":
            (data / "catalog.db").mkdir()
        else:
            (data / FOLDER).write_text("a file", encoding="utf-8")
    memory = opened(data)
    for attempt in (
        lambda: memory.append(NewTurn("user", "x"), conversation_id="c"),
        lambda: memory.conversations(),
        lambda: memory.sweep(),
    ):
        with pytest.raises(StoreUnavailable) as told:
            await attempt()
        assert "directory" in str(told.value)
        assert told.value.hint
    with pytest.raises((StoreUnavailable, UnknownConversation)):
        await memory.info("c")
    await memory.close()


# ------------------------------------------------------------ settings of a connection


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
async def test_durability_sets_synchronous(tmp_path: Path, durability: Durability, synchronous: int) -> None:
    store = SqliteStore(tmp_path, durability=durability)
    await store.commit(extend(new_state(), ["x"]), NOW)
    async with store._use("c") as file:
        pragmas = await file.connection.run(
            lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
        )
    assert pragmas == [synchronous, "wal"]
    await store.close()


async def test_the_write_ahead_log_stays_small(tmp_path: Path) -> None:
    memory = opened(tmp_path)
    done = await memory.sync([NewTurn("user", os.urandom(3_000_000).hex())], conversation_id="c")
    for turn in sample_turns(40):
        await memory.append(turn, conversation_id="c")
    wal = path_of(tmp_path, "c").with_name(file_name("c") + "-wal")
    assert wal.stat().st_size <= WAL_BYTES_MAX + (4096 + 24) * 1000 + 32
    assert (await memory.turn("c", done.turn_ids[0])).role == "user"
    await memory.close()
    assert not wal.exists()


async def test_a_long_conversation_is_read_by_a_process_that_did_not_make_its_dictionaries(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, durability="normal")
    state, texts = new_state(), list[str]()
    for n in range(4):
        said = [f"turn {n}.{i}: " + f"the parser failed on line {i * n} of limits.py\n" * 18 for i in range(500)]
        await store.commit(commit := extend(state, said), NOW)
        state, texts = commit.state, texts + said
    await store.close()
    with closing(sqlite3.connect(path_of(tmp_path, "c"))) as db:
        assert db.execute("SELECT count(*) FROM dictionaries").fetchone()[0] >= 1
        assert db.execute("SELECT max(codec) FROM turns").fetchone() == (3,)
    assert [turn.content for turn in await store.turns("c", range(1, 2_001))] == texts
    assert path_of(tmp_path, "c").stat().st_size < sum(map(len, texts)) / 2
    await store.close()


# ------------------------------------------------------------ what stays open


@pytest.fixture
def nothing_left() -> Iterator[None]:
    threads = set(threading.enumerate())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)] == []
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)  # told to stop, it may need an instant for it
        assert not thread.is_alive()


def open_files(folder: Path) -> set[str]:
    there = Path("/proc/self/fd")
    if not there.exists():
        pytest.skip("only Linux tells which files are open")
    found = set()
    for fd in there.iterdir():
        try:
            found.add(str(fd.readlink()))
        except OSError:
            continue
    return {name for name in found if name.startswith(str(folder))}


async def test_idle_files_are_closed_and_nothing_is_left_at_the_end(tmp_path: Path, nothing_left: None) -> None:
    before = set(threading.enumerate())
    memory = opened(tmp_path)
    names = [f"c{i}" for i in range(3 * FILES_OPEN_MAX)]

    async def use(name: str) -> None:
        for i in range(3):
            await memory.append(NewTurn("user", f"{name} {i}"), conversation_id=name)

    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(use, name)
    conversations = {name for name in open_files(tmp_path) if name.endswith(".ctxmem")}
    assert len(conversations) <= FILES_OPEN_MAX
    assert len([t for t in set(threading.enumerate()) - before if t.is_alive()]) <= FILES_OPEN_MAX + 2
    for name in names:
        assert (await memory.info(name)).turns == 3
    await memory.close()
    assert open_files(tmp_path) == set()


async def test_nothing_is_left_open_after_errors_and_forgetting(tmp_path: Path, nothing_left: None) -> None:
    (tmp_path / FOLDER).mkdir()
    path_of(tmp_path, "theirs").write_text("a text", encoding="utf-8")
    memory = opened(tmp_path)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await memory.info("theirs")
        with pytest.raises(UnknownConversation):
            await memory.info("nobody")
        await memory.append(NewTurn("user", "x"), conversation_id="c")
        await memory.forget("c", "c")
    assert {name for name in open_files(tmp_path) if name.endswith(".ctxmem")} == set()
    await memory.close()
    await memory.close()
    assert open_files(tmp_path) == set()


async def test_an_opening_that_failed_has_ended_its_thread_when_it_is_told(tmp_path: Path) -> None:
    """Else the thread's last word may find the event loop closed, and it dies with a traceback."""
    await filled(tmp_path, "new")
    with closing(sqlite3.connect(path_of(tmp_path, "new"))) as db:
        db.execute(f"PRAGMA user_version = {schema.FORMAT + 1}")
    store = SqliteStore(tmp_path)
    await store.conversations(NOW)
    before = set(threading.enumerate())
    for _ in range(20):
        with pytest.raises(NewerFormat):
            await store.load("new", NOW)
        assert set(threading.enumerate()) == before
    await store.close()


async def test_a_store_can_be_used_again_after_it_was_closed(tmp_path: Path, nothing_left: None) -> None:
    memory = opened(tmp_path)
    await memory.append(NewTurn("user", "x"), conversation_id="c")
    await memory.close()
    assert (await memory.info("c")).turns == 1
    await memory.close()
