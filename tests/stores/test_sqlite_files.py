"""Conversations' files: which are refused, what damage does, what stays open."""

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
from ctxmem_mcp.stores.sqlite.catalog import Catalog
from ctxmem_mcp.stores.sqlite.connection import WAL_BYTES_MAX, Durability
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.stores.sqlite.open_files import FILES_OPEN_MAX, FILES_WITH_CONTEXTS_MAX, OpenFile
from ctxmem_mcp.stores.testing.builders import DAY, NOW, extend, new_state
from ctxmem_mcp.stores.testing.listing_tests import ODD_IDS
from tests.stores.samples import memory_over, sample_turns, sweep

pytestmark = pytest.mark.anyio


def open_memory(data: Path, durability: Durability = "normal") -> Memory:
    return memory_over(SqliteStore(data, durability=durability), lambda: NOW)


async def fill(data: Path, *names: str) -> None:
    memory = open_memory(data)
    for name in names:
        await memory.sync(sample_turns(30, f"the parser of {name}"), conversation_id=name)
    await memory.close()


async def list_ids(memory: Memory) -> list[str]:
    return [info.conversation_id for info in (await memory.conversations(limit=100)).conversations]


def path_of(data: Path, name: str) -> Path:
    return data / FOLDER / file_name(name)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder. Only for folders that no store of this process has open."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------ files that are refused


