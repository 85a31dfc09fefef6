"""Law 2: what was acknowledged is kept and nothing is kept by half, whatever happens to the processes or the disk."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from ctxmem_mcp.errors import StoreUnavailable, UnknownConversation, UnknownTurn
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, iso
from ctxmem_mcp.stores.sqlite import SqliteStore, file_open, queries
from ctxmem_mcp.stores.sqlite.catalog import FOLDER, Catalog, file_name
from ctxmem_mcp.stores.sqlite.connection import Connection
from ctxmem_mcp.stores.sqlite.store import FILES_OPEN_MAX
from ctxmem_mcp.stores.testing.builders import DAY, NOW
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.stores.samples import memory_over, sample_turns
from tests.stores.writer_process import acknowledged, turns_in, writers

pytestmark = pytest.mark.anyio
T = TypeVar("T")


def opened(data: Path) -> Memory:
    return memory_over(SqliteStore(data), time.time)


@asynccontextmanager
async def closing_all(*memories: Memory) -> AsyncIterator[tuple[Memory, ...]]:
    """Closes them though the test fails: an open one keeps its process from ending."""
    try:
        yield memories
    finally:
        for memory in memories:
            await memory.close()


async def kept(data: Path, conversation_id: str, acknowledged: dict[str, str]) -> int:
    """Checks that all of it is there, byte for byte, and the whole is sound; gives the number of turns."""
    memory = opened(data)
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
    told = [("shared", f"p{i}", 40) for i in range(4)]
    with writers(tmp_path, *told) as processes:
        said = [acknowledged(process) for process in processes]
    assert [len(each) for each in said] == [40] * 4
    everything = {turn_id: text for each in said for turn_id, text in each.items()}
    assert len(everything) == 160
    assert await kept(tmp_path, "shared", everything) == 160


async def test_processes_that_append_to_many_conversations_lose_nothing(tmp_path: Path) -> None:
    with writers(tmp_path, *((f"c{i % 3}", f"p{i}", 15) for i in range(4))) as processes:
        said = [acknowledged(process) for process in processes]
    for i in range(3):
        mine = {turn_id: text for each in said[i::3] for turn_id, text in each.items()}
        assert await kept(tmp_path, f"c{i}", mine) == len(mine) == (30 if i == 0 else 15)
    memory = opened(tmp_path)
    assert len((await memory.conversations()).conversations) == 3
    await memory.close()


async def test_tasks_of_two_stores_in_one_process_lose_nothing(tmp_path: Path) -> None:
    memories = [opened(tmp_path), opened(tmp_path)]
    said: dict[str, str] = {}

    async def write(memory: Memory, who: str) -> None:
        for i in range(10):
            said[(await memory.append(NewTurn("user", f"{who} {i}"), conversation_id="c")).turn_id] = f"{who} {i}"

    async with anyio.create_task_group() as tasks:
        for i in range(8):
            tasks.start_soon(write, memories[i % 2], f"task {i}")
    for memory in memories:
        await memory.close()
    assert await kept(tmp_path, "c", said) == len(said) == 80


async def test_a_turn_that_another_process_stored_can_be_followed(tmp_path: Path) -> None:
    async with closing_all(opened(tmp_path), opened(tmp_path)) as (ours, theirs):
        await ours.append(NewTurn("user", "one"), conversation_id="c")
        second = await theirs.append(NewTurn("assistant", "two"), conversation_id="c")
        third = await ours.append(NewTurn("user", "three"), conversation_id="c", parent_id=second.turn_id)
        assert (third.parent_id, third.index, third.forked) == (second.turn_id, 2, False)
        fourth = await theirs.sync([NewTurn("assistant", "four")], conversation_id="c", after=third.turn_id)
        assert (fourth.appended, fourth.forked) == (1, False)
        with pytest.raises(UnknownTurn):
            await ours.append(NewTurn("user", "five"), conversation_id="c", parent_id="t9-123456789012")


async def test_a_retry_is_answered_from_what_another_process_made_of_it(tmp_path: Path) -> None:
    async with closing_all(opened(tmp_path), opened(tmp_path)) as (ours, theirs):
        said = [NewTurn("user", str(i)) for i in range(5)]
        ids = (await ours.sync(said, conversation_id="c")).turn_ids
        await theirs.revert("c", ids[1])
        again = await ours.append(said[4], conversation_id="c", parent_id=ids[3])
        assert again.turn_id == again.head == (await theirs.head("c")).id == ids[4]
        await theirs.set_retention("c", 5)
        assert (await ours.sync(said, conversation_id="c", retention_days=30)).appended == 0
        assert (await theirs.info("c")).retention_days == 30
        await theirs.set_retention("c", 5)
        again = await ours.append(said[4], conversation_id="c", parent_id=ids[3])
        assert again.expires_at == iso((await theirs.info("c")).expires)


async def test_what_another_process_stores_between_two_reads_is_in_both_or_in_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with closing_all(opened(tmp_path)) as (memory,):
        await memory.sync([NewTurn("user", f"limits {i}") for i in range(31)], conversation_id="c")
        first = (await memory.turn("c", "t0")).id
    store = SqliteStore(tmp_path)

    def beside() -> None:
        async def fork() -> None:
            async with closing_all(opened(tmp_path)) as (theirs,):
                await theirs.append(NewTurn("user", "limits elsewhere"), conversation_id="c", parent_id=first)

        asyncio.run(fork())

    def then_meanwhile(read: Callable[..., T]) -> Callable[..., T]:
        def once(*given: object) -> T:
            monkeypatch.undo()
            with ThreadPoolExecutor() as threads:
                threads.submit(beside).result()
            return read(*given)

        return once

    monkeypatch.setattr(queries, "runs", then_meanwhile(queries.runs))
    state = await store.load("c", time.time())
    assert state is not None
    assert [run.first_seq for run in state.runs] == [1]
    await store.close()


async def test_a_file_that_was_removed_while_others_have_it_open_is_not_there(tmp_path: Path) -> None:
    async with closing_all(opened(tmp_path), opened(tmp_path), opened(tmp_path)) as (ours, theirs, late):
        await ours.append(NewTurn("user", "one"), conversation_id="c")
        await ours.append(NewTurn("user", "one"), conversation_id="d")
        await late.info("d")
        await theirs.info("c")
        connect = Catalog.connect

        async def removed_meanwhile(catalog: Catalog) -> Connection:
            (tmp_path / FOLDER / file_name("c")).unlink()
            return await connect(catalog)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Catalog, "connect", removed_meanwhile)
            with pytest.raises(UnknownConversation):
                await late.info("c")


# ------------------------------------------------------------ killed


@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(100, 200), marks=pytest.mark.soak)])
async def test_a_process_killed_at_any_instant_loses_nothing_acknowledged(tmp_path: Path, seeds: range) -> None:
    said: dict[str, str] = {}
    for seed in seeds:  # fixed, so that what was found once is found again
        after = random.Random(seed).randrange(1, 25)
        with writers(tmp_path, ("c", f"k{seed}", 100_000)) as (process,):
            assert process.stdout is not None
            output = "".join(process.stdout.readline() for _ in range(after))
            time.sleep(random.Random(seed).random() * 0.004)  # noqa: ASYNC251 - the instant is the point of it
            process.kill()
            # communicate() would lose the lines that readline() has buffered already.
            output += process.stdout.read()
        before = len(said)
        said.update(turns_in(output))
        assert len(said) >= before + after
    turns = await kept(tmp_path, "c", said)
    assert len(said) <= turns <= len(said) + len(seeds), "at most the one under way each time, and that whole"


async def test_a_process_killed_while_it_begins_a_conversation_leaves_it_whole_or_not_there(tmp_path: Path) -> None:
    for seed in range(4):
        with writers(tmp_path, (f"c{seed}", f"k{seed}", 100_000)) as (process,):
            time.sleep(random.Random(seed).random() * 0.02)  # noqa: ASYNC251 - the instant is the point of it
            process.kill()
            heard = turns_in(process.communicate()[0])
        memory = opened(tmp_path)
        listed = [info.conversation_id for info in (await memory.conversations()).conversations]
        assert f"c{seed}" in listed or not heard
        await memory.append(NewTurn("user", "goes on"), conversation_id=f"c{seed}")
        await memory.sweep()
        await memory.close()
        assert await kept(tmp_path, f"c{seed}", heard) >= len(heard) + 1
    assert not list((tmp_path / FOLDER).glob("*.new*"))


# ------------------------------------------------------------ full


async def test_a_full_disk_is_told_and_nothing_is_kept_by_half(tmp_path: Path) -> None:
    with writers(tmp_path, ("c", "f", 400, 300_000)) as (process,):
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    refused = out.splitlines().count("full")
    said = turns_in(out)
    assert refused > 0
    assert len(said) > 10
    assert len(said) + refused == 400
    assert await kept(tmp_path, "c", said) == len(said)
    memory = opened(tmp_path)
    assert (await memory.append(NewTurn("user", "there is room again"), conversation_id="c")).index == len(said)
    await memory.close()


async def test_a_disk_full_from_the_start_is_told_and_mends(tmp_path: Path) -> None:
    with writers(tmp_path, ("c", "f", 3, 20_000)) as (process,):
        assert process.communicate(timeout=60)[0].splitlines() == ["full"] * 3
    memory = opened(tmp_path)
    assert (await memory.conversations()).conversations == []
    assert (await memory.append(NewTurn("user", "room"), conversation_id="c")).index == 0
    await memory.close()


async def test_a_file_that_may_not_grow_refuses_and_goes_on_after(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    memory = memory_over(store, lambda: NOW)
    first = sample_turns(12)
    await memory.sync(first, conversation_id="c")

    async def pages(limit: int) -> None:
        async with store._use("c") as file:
            await file.connection.run(lambda db: db.execute(f"PRAGMA max_page_count = {limit}").fetchone())

    await pages(1)
    before = await store.load("c", NOW)
    with pytest.raises(StoreUnavailable, match="full"):
        await memory.sync([*first, *sample_turns(60, "too much")], conversation_id="c")
    assert await store.load("c", NOW) == before
    assert await memory.verify("c") == []
    await pages(10**6)
    assert (await memory.sync([*first, *sample_turns(60, "too much")], conversation_id="c")).appended == 60
    assert await memory.verify("c") == []
    await memory.close()


# ------------------------------------------------------------ cancelled


class Counted:
    """Counts the crossings to a connection's thread, and cancels a scope at one: just before it or while it runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.crossings, self.cancel_at, self.scope = 0, -1, anyio.CancelScope()
        self.before = False
        run = Connection.run

        async def counted(connection: Connection, work: Callable[[sqlite3.Connection], T]) -> T:
            at, self.crossings = self.crossings, self.crossings + 1
            if at == self.cancel_at:
                self.scope.cancel()
                if self.before:
                    await anyio.lowlevel.checkpoint()
            return await run(connection, work)

        monkeypatch.setattr(Connection, "run", counted)

    def aim(self, at: int, before: bool) -> anyio.CancelScope:
        self.crossings, self.cancel_at, self.before, self.scope = 0, at, before, anyio.CancelScope()
        return self.scope


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("begun", [False, True])
async def test_an_append_cancelled_at_any_await_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool, before: bool
) -> None:
    counted = Counted(monkeypatch)
    for at in range(20):
        data = tmp_path / str(at)
        store = SqliteStore(data)
        memory = memory_over(store, lambda: NOW)
        if begun:
            await memory.sync(sample_turns(8), conversation_id="c")
            await memory.close()
            memory = memory_over(store, lambda: NOW)
        with counted.aim(at, before):
            await memory.append(NewTurn("user", "perhaps"), conversation_id="c")
        cancelled = counted.scope.cancelled_caught
        counted.cancel_at = -1
        done = await memory.append(NewTurn("user", "surely"), conversation_id="c")
        turns = (await memory.info("c")).turns
        expected = 8 * begun + 1
        assert turns in ((expected, expected + 1) if cancelled else (expected + 1,))
        assert done.index == turns - 1
        assert await memory.verify("c") == []
        await memory.close()
        if not cancelled:
            assert at > 1
            return
    raise AssertionError("an append crosses to the threads more often than expected")


