"""No clock moves an expiry earlier, and no single reading of a clock deletes anything."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.expiry import CONFIRM_SECONDS, ExpiryWatch
from ctxmem_mcp.models import NewTurn, iso
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.postgres import PostgresStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing.builders import DAY, NOW
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.postgres_server import new_principal, started_server

MEMORIES = st.integers(0, 2)
NAMES = st.sampled_from(["a", "b"])
# How far a clock jumps, in seconds.
JUMPS = st.sampled_from([-400 * DAY, -40 * DAY, -3_600, -1, 1, 3_600, 2 * DAY, 31 * DAY, 400 * DAY])
FOREVER = float("-inf")


class Clocks:
    """The clocks of one process."""

    def __init__(self) -> None:
        self.now, self.ticks = NOW, 0.0
        # The readings of sweeps: (ticks, now).
        self.readings: list[tuple[float, float]] = []

    def open(self, store: Store) -> Memory:
        return Memory(store, ExtractiveSummarizer(), clock=lambda: self.now, monotonic=lambda: self.ticks)

    def have_confirmed(self, expires: float) -> bool:
        """Whether two sweeps, far enough apart, read a time after the expiry."""
        late = [ticks for ticks, now in self.readings if now >= expires]
        return bool(late) and late[-1] == self.ticks and late[-1] - late[0] >= CONFIRM_SECONDS


class Processes(RuleBasedStateMachine):
    """Several processes, each with clocks of its own, on one folder."""

    kinds: tuple[str, ...] = ("in memory", "sqlite")

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="ctxmem-"))
        self.stores = self.open_stores(data.draw(st.sampled_from(self.kinds)), 4)
        self.clocks = [Clocks() for _ in range(3)]
        self.memories = [clocks.open(store) for clocks, store in zip(self.clocks, self.stores, strict=False)]
        # Its clock stands still: nothing ever expires for it.
        self.reader = Memory(self.stores[-1], ExtractiveSummarizer(), clock=lambda: FOREVER)
        self.acknowledged: dict[str, list[str]] = {}
        self.expires: dict[str, float] = {}
        self.count = 0

    def open_stores(self, kind: str, count: int) -> list[Store]:
        """Opens the same store several times."""
        if kind == "sqlite":
            return [SqliteStore(self.folder, durability="normal") for _ in range(count)]
        if kind == "postgres":
            principal = new_principal()
            return [PostgresStore(started_server().url, principal) for _ in range(count)]
        return [InMemoryStore()] * count

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            for store in self.stores:
                self.runner.run(store.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    @rule(process=MEMORIES, by=JUMPS)
    def jump(self, process: int, by: float) -> None:
        self.clocks[process].now += by

    @rule(seconds=st.sampled_from([1.0, CONFIRM_SECONDS, DAY, 31 * DAY]))
    def time_passes(self, seconds: float) -> None:
        for clocks in self.clocks:
            clocks.now += seconds
            clocks.ticks += seconds

    @rule(process=MEMORIES, days=st.sampled_from([1, 60]))
    def sleep(self, process: int, days: int) -> None:
        """The machine is suspended: its monotonic clock stands still."""
        self.clocks[process].now += days * DAY

    @rule(process=MEMORIES, name=NAMES, days=st.sampled_from([None, None, 1, 30]))
    def append(self, process: int, name: str, days: int | None) -> None:
        self.count += 1
        text = f"turn {self.count}"
        turn = NewTurn("user", text)
        done = self.runner.run(self.memories[process].append(turn, conversation_id=name, retention_days=days))
        self.acknowledged.setdefault(name, []).append(text)
        assert done.index == len(self.acknowledged[name]) - 1, "it follows every turn that was acknowledged"
        now = self.runner.run(self.reader.info(name))
        assert done.expires_at == iso(now.expires)
        assert days is not None or now.expires >= self.expires.get(name, 0.0)
        assert now.expires >= self.clocks[process].now + now.retention_days * DAY
        self.expires[name] = now.expires

    @rule(process=MEMORIES, name=NAMES)
    def sync_again(self, process: int, name: str) -> None:
        """What is acknowledged as known is stored, and stays as long as if it had been appended now."""
        if name in self.acknowledged:
            turns = [NewTurn("user", text) for text in self.acknowledged[name]]
            done = self.runner.run(self.memories[process].sync(turns, conversation_id=name))
            assert (done.known, done.appended) == (len(turns), 0)
            now = self.runner.run(self.reader.info(name))
            assert now.expires >= self.expires[name]
            assert now.expires > self.clocks[process].now
            self.expires[name] = now.expires

    @rule(process=MEMORIES, name=NAMES, days=st.sampled_from([1, 30, 365]))
    def set_retention(self, process: int, name: str, days: int) -> None:
        try:
            after = self.runner.run(self.memories[process].set_retention(name, days))
        except UnknownConversation:
            assert name not in self.expires or self.clocks[process].now >= self.expires[name]
        else:
            self.expires[name] = after.expires
            assert after.expires == after.updated + days * DAY

    @rule(process=MEMORIES)
    def sweep(self, process: int) -> None:
        clocks = self.clocks[process]
        clocks.readings.append((clocks.ticks, clocks.now))
        for name in self.runner.run(self.memories[process].sweep()):
            assert clocks.have_confirmed(self.expires[name])
            del self.acknowledged[name], self.expires[name]

    @rule(process=MEMORIES, name=NAMES)
    def read(self, process: int, name: str) -> None:
        try:
            turns = self.runner.run(self.memories[process].history(name))
        except UnknownConversation:
            assert name not in self.expires or self.clocks[process].now >= self.expires[name]
        else:
            assert [turn.content for turn in turns] == self.acknowledged[name]

    @invariant()
    def every_acknowledged_turn_is_stored(self) -> None:
        if hasattr(self, "runner"):
            for name, texts in self.acknowledged.items():
                assert [turn.content for turn in self.runner.run(self.reader.history(name))] == texts


class ProcessesOnPostgres(Processes):
    """On one database."""

    kinds = ("postgres",)


class ProcessesOnPostgresLong(ProcessesOnPostgres):
    """With as many examples as the others."""


class ProcessesLong(Processes):
    """With a thousand examples."""


def clock_settings(max_examples: int) -> settings:
    return settings(
        max_examples=max_examples,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


Processes.TestCase.settings = clock_settings(25)
TestNoClockMovesAnExpiryEarlier = Processes.TestCase
ProcessesLong.TestCase.settings = clock_settings(1_000)
TestNoClockMovesAnExpiryEarlierLong = pytest.mark.soak(pytest.mark.timeout(7_200)(ProcessesLong.TestCase))
ProcessesOnPostgres.TestCase.settings = clock_settings(3)
TestNoClockMovesAnExpiryEarlierOnPostgres = ProcessesOnPostgres.TestCase
ProcessesOnPostgresLong.TestCase.settings = clock_settings(25)
TestNoClockMovesAnExpiryEarlierOnPostgresLong = pytest.mark.soak(ProcessesOnPostgresLong.TestCase)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture(params=["sqlite", "in memory", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "postgres":
        return PostgresStore(started_server().url, new_principal())
    return SqliteStore(tmp_path) if request.param == "sqlite" else InMemoryStore()


@pytest.mark.anyio
async def test_an_append_by_a_clock_that_is_behind_does_not_bring_the_expiry_forward(
    store: Store, clocks: Clocks
) -> None:
    memory = clocks.open(store)
    first = await memory.append(NewTurn("user", "one"), conversation_id="c", retention_days=365)
    clocks.now -= 400 * DAY
    assert (await memory.append(NewTurn("user", "two"), conversation_id="c")).expires_at == first.expires_at
    clocks.now += 400 * DAY
    assert [turn.content for turn in await memory.history("c")] == ["one", "two"]
    assert [info.conversation_id for info in (await memory.conversations()).conversations] == ["c"]
    await memory.close()


@pytest.mark.anyio
async def test_a_moment_of_a_wrong_clock_deletes_nothing(store: Store, clocks: Clocks) -> None:
    memory = clocks.open(store)
    await memory.append(NewTurn("user", "one"), conversation_id="c")
    await memory.append(NewTurn("user", "old"), conversation_id="also")
    clocks.now += 400 * DAY
    assert await memory.sweep() == []
    with pytest.raises(UnknownConversation):
        await memory.info("c")
    assert (await memory.append(NewTurn("user", "two"), conversation_id="c")).index == 1
    clocks.now -= 400 * DAY
    clocks.ticks += CONFIRM_SECONDS
    assert await memory.sweep() == []
    assert [turn.content for turn in await memory.history("c")] == ["one", "two"]
    assert [turn.content for turn in await memory.history("also")] == ["old"]
    await memory.close()


@pytest.mark.anyio
async def test_what_expired_while_the_machine_was_off_is_deleted_by_the_second_reading(
    store: Store, clocks: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    memory = clocks.open(store)
    done = await memory.append(NewTurn("user", "a secret word"), conversation_id="c")
    clocks.now += 60 * DAY
    caplog.set_level(logging.INFO)
    assert await memory.sweep() == []
    clocks.ticks += CONFIRM_SECONDS - 1
    assert await memory.sweep() == []
    clocks.ticks += 1
    assert await memory.sweep() == ["c"]
    assert await memory.stored_head("c") is None
    deleted = [record.getMessage() for record in caplog.records if "expired" in record.getMessage()]
    assert deleted == [f"Deleted conversation c, which expired at {done.expires_at}."]
    assert "secret" not in caplog.text
    await memory.close()


def test_a_reading_that_says_otherwise_begins_again() -> None:
    ticks = 0.0
    watch = ExpiryWatch(lambda: ticks)
    assert watch.confirm({"a": 5.0, "b": 5.0}) == {}
    assert watch.is_waiting
    ticks = 30.0
    assert watch.confirm({"a": 5.0}) == {}
    ticks = 60.0
    assert watch.confirm({"a": 5.0, "b": 5.0}) == {"a": 5.0}
    ticks = 120.0
    assert watch.confirm({"a": 7.0, "b": 5.0}) == {"b": 5.0}, "a has another expiry than before"
    assert watch.confirm({}) == {}
    assert not watch.is_waiting
