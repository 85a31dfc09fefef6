"""The contract of a record store, in files and in PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from ctxmem_mcp import sent_requests
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import StoreUnavailable
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.record_files import EXPIRES, SESSIONS, SPACES, RecordFiles
from ctxmem_mcp.record_stores import RecordStore, file_orders, open_record_store
from ctxmem_mcp.record_stores import postgres as postgres_records
from ctxmem_mcp.record_stores.files import FileRecordStore
from ctxmem_mcp.record_stores.postgres import PostgresRecordStore
from ctxmem_mcp.sent_requests import NO_VIEW, SentRequest, SentView
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.usage_ledger import FORGOTTEN, LedgerEntry
from tests.postgres_server import new_principal, started_server

pytestmark = pytest.mark.anyio

Open = Callable[[], RecordStore]
ONE, TWO = "session_0123456789abcdef", "session_fedcba9876543210"
SPACE = "space_0123456789abcdef"
WHOLE = SentRequest("c", 1.0, "t0-1", "t2-3", NO_VIEW, 30, 10, 0, 20)
COMPACTED = SentRequest("c", 2.0, "t9-1", "t9-2", SentView("t8-1", "t8-2", 4_000, b"\0digest"), 99, 10, 50, 9, 70, 64)

ACTIVITY = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory_lock(%ctxmem redaction%'"


@pytest.fixture(params=["files", "postgres"])
async def open_records(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the same records again and again, as several processes do."""
    principal = new_principal()
    async with AsyncExitStack() as stack:

        def open_one() -> RecordStore:
            store: RecordStore
            if request.param == "files":
                store = FileRecordStore(tmp_path / "data")
            else:
                store = PostgresRecordStore(started_server().url, principal, 4)
            stack.push_async_callback(store.close)
            return store

        yield open_one


async def test_an_empty_store_has_nothing(open_records: Open, tmp_path: Path) -> None:
    records = open_records()
    assert await records.get(SESSIONS, ONE) is None
    assert await records.all(SPACES) == []
    assert not await records.remove(SESSIONS, ONE)
    assert await records.expired_sessions(9e9) == {}
    assert (list(await records.usage()), list(await records.sent("c"))) == ([], [])
    await records.forget(["c", ONE])
    assert list(await records.redactions.all()) == []
    assert os.listdir(tmp_path) == []


async def test_a_removed_record_is_not_written_back(open_records: Open) -> None:
    records, other = open_records(), open_records()
    assert not await records.replace(SESSIONS, ONE, {"space_id": "a"})
    await records.put(SESSIONS, ONE, {"space_id": "a", EXPIRES: 10.0})
    assert await other.replace(SESSIONS, ONE, {"space_id": None, EXPIRES: 20.0})
    assert await records.get(SESSIONS, ONE) == {"space_id": None, EXPIRES: 20.0}
    assert await records.expired_sessions(15.0) == {}
    await records.remove(SESSIONS, ONE)
    assert not await other.replace(SESSIONS, ONE, {"space_id": "b"})
    assert await records.all(SESSIONS) == []