async def test_a_file_of_a_newer_format_is_refused_and_not_changed(tmp_path: Path) -> None:
    await fill(tmp_path, "new", "old")
    with closing(sqlite3.connect(path_of(tmp_path, "new"), isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute(f"PRAGMA user_version = {schema.FORMAT + 1}")
    before = bytes_of(tmp_path / FOLDER)
    memory = open_memory(tmp_path)
    for attempt in (
        lambda: memory.info("new"),
        lambda: memory.append(NewTurn("user", "x"), conversation_id="new"),
        lambda: memory.forget("new", "new"),
    ):
        with pytest.raises(NewerFormat, match=f"format {schema.FORMAT + 1}"):
            await attempt()
    assert await list_ids(memory) == ["old"]
    assert await memory.sweep() == []
    await memory.close()
    assert bytes_of(tmp_path / FOLDER) == before


async def test_a_newer_format_that_is_still_in_the_write_ahead_log_is_refused(tmp_path: Path) -> None:
    await fill(tmp_path, "c")
    path = path_of(tmp_path, "c")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA wal_autocheckpoint = 0")
        other.execute(f"PRAGMA user_version = {schema.FORMAT + 1}")
        memory = open_memory(tmp_path)
        with pytest.raises(NewerFormat):
            await memory.info("c")
        assert other.execute("PRAGMA user_version").fetchone() == (schema.FORMAT + 1,)
        await memory.close()


@pytest.mark.parametrize("kind", ["text", "sqlite", "folder"])
async def test_a_file_that_is_not_ours_is_refused_skipped_and_not_changed(tmp_path: Path, kind: str) -> None:
    await fill(tmp_path, "ours")
    path = path_of(tmp_path, "theirs")
    if kind == "sqlite":
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE turns (a)")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("My notes\n" * 50, encoding="utf-8")
    before = bytes_of(tmp_path / FOLDER)
    memory = open_memory(tmp_path)
    with pytest.raises(StoreUnavailable):
        await memory.info("theirs")
    with pytest.raises(StoreUnavailable):
        await memory.append(NewTurn("user", "x"), conversation_id="theirs")
    with pytest.raises(StoreUnavailable):
        await memory.forget("theirs", "theirs")
    assert await list_ids(memory) == ["ours"]
    assert str(path) in (await memory.conversations()).unreadable
    assert await memory.sweep() == []
    await memory.close()
    assert bytes_of(tmp_path / FOLDER) == before


async def test_a_damaged_file_is_reported_and_can_be_forgotten(tmp_path: Path) -> None:
    await fill(tmp_path, "c", "other")
    path = path_of(tmp_path, "c")
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + b"\xff" * (len(whole) - 200))
    memory = open_memory(tmp_path)
    with pytest.raises(BrokenHistory):
        await memory.info("c")
    assert await list_ids(memory) == ["other"]
    assert (await memory.forget("c", "c")).bytes >= len(whole)
    assert not path.exists()
    await memory.close()


@pytest.mark.parametrize(
    "damage", ["body = x'00112233', codec = 1", "codec = 7", "codec = 0, body = x'ff'", "role = 99", "tokens = 'many'"]
)
async def test_a_damaged_turn_is_found_by_verify_and_does_not_affect_other_conversations(
    tmp_path: Path, damage: str
) -> None:
    await fill(tmp_path, "c", "other")
    with closing(sqlite3.connect(path_of(tmp_path, "c"))) as db:
        db.execute(f"UPDATE turns SET {damage} WHERE seq = 9")
        db.commit()
    memory = open_memory(tmp_path)
    faults = await memory.verify("c")
    assert len(faults) == 1
    assert "turn number 9" in faults[0] or "t8-" in faults[0] or "branch from turn number 1" in faults[0]
    assert {hit.conversation_id for hit in await memory.search("parser")} >= {"other"}
    assert await memory.verify("other") == []
    await memory.close()


async def test_reading_a_damaged_text_is_an_error_that_names_verify(tmp_path: Path) -> None:
    await fill(tmp_path, "c")
    with closing(sqlite3.connect(path_of(tmp_path, "c"))) as db:
        db.execute("UPDATE turns SET body = x'00112233', codec = 1")
        db.commit()
    memory = open_memory(tmp_path)
    with pytest.raises(BrokenHistory, match="verify"):
        await memory.turn("c", "t3")
    with pytest.raises(BrokenHistory, match="verify"):
        await memory.view("c", query="parser")
    with pytest.raises(BrokenHistory, match="verify"):
        await memory.append(NewTurn("user", "x"), conversation_id="c")
    await memory.close()


async def test_a_damaged_expired_conversation_does_not_keep_others_from_being_swept(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(4)]
    await fill(tmp_path, *names)
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
        os.utime(path_of(tmp_path, name), ns=(state.st_atime_ns, state.st_mtime_ns))  # the catalog notices no change
    assert await sweep(memory) == ["c0", "c1", "c3"]
    assert (tmp_path / "catalog.db").stat().st_ino == catalog
    assert (await memory.forget("c2", "c2")).bytes > 0
    await memory.close()


# ------------------------------------------------------------ the catalog is a cache


@pytest.mark.parametrize("damage", ["deleted", "text", "torn", "other format", "pages"])
async def test_damage_to_the_catalog_loses_nothing(tmp_path: Path, damage: str) -> None:
    names = [f"c{i}" for i in range(12)]
    await fill(tmp_path, *names)
    memory = open_memory(tmp_path)
    before = (await memory.conversations(limit=100)).conversations
    await memory.close()
    catalog = tmp_path / "catalog.db"
    raw = catalog.read_bytes()
    if damage == "deleted":
        catalog.unlink()
    elif damage == "other format":
        with closing(sqlite3.connect(catalog)) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        damaged = {"text": b"not a database at all\n" * 400, "torn": raw[:1000], "pages": raw[:4096] + b"\xff" * 30_000}
        catalog.write_bytes(damaged[damage])
    memory = open_memory(tmp_path)
    assert (await memory.conversations(limit=100)).conversations == before
    found = await memory.sync(sample_turns(30, "the parser of c3"))
    assert (found.conversation_id, found.known, found.appended) == ("c3", 30, 0)
    await memory.close()


async def test_a_catalog_damaged_while_it_is_open_is_rebuilt(tmp_path: Path) -> None:
    await fill(tmp_path, *(f"c{i}" for i in range(12)))
    memory = open_memory(tmp_path)
    assert len(await list_ids(memory)) == 12
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as db:  # like a disk error: the root page of a table
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET rootpage = 9999 WHERE name = 'files'")
        db.commit()
    assert len(await list_ids(memory)) == 12
    await memory.close()


async def test_a_catalog_deleted_while_it_is_open_is_rebuilt(tmp_path: Path) -> None:
    await fill(tmp_path, "stays", "leaves")
    memory, other = open_memory(tmp_path), open_memory(tmp_path)
    operations: list[Callable[[], Awaitable[object]]] = [
        lambda: memory.info("stays"),  # opens a file
        lambda: memory.conversations(),
        lambda: memory.append(NewTurn("user", "x"), conversation_id="new"),  # creates one
        lambda: memory.forget("leaves", "leaves"),
        lambda: memory.sweep(),
        lambda: memory.model_usage("stays"),
    ]
    assert await list_ids(memory) == await list_ids(other) == ["leaves", "stays"]
    for operation in operations:
        (tmp_path / "catalog.db").unlink()
        await operation()
        assert await list_ids(other) == await list_ids(memory)
    assert sorted(await list_ids(memory)) == ["new", "stays"]
    for one in (memory, other):
        (tmp_path / "catalog.db").unlink(missing_ok=True)
        await one.close()


async def test_a_store_with_a_deleted_catalog_open_locks_the_one_created_since(tmp_path: Path) -> None:
    await fill(tmp_path, "c")
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


async def test_a_folder_deleted_while_it_is_open_is_created_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    await fill(data, "c")
    memory = open_memory(data)
    assert await list_ids(memory) == ["c"]
    shutil.rmtree(data)
    assert await list_ids(memory) == []
    with pytest.raises(UnknownConversation):
        await memory.info("c")
    assert (await memory.append(NewTurn("user", "x"), conversation_id="c")).index == 0
    assert await list_ids(memory) == ["c"]
    await memory.close()


async def test_a_file_copied_into_another_data_directory_is_a_conversation_there(tmp_path: Path) -> None:
    await fill(tmp_path / "here", "c", "d")
    there = open_memory(tmp_path / "there")
    assert await list_ids(there) == []
    shutil.copy(path_of(tmp_path / "here", "c"), path_of(tmp_path / "there", "c"))
    assert await list_ids(there) == ["c"]
    assert (await there.sync(sample_turns(31, "the parser of c"))).appended == 1
    assert await there.verify("c") == []
    await there.close()


async def test_a_copy_under_another_name_is_skipped(tmp_path: Path) -> None:
    await fill(tmp_path, "c")
    copy = shutil.copy(path_of(tmp_path, "c"), tmp_path / FOLDER / "my backup.ctxmem")
    memory = open_memory(tmp_path)
    assert await list_ids(memory) == ["c"]
    assert f"whose file must be called {file_name('c')}" in (await memory.conversations()).unreadable[str(copy)]
    await memory.close()


def test_file_names_differ_on_any_file_system() -> None:
    names = [file_name(name) for name in (*ODD_IDS, *(f"x{i}" for i in range(200)))]
    assert len({unicodedata.normalize("NFKC", name).casefold() for name in names}) == len(names)
    for name in names:
        assert name.isascii()
        assert len(name) < 100
        assert not set(name) & set('<>:"/\\|?*')


# ------------------------------------------------------------ formats


def read_schema(db: sqlite3.Connection) -> list[tuple[object, ...]]:
    found = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall()
    return [*found, *(db.execute(f"PRAGMA {name}").fetchone() for name in ("user_version", "application_id"))]


def test_migrating_step_by_step_gives_the_same_schema_as_creating_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (*schema.MIGRATIONS, "CREATE TABLE later (a);\nCREATE INDEX later_a ON later (a);\n")
    whole, stepwise = (sqlite3.connect(":memory:", isolation_level=None) for _ in range(2))
    for count in range(1, len(steps) + 1):
        monkeypatch.setattr(schema, "MIGRATIONS", steps[:count])
        monkeypatch.setattr(schema, "FORMAT", count)
        schema.migrate(stepwise)
        assert stepwise.execute("PRAGMA user_version").fetchone() == (count,)
    schema.migrate(whole)
    assert read_schema(stepwise) == read_schema(whole)
    for db in (whole, stepwise):
        db.close()


async def test_a_file_of_an_older_format_is_migrated_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path, "c")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE later (a);\n"))
    monkeypatch.setattr(schema, "FORMAT", schema.FORMAT + 1)
    memory = open_memory(tmp_path)
    assert await memory.verify("c") == []
    await memory.close()
    with closing(sqlite3.connect(path_of(tmp_path, "c"))) as db:
        assert db.execute("SELECT count(*) FROM later").fetchone() == (0,)