async def test_appends_cancelled_all_over_leave_a_sound_conversation(tmp_path: Path) -> None:
    memory = opened(tmp_path)
    said: dict[str, str] = {}
    randomly = random.Random(5)

    async def write(i: int) -> None:
        with anyio.move_on_after(randomly.random() * 0.01):
            done = await memory.append(NewTurn("user", f"turn {i}"), conversation_id=f"c{i % 3}")
            said[done.turn_id] = f"turn {i}"

    for start in range(0, 90, 9):
        async with anyio.create_task_group() as tasks:
            for i in range(start, start + 9):
                tasks.start_soon(write, i)
    await memory.close()
    for c in range(3):
        mine = {turn_id: text for turn_id, text in said.items() if int(text.split()[1]) % 3 == c}
        memory = opened(tmp_path)
        await memory.append(NewTurn("user", "after"), conversation_id=f"c{c}")
        await memory.close()
        await kept(tmp_path, f"c{c}", mine)


async def test_verbs_cancelled_by_asyncio_leave_nothing_open(tmp_path: Path) -> None:
    """asyncio's own cancellation passes through a shielded scope."""
    random_moments = random.Random(1)
    async with closing_all(opened(tmp_path)) as (memory,):
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


@pytest.mark.parametrize("verb", ["forget", "sweep"])
async def test_a_forgetting_that_was_cancelled_takes_along_what_lies_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    counted = Counted(monkeypatch)
    for at in range(8):
        now, gone, store = NOW, list[str](), SqliteStore(tmp_path)
        memory = Memory(store, ExtractiveSummarizer(), clock=lambda: now, on_forgotten=gone.extend)  # noqa: B023
        await memory.append(NewTurn("user", "x"), conversation_id="c")
        now += 31 * DAY if verb == "sweep" else 0
        with counted.aim(at, False):
            await (memory.forget("c", "c") if verb == "forget" else memory.sweep())
        counted.cancel_at = -1
        assert gone == ([] if (tmp_path / FOLDER / file_name("c")).exists() else ["c"])
        await memory.close()