def test_a_record_that_is_removed_between_the_check_and_the_write_is_not_written_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`remove` runs in another thread, and waits for a `replace` that has found the record."""
    records = RecordFiles(tmp_path, SESSIONS)
    records.put(ONE, {})
    remover = Thread(target=records.remove, args=[ONE])
    rename = Path.replace

    def rename_late(path: Path, target: Path) -> Path:
        remover.start()
        remover.join(0.2)  # as long as it waits, the record is there
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", rename_late)
    assert records.replace(ONE, {"name": "new"})
    remover.join(60)
    assert records.all() == []


async def test_a_record_is_replaced_and_removed(open_records: Open) -> None:
    records, other = open_records(), open_records()
    record = {"name": "a\0b\ud800ü", "space_id": None, "created": 1.5, EXPIRES: 10.0}
    await records.put(SESSIONS, ONE, record)
    assert await other.get(SESSIONS, ONE) == record
    await records.put(SESSIONS, ONE, {**record, "name": "x"})
    await records.put(SPACES, SPACE, {"default": True})
    assert await other.all(SESSIONS) == [(ONE, {**record, "name": "x"})]
    assert await other.all(SPACES) == [(SPACE, {"default": True})]
    assert await other.get(SPACES, ONE) is None
    for hostile in ("../../x", "a\0b", "", "session_", "\ud800"):
        assert await records.get(SESSIONS, hostile) is None
        assert not await records.remove(SESSIONS, hostile)
    assert await records.remove(SESSIONS, ONE)
    assert not await other.remove(SESSIONS, ONE)
    assert await other.all(SESSIONS) == []


async def test_sessions_expire_by_their_time(open_records: Open) -> None:
    records = open_records()
    await records.put(SESSIONS, ONE, {EXPIRES: 10.0})
    await records.put(SESSIONS, TWO, {EXPIRES: 20.0})
    assert await records.expired_sessions(9.0) == {}
    assert await records.expired_sessions(10.0) == {ONE: 10.0}
    assert await records.expired_sessions(30.0) == {ONE: 10.0, TWO: 20.0}


async def test_usage_is_added_up_by_conversation_and_day(open_records: Open) -> None:
    records, other = open_records(), open_records()
    entry = LedgerEntry(7, "c1", 1, 10, 2, 5, 90)
    await asyncio.gather(*(store.add_usage(entry) for store in (records, other) for _ in range(10)))
    await records.add_usage(replace(entry, day=8))
    await records.add_usage(replace(entry, conversation_id="c0"))
    assert await other.usage() == [
        replace(entry, conversation_id="c0"), LedgerEntry(7, "c1", 20, 200, 40, 100, 1_800), replace(entry, day=8),
    ]  # fmt: skip
    assert [one.day for one in await other.usage("c1")] == [7, 8]


async def test_usage_moves_to_another_conversation(open_records: Open) -> None:
    records = open_records()
    entry = LedgerEntry(7, "c1", 1, 10, 2, 5, 90)
    for name in ("c0", "c1", "c2"):
        await records.add_usage(replace(entry, conversation_id=name))
    await records.move_usage("c1", "c2")
    await records.move_usage("c1", "c2")
    await records.move_usage("unknown", "c2")
    assert await records.usage() == [
        replace(entry, conversation_id="c0"), LedgerEntry(7, "c2", 2, 20, 4, 10, 180)
    ]  # fmt: skip


async def test_sent_requests_are_read_as_they_were_recorded(open_records: Open) -> None:
    records = open_records()
    for sent in (WHOLE, COMPACTED, replace(WHOLE, conversation_id="d")):
        await records.add_sent(sent)
    assert list(await open_records().sent("c")) == [WHOLE, COMPACTED]


async def test_the_newest_requests_of_a_conversation_are_kept(
    open_records: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sent_requests, postgres_records):
        monkeypatch.setattr(module, "REQUESTS_MAX", 3)
    records = open_records()
    for at in range(5):
        await records.add_sent(replace(WHOLE, at=float(at)))
        await records.add_sent(replace(WHOLE, at=float(at), conversation_id="other"))
    assert [one.at for one in await records.sent("c")] == [2.0, 3.0, 4.0]
    assert len(await records.sent("other")) == 3


async def test_a_forgotten_conversation_leaves_only_its_cost(open_records: Open) -> None:
    records = open_records()
    for name in (ONE, "gone", "stays"):
        await records.add_usage(LedgerEntry(7, name, 1, 10, 2, 5, 90))
        await records.add_sent(replace(WHOLE, conversation_id=name))
    for name in (ONE, TWO):
        await records.put(SESSIONS, name, {})
    await records.forget([ONE, "gone"])
    assert await records.usage() == [
        LedgerEntry(7, FORGOTTEN, 2, 20, 4, 10, 180),
        LedgerEntry(7, "stays", 1, 10, 2, 5, 90),
    ]
    assert [len(await records.sent(name)) for name in (ONE, "gone", "stays")] == [0, 0, 1]
    assert [name for name, _ in await records.all(SESSIONS)] == [TWO]


async def test_usage_that_is_added_while_its_conversation_is_forgotten_is_not_lost(open_records: Open) -> None:
    records, other, entry = open_records(), open_records(), LedgerEntry(7, "c", 1, 10, 2, 5, 90)

    async def forget() -> None:
        for _ in range(60):
            await other.forget(["c"])

    async def add() -> None:
        for _ in range(30):
            await records.add_usage(entry)

    await asyncio.gather(forget(), *(add() for _ in range(3)))
    await other.forget(["c"])
    assert await records.usage() == [LedgerEntry(7, FORGOTTEN, 90, 900, 180, 450, 8_100)]


@pytest.mark.parametrize("is_database", [False, True], ids=["files", "postgres"])
async def test_a_forgotten_branch_takes_the_requests_with_it_though_the_head_is_on_another(
    is_database: bool, tmp_path: Path
) -> None:
    url = started_server().url if is_database else None
    settings, principal = Settings(tmp_path / "data", store_url=url), new_principal()
    records = open_record_store(settings, principal)
    async with open_memory(settings, principal=principal, background=False) as memory:
        first = await memory.append(NewTurn("user", "shared"), conversation_id="c")
        old = await memory.append(NewTurn("user", "old"), conversation_id="c", parent_id=first.turn_id)
        await memory.append(NewTurn("user", "new"), conversation_id="c", parent_id=first.turn_id)
        await records.add_usage(LedgerEntry(7, "c", 1, 10, 2, 5, 90))
        for sent in (WHOLE, replace(WHOLE, conversation_id="d")):
            await records.add_sent(sent)
        await memory.forget("c", "c", turn_id=old.turn_id)
        assert (await memory.head("c")).content == "new"
    assert [len(await records.sent(name)) for name in ("c", "d")] == [0, 1]
    assert len(await records.usage("c")) == 1
    await records.close()


async def test_adopting_twice_changes_nothing_and_replaces_nothing(open_records: Open) -> None:
    records = open_records()
    await records.put(SESSIONS, ONE, {"name": "here"})
    await records.add_sent(replace(WHOLE, conversation_id="d"))
    usage = [LedgerEntry(7, "c", 1, 10, 2, 5, 90), LedgerEntry(7, FORGOTTEN, 3, 3, 3, 3, 3)]
    there: dict[str, dict[str, dict[str, object]]] = {
        SESSIONS: {ONE: {"name": "there"}, TWO: {"name": "new"}},
        SPACES: {SPACE: {"default": False}},
    }
    for _ in range(2):
        await records.adopt(usage, [WHOLE, COMPACTED, replace(COMPACTED, conversation_id="d")], there)
    assert sorted(await records.all(SESSIONS)) == [(ONE, {"name": "here"}), (TWO, {"name": "new"})]
    assert await records.all(SPACES) == [(SPACE, {"default": False})]
    assert list(await records.sent("c")) == [WHOLE, COMPACTED]
    assert list(await records.sent("d")) == [replace(WHOLE, conversation_id="d")]
    assert sorted(await records.usage(), key=lambda one: one.conversation_id) == usage[::-1]


async def test_a_redaction_is_recorded_until_it_is_finished(open_records: Open) -> None:
    orders, other = open_records().redactions, open_records().redactions
    async with orders.lock(1) as is_alone:
        assert is_alone
        async with other.lock(0) as is_second:
            assert not is_second
        order = await orders.add("2026-01-01", {"c": {b"\1\2", b"\3"}, "d": {b"\4"}})
    assert list(await other.all()) == [order]
    async with other.lock(0) as is_alone:
        assert is_alone
    await other.remove(order)
    assert list(await orders.all()) == []


async def test_a_redaction_that_cannot_be_read_stops_no_other(
    open_records: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    orders, damaged = open_records().redactions, []
    for raw in (b"{", b"\xff", b"[]", b"{}", b'{"day": "2026-01-01", "turns": {"c": ["x"]}}'):
        with monkeypatch.context() as patch:
            for module in (file_orders, postgres_records):
                patch.setattr(module, "encode_turns", lambda *_, raw=raw: raw)
            damaged.append((await orders.add("2026-01-01", {})).id)
    order = await orders.add("2026-01-01", {"c": {b"\1"}})
    assert list(await orders.all()) == [order]
    assert all(f"{one}" in caplog.text for one in damaged)


async def test_a_connection_that_is_lost_while_it_waits_for_the_lock_is_reported() -> None:
    server, principal = started_server(), new_principal()
    one, two = (PostgresRecordStore(server.url, principal, 2) for _ in range(2))

    def pids() -> set[object]:
        with server.connect() as connection:
            return {pid for (pid,) in connection.execute(ACTIVITY)}

    async with one.redactions.lock(1):
        others = pids()
        assert others

        async def wait() -> None:
            async with two.redactions.lock(600):
                pass

        task = asyncio.create_task(wait())
        new: set[object] = set()
        while not new:
            await asyncio.sleep(0.01)
            new = pids() - others
        with server.connect() as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", [*new])
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(task, 60)


async def test_principals_in_one_database_have_records_of_their_own() -> None:
    one, two = (PostgresRecordStore(started_server().url, new_principal(), 2) for _ in range(2))
    await one.put(SESSIONS, ONE, {})
    await one.add_usage(LedgerEntry(7, "c", 1, 10, 2, 5, 90))
    await one.add_sent(WHOLE)
    await one.redactions.add("2026-01-01", {})
    assert await two.all(SESSIONS) == []
    assert (list(await two.usage()), list(await two.sent("c")), list(await two.redactions.all())) == ([], [], [])
    await two.forget(["c"])
    assert len(await one.sent("c")) == 1
    for store in (one, two):
        await store.close()