# ------------------------------------------------------------ unusable data directories


@pytest.mark.parametrize("blocked", ["data", "conversations"])
async def test_a_data_directory_that_can_not_be_used_is_reported_with_a_remedy(tmp_path: Path, blocked: str) -> None:
    data = tmp_path / "data"
    if blocked == "data":
        data.write_text("a file", encoding="utf-8")
    else:
        data.mkdir()
        (data / FOLDER).write_text("a file", encoding="utf-8")
    memory = open_memory(data)
    for attempt in (
        lambda: memory.append(NewTurn("user", "x"), conversation_id="c"),
        lambda: memory.conversations(),
        lambda: memory.sweep(),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            await attempt()
        assert "directory" in str(caught.value)
        assert caught.value.hint
    with pytest.raises((StoreUnavailable, UnknownConversation)):
        await memory.info("c")
    await memory.close()


# ------------------------------------------------------------ settings of a connection


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
async def test_durability_sets_synchronous(tmp_path: Path, durability: Durability, synchronous: int) -> None:
    store = SqliteStore(tmp_path, durability=durability)
    await store.commit(extend(new_state(), ["x"]), NOW)
    async with store._files.use("c") as file:
        pragmas = await file.connection.run(
            lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
        )
    assert pragmas == [synchronous, "wal"]
    await store.close()


async def test_the_write_ahead_log_stays_small(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    done = await memory.sync([NewTurn("user", os.urandom(3_000_000).hex())], conversation_id="c")
    for turn in sample_turns(40):
        await memory.append(turn, conversation_id="c")
    wal = path_of(tmp_path, "c").with_name(file_name("c") + "-wal")
    assert wal.stat().st_size <= WAL_BYTES_MAX + (4096 + 24) * 1000 + 32
    assert (await memory.turn("c", done.turn_ids[0])).role == "user"
    await memory.close()
    assert not wal.exists()


async def test_a_long_conversation_is_read_by_a_store_that_did_not_make_its_dictionaries(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, durability="normal")
    state, texts = new_state(), list[str]()
    for n in range(4):
        added = [f"turn {n}.{i}: " + f"the parser failed on line {i * n} of limits.py\n" * 18 for i in range(500)]
        await store.commit(commit := extend(state, added), NOW)
        state, texts = commit.state, texts + added
    await store.close()
    with closing(sqlite3.connect(path_of(tmp_path, "c"))) as db:
        assert db.execute("SELECT count(*) FROM dictionaries").fetchone()[0] >= 1
        assert db.execute("SELECT max(codec) FROM turns").fetchone() == (3,)
    assert [turn.content for turn in await store.turns("c", range(1, 2_001))] == texts
    assert path_of(tmp_path, "c").stat().st_size < sum(map(len, texts)) / 2
    await store.close()


# ------------------------------------------------------------ what stays open


@pytest.fixture
def no_resources_left() -> Iterator[None]:
    threads = set(threading.enumerate())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)] == []
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)  # it was told to stop and may need an instant
        assert not thread.is_alive()