@pytest.mark.parametrize("verb", ["forget", "sweep"])
async def test_a_forgetting_that_asyncio_cancelled_takes_along_what_lies_beside(tmp_path: Path, verb: str) -> None:
    random_moments = random.Random(3)
    for i in range(60):
        now, gone, store = NOW, list[str](), SqliteStore(tmp_path)
        memory = Memory(store, ExtractiveSummarizer(), clock=lambda: now, on_forgotten=gone.extend)  # noqa: B023
        await memory.append(NewTurn("user", "x"), conversation_id=f"c{i}")
        now += 31 * DAY if verb == "sweep" else 0
        with suppress(TimeoutError):
            async with asyncio.timeout(random_moments.random() * 0.012):
                await (memory.forget(f"c{i}", f"c{i}") if verb == "forget" else memory.sweep())
        assert (f"c{i}" in gone) != (tmp_path / FOLDER / file_name(f"c{i}")).exists()
        await memory.close()


async def test_forgetting_what_a_killed_process_forgot_takes_along_what_lies_beside(tmp_path: Path) -> None:
    gone: list[str] = []
    memory = Memory(SqliteStore(tmp_path), ExtractiveSummarizer(), on_forgotten=gone.extend)
    with pytest.raises(UnknownConversation):
        await memory.forget("c", "c")
    assert gone == ["c"]
    await memory.close()
