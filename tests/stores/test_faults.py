"""Acknowledged turns are stored, and nothing is stored by half, whatever happens to processes and disks."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from ctxmem_mcp.errors import StoreUnavailable, UnknownConversation, UnknownTurn
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.expiry import CONFIRM_SECONDS, ExpiryWatch
from ctxmem_mcp.models import NewTurn, iso
from ctxmem_mcp.stores.sqlite import SqliteStore, file_open, queries
from ctxmem_mcp.stores.sqlite.catalog import Catalog
from ctxmem_mcp.stores.sqlite.connection import Connection
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.stores.sqlite.open_files import FILES_OPEN_MAX
from ctxmem_mcp.stores.testing.builders import DAY, NOW
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.stores.samples import memory_over, sample_turns
from tests.stores.writer_process import acknowledged, turns_in, writers

pytestmark = pytest.mark.anyio
T = TypeVar("T")


def open_memory(data: Path) -> Memory:
    return memory_over(SqliteStore(data), time.time)


@asynccontextmanager
async def closing_all(*memories: Memory) -> AsyncIterator[tuple[Memory, ...]]:
    """Closes them even if the test fails: an open one keeps its process from ending."""
    try:
        yield memories
    finally:
        for memory in memories:
            await memory.close()


async def verify(data: Path, conversation_id: str, acknowledged: dict[str, str]) -> int:
    """Checks that all acknowledged turns are stored byte for byte and the file is sound. Returns its turns."""
    memory = open_memory(data)
    for turn_id, text in acknowledged.items():
        assert (await memory.turn(conversation_id, turn_id)).content == text
    assert await memory.verify(conversation_id) == []
    turns = (await memory.info(conversation_id)).turns
    await memory.close()
    with closing(sqlite3.connect(data / FOLDER / file_name(conversation_id))) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.execute("INSERT INTO terms (terms) VALUES ('integrity-check')")
        assert db.execute("SELECT count(*) FROM turns").fetchone() == (turns,)
    return turns


# ------------------------------------------------------------ many writers


async def test_processes_that_append_to_one_conversation_lose_nothing(tmp_path: Path) -> None:
    writing = [("shared", f"p{i}", 40) for i in range(4)]
    with writers(tmp_path, *writing) as processes:
        acknowledged_by = [acknowledged(process) for process in processes]
    assert [len(each) for each in acknowledged_by] == [40] * 4
    everything = {turn_id: text for each in acknowledged_by for turn_id, text in each.items()}
    assert len(everything) == 160
    assert await verify(tmp_path, "shared", everything) == 160


async def test_processes_that_append_to_many_conversations_lose_nothing(tmp_path: Path) -> None:
    with writers(tmp_path, *((f"c{i % 3}", f"p{i}", 15) for i in range(4))) as processes:
        acknowledged_by = [acknowledged(process) for process in processes]
    for i in range(3):
        mine = {turn_id: text for each in acknowledged_by[i::3] for turn_id, text in each.items()}
        assert await verify(tmp_path, f"c{i}", mine) == len(mine) == (30 if i == 0 else 15)
    memory = open_memory(tmp_path)
    assert len((await memory.conversations()).conversations) == 3
    await memory.close()


async def test_tasks_of_two_stores_in_one_process_lose_nothing(tmp_path: Path) -> None:
    memories = [open_memory(tmp_path), open_memory(tmp_path)]
    stored: dict[str, str] = {}

    async def write(memory: Memory, author: str) -> None:
        for i in range(10):
            text = f"{author} {i}"
            stored[(await memory.append(NewTurn("user", text), conversation_id="c")).turn_id] = text

    async with anyio.create_task_group() as tasks:
        for i in range(8):
            tasks.start_soon(write, memories[i % 2], f"task {i}")
    for memory in memories:
        await memory.close()
    assert await verify(tmp_path, "c", stored) == len(stored) == 80


async def test_a_turn_that_another_process_stored_can_be_followed(tmp_path: Path) -> None:
    async with closing_all(open_memory(tmp_path), open_memory(tmp_path)) as (ours, theirs):
        await ours.append(NewTurn("user", "one"), conversation_id="c")
        second = await theirs.append(NewTurn("assistant", "two"), conversation_id="c")
        third = await ours.append(NewTurn("user", "three"), conversation_id="c", parent_id=second.turn_id)
        assert (third.parent_id, third.index, third.forked) == (second.turn_id, 2, False)
        fourth = await theirs.sync([NewTurn("assistant", "four")], conversation_id="c", after=third.turn_id)
        assert (fourth.appended, fourth.forked) == (1, False)
        with pytest.raises(UnknownTurn):
            await ours.append(NewTurn("user", "five"), conversation_id="c", parent_id="t9-123456789012")


async def test_a_retry_returns_what_another_process_has_stored_since(tmp_path: Path) -> None:
    async with closing_all(open_memory(tmp_path), open_memory(tmp_path)) as (ours, theirs):
        turns = [NewTurn("user", str(i)) for i in range(5)]
        ids = (await ours.sync(turns, conversation_id="c")).turn_ids
        await theirs.revert("c", ids[1])
        again = await ours.append(turns[4], conversation_id="c", parent_id=ids[3])
        assert again.turn_id == again.head == (await theirs.head("c")).id == ids[4]
        await theirs.set_retention("c", 5)
        assert (await ours.sync(turns, conversation_id="c", retention_days=30)).appended == 0
        assert (await theirs.info("c")).retention_days == 30
        await theirs.set_retention("c", 5)
        again = await ours.append(turns[4], conversation_id="c", parent_id=ids[3])
        assert again.expires_at == iso((await theirs.info("c")).expires)


async def test_a_commit_by_another_process_between_two_reads_is_in_both_or_in_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with closing_all(open_memory(tmp_path)) as (memory,):
        await memory.sync([NewTurn("user", f"limits {i}") for i in range(31)], conversation_id="c")
        first = (await memory.turn("c", "t0")).id
    store = SqliteStore(tmp_path)

    def fork_elsewhere() -> None:
        async def fork() -> None:
            async with closing_all(open_memory(tmp_path)) as (theirs,):
                await theirs.append(NewTurn("user", "limits elsewhere"), conversation_id="c", parent_id=first)

        asyncio.run(fork())

    def after_a_fork(read: Callable[..., T]) -> Callable[..., T]:
        def once(*args: object) -> T:
            monkeypatch.undo()
            with ThreadPoolExecutor() as threads:
                threads.submit(fork_elsewhere).result()
            return read(*args)

        return once

    monkeypatch.setattr(queries, "runs", after_a_fork(queries.runs))
    state = await store.load("c", time.time())
    assert state is not None
    assert [run.first_seq for run in state.runs] == [1]
    await store.close()


async def test_a_file_removed_while_others_have_it_open_is_unknown(tmp_path: Path) -> None:
    async with closing_all(open_memory(tmp_path), open_memory(tmp_path), open_memory(tmp_path)) as (ours, theirs, late):
        await ours.append(NewTurn("user", "one"), conversation_id="c")
        await ours.append(NewTurn("user", "one"), conversation_id="d")
        await late.info("d")
        await theirs.info("c")
        connect = Catalog.connect

        async def remove_then_connect(catalog: Catalog) -> Connection:
            (tmp_path / FOLDER / file_name("c")).unlink()
            return await connect(catalog)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Catalog, "connect", remove_then_connect)
            with pytest.raises(UnknownConversation):
                await late.info("c")


# ------------------------------------------------------------ killed


@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(100, 200), marks=pytest.mark.soak)])
async def test_a_process_killed_at_any_instant_loses_nothing_acknowledged(tmp_path: Path, seeds: range) -> None:
    stored: dict[str, str] = {}
    for seed in seeds:  # fixed, so that a failure can be repeated
        after = random.Random(seed).randrange(1, 25)
        with writers(tmp_path, ("c", f"k{seed}", 100_000)) as (process,):
            assert process.stdout is not None
            output = "".join(process.stdout.readline() for _ in range(after))
            time.sleep(random.Random(seed).random() * 0.004)  # noqa: ASYNC251 - a random instant
            process.kill()
            # communicate() would lose the lines that readline() has buffered already.
            output += process.stdout.read()
        before = len(stored)
        stored.update(turns_in(output))
        assert len(stored) >= before + after
    turns = await verify(tmp_path, "c", stored)
    assert len(stored) <= turns <= len(stored) + len(seeds), "at most the append in progress at each kill, and whole"


async def test_a_process_killed_while_it_creates_a_conversation_leaves_it_whole_or_absent(tmp_path: Path) -> None:
    for seed in range(4):
        with writers(tmp_path, (f"c{seed}", f"k{seed}", 100_000)) as (process,):
            time.sleep(random.Random(seed).random() * 0.02)  # noqa: ASYNC251 - a random instant
            process.kill()
            output = turns_in(process.communicate()[0])
        memory = open_memory(tmp_path)
        listed = [info.conversation_id for info in (await memory.conversations()).conversations]
        assert f"c{seed}" in listed or not output
        await memory.append(NewTurn("user", "continues"), conversation_id=f"c{seed}")
        await memory.sweep()
        await memory.close()
        assert await verify(tmp_path, f"c{seed}", output) >= len(output) + 1
    assert not list((tmp_path / FOLDER).glob("*.new*"))


# ------------------------------------------------------------ full


async def test_a_full_disk_is_reported_and_nothing_is_stored_by_half(tmp_path: Path) -> None:
    with writers(tmp_path, ("c", "f", 400, 300_000)) as (process,):
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    refused = out.splitlines().count("full")
    stored = turns_in(out)
    assert refused > 0
    assert len(stored) > 10
    assert len(stored) + refused == 400
    assert await verify(tmp_path, "c", stored) == len(stored)
    memory = open_memory(tmp_path)
    assert (await memory.append(NewTurn("user", "there is room again"), conversation_id="c")).index == len(stored)
    await memory.close()


async def test_a_disk_full_from_the_start_is_reported_and_recovers(tmp_path: Path) -> None:
    with writers(tmp_path, ("c", "f", 3, 20_000)) as (process,):
        assert process.communicate(timeout=60)[0].splitlines() == ["full"] * 3
    memory = open_memory(tmp_path)
    assert (await memory.conversations()).conversations == []
    assert (await memory.append(NewTurn("user", "room"), conversation_id="c")).index == 0
    await memory.close()


async def test_a_file_that_may_not_grow_refuses_until_it_may(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    memory = memory_over(store, lambda: NOW)
    first = sample_turns(12)
    await memory.sync(first, conversation_id="c")

    async def limit_pages(limit: int) -> None:
        async with store._files.use("c") as file:
            await file.connection.run(lambda db: db.execute(f"PRAGMA max_page_count = {limit}").fetchone())

    await limit_pages(1)
    before = await store.load("c", NOW)
    with pytest.raises(StoreUnavailable, match="full"):
        await memory.sync([*first, *sample_turns(60, "too much")], conversation_id="c")
    assert await store.load("c", NOW) == before
    assert await memory.verify("c") == []
    await limit_pages(10**6)
    assert (await memory.sync([*first, *sample_turns(60, "too much")], conversation_id="c")).appended == 60
    assert await memory.verify("c") == []
    await memory.close()


# ------------------------------------------------------------ cancelled


class CancelAtCrossing:
    """Counts the crossings to a connection's thread and cancels a scope at one: just before it or while it runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.cancel_at, self.scope = 0, -1, anyio.CancelScope()
        self.before = False
        run = Connection.run

        async def count_and_run(connection: Connection, work: Callable[[sqlite3.Connection], T]) -> T:
            at, self.count = self.count, self.count + 1
            if at == self.cancel_at:
                self.scope.cancel()
                if self.before:
                    await anyio.lowlevel.checkpoint()
            return await run(connection, work)

        monkeypatch.setattr(Connection, "run", count_and_run)

    def aim(self, at: int, before: bool) -> anyio.CancelScope:
        self.count, self.cancel_at, self.before, self.scope = 0, at, before, anyio.CancelScope()
        return self.scope


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("exists", [False, True])
async def test_an_append_cancelled_at_any_await_is_stored_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool, before: bool
) -> None:
    crossings = CancelAtCrossing(monkeypatch)
    for at in range(20):
        data = tmp_path / str(at)
        store = SqliteStore(data)
        memory = memory_over(store, lambda: NOW)
        if exists:
            await memory.sync(sample_turns(8), conversation_id="c")
            await memory.close()
            memory = memory_over(store, lambda: NOW)
        with crossings.aim(at, before):
            await memory.append(NewTurn("user", "perhaps"), conversation_id="c")
        cancelled = crossings.scope.cancelled_caught
        crossings.cancel_at = -1
        done = await memory.append(NewTurn("user", "surely"), conversation_id="c")
        turns = (await memory.info("c")).turns
        expected = 8 * exists + 1
        assert turns in ((expected, expected + 1) if cancelled else (expected + 1,))
        assert done.index == turns - 1
        assert await memory.verify("c") == []
        await memory.close()
        if not cancelled:
            assert at > 1
            return
    raise AssertionError("an append crosses to the threads more often than expected")