def open_files(folder: Path) -> set[str]:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("only Linux lists open files in /proc")
    found = set()
    for fd in descriptors.iterdir():
        try:
            found.add(str(fd.readlink()))
        except OSError:
            continue
    return {name for name in found if name.startswith(str(folder))}


async def test_only_the_files_used_last_keep_contexts_of_compression(tmp_path: Path) -> None:
    memory, count = open_memory(tmp_path), FILES_WITH_CONTEXTS_MAX + 8
    known = {id(one) for one in gc.get_objects() if isinstance(one, OpenFile)}
    for round_ in range(2):
        for i in range(count):
            turn = NewTurn("user", f"{round_} " + "the parser fails again and again. " * 20)
            await memory.append(turn, conversation_id=f"c{i}")
    files = [one for one in gc.get_objects() if isinstance(one, OpenFile) and id(one) not in known]
    assert len(files) == count
    assert 0 < sum(file.compression.contexts > 0 for file in files) <= FILES_WITH_CONTEXTS_MAX
    for i in range(count):
        assert [turn.content[:2] for turn in await memory.history(f"c{i}")] == ["0 ", "1 "]
    await memory.close()


async def test_idle_files_are_closed_and_nothing_is_left_open_at_the_end(
    tmp_path: Path, no_resources_left: None
) -> None:
    before = set(threading.enumerate())
    memory = open_memory(tmp_path)
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


async def test_nothing_is_left_open_after_errors_and_forgetting(tmp_path: Path, no_resources_left: None) -> None:
    (tmp_path / FOLDER).mkdir()
    path_of(tmp_path, "theirs").write_text("a text", encoding="utf-8")
    memory = open_memory(tmp_path)
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


async def test_the_thread_of_a_failed_opening_has_ended_when_the_error_is_raised(tmp_path: Path) -> None:
    """Otherwise the thread's last message may find the event loop closed, and the thread dies with a traceback."""
    await fill(tmp_path, "new")
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


async def test_a_store_can_be_used_again_after_it_was_closed(tmp_path: Path, no_resources_left: None) -> None:
    memory = open_memory(tmp_path)
    await memory.append(NewTurn("user", "x"), conversation_id="c")
    await memory.close()
    assert (await memory.info("c")).turns == 1
    await memory.close()