async def test_appends_cancelled_at_random_leave_a_sound_conversation(tmp_path: Path) -> None:
    memory = open_memory(tmp_path)
    stored: dict[str, str] = {}
    random_moments = random.Random(5)

    async def write(i: int) -> None:
        with anyio.move_on_after(random_moments.random() * 0.01):
            done = await memory.append(NewTurn("user", f"turn {i}"), conversation_id=f"c{i % 3}")
            stored[done.turn_id] = f"turn {i}"

    for start in range(0, 90, 9):
        async with anyio.create_task_group() as tasks:
            for i in range(start, start + 9):
                tasks.start_soon(write, i)
    await memory.close()
    for c in range(3):
        mine = {turn_id: text for turn_id, text in stored.items() if int(text.split()[1]) % 3 == c}
        memory = open_memory(tmp_path)
        await memory.append(NewTurn("user", "after"), conversation_id=f"c{c}")
        await memory.close()
        await verify(tmp_path, f"c{c}", mine)


async def test_operations_cancelled_by_asyncio_leave_nothing_open(tmp_path: Path) -> None:
    """asyncio's own cancellation passes through a shielded scope."""
    random_moments = random.Random(1)
    async with closing_all(open_memory(tmp_path)) as (memory,):
        for i in range(FILES_OPEN_MAX + 4):
            await memory.append(NewTurn("user", "x"), conversation_id=f"c{i}")
        for i in range(200):
            with suppress(TimeoutError):
                async with asyncio.timeout(random_moments.random() * 0.003):
                    await memory.info(f"c{i % (FILES_OPEN_MAX + 4)}")
            if i % 40 == 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(random_moments.random() * 0.003):
                        await memory.close()
    assert file_open._open_counts == {}


@pytest.mark.parametrize("operation", ["forget", "sweep"])
async def test_a_cancelled_removal_also_removes_the_records_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    crossings = CancelAtCrossing(monkeypatch)
    for at in range(8):
        now, forgotten, store = NOW, list[str](), SqliteStore(tmp_path)
        memory = Memory(
            store,
            ExtractiveSummarizer(),
            clock=lambda: now,  # noqa: B023
            expiry_watch=ExpiryWatch(partial(next, count(step=CONFIRM_SECONDS))),
            on_forgotten=forgotten.extend,
        )
        await memory.append(NewTurn("user", "x"), conversation_id="c")
        if operation == "sweep":
            now += 31 * DAY
            assert await memory.sweep() == [], "the first of two readings"
        with crossings.aim(at, False):
            await (memory.forget("c", "c") if operation == "forget" else memory.sweep())
        crossings.cancel_at = -1
        assert forgotten == ([] if (tmp_path / FOLDER / file_name("c")).exists() else ["c"])
        await memory.close()


@pytest.mark.parametrize("operation", ["forget", "sweep"])
async def test_a_removal_cancelled_by_asyncio_also_removes_the_records_beside_the_file(
    tmp_path: Path, operation: str
) -> None:
    random_moments = random.Random(3)
    for i in range(60):
        now, forgotten, store = NOW, list[str](), SqliteStore(tmp_path)
        memory = Memory(
            store,
            ExtractiveSummarizer(),
            clock=lambda: now,  # noqa: B023
            expiry_watch=ExpiryWatch(partial(next, count(step=CONFIRM_SECONDS))),
            on_forgotten=forgotten.extend,
        )
        await memory.append(NewTurn("user", "x"), conversation_id=f"c{i}")
        if operation == "sweep":
            now += 31 * DAY
            assert await memory.sweep() == [], "the first of two readings"
        with suppress(TimeoutError):
            async with asyncio.timeout(random_moments.random() * 0.012):
                await (memory.forget(f"c{i}", f"c{i}") if operation == "forget" else memory.sweep())
        assert (f"c{i}" in forgotten) != (tmp_path / FOLDER / file_name(f"c{i}")).exists()
        await memory.close()


async def test_forgetting_what_a_killed_process_forgot_also_removes_the_records_beside_the_file(tmp_path: Path) -> None:
    forgotten: list[str] = []
    memory = Memory(SqliteStore(tmp_path), ExtractiveSummarizer(), on_forgotten=forgotten.extend)
    with pytest.raises(UnknownConversation):
        await memory.forget("c", "c")
    assert forgotten == ["c"]
    await memory.close()
