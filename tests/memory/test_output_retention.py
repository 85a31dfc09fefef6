"""The whole of an output that a hook shortened lives as long as its session, not as long as its own retention says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.expiry import CONFIRM_SECONDS
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.postgres import PostgresStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing.builders import DAY, NOW
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.postgres_server import new_principal, started_server

pytestmark = pytest.mark.anyio
OUTPUT = "c:output-0123456789"


class OpenMemory:
    """A memory with clocks that the test sets."""

    def __init__(self, store: Store) -> None:
        self.now, self.ticks = NOW, 0.0
        self.memory = Memory(store, ExtractiveSummarizer(), clock=lambda: self.now, monotonic=lambda: self.ticks)

    async def add(self, *conversations: str) -> None:
        for one in conversations:
            await self.memory.append(NewTurn("tool", f"all of {one}"), conversation_id=one)

    async def sweep(self) -> list[str]:
        """Sweeps twice, so far apart that what has expired is deleted."""
        deleted = await self.memory.sweep()
        self.ticks += CONFIRM_SECONDS
        return deleted + await self.memory.sweep()

    async def days(self, conversation_id: str) -> int:
        return (await self.memory.info(conversation_id)).retention_days

    async def stored(self) -> list[str]:
        return sorted(info.conversation_id for info in await self.memory.all_conversations())


def open_store(kind: str, folder: Path) -> Store:
    if kind == "postgres":
        return PostgresStore(started_server().url, new_principal())
    return SqliteStore(folder) if kind == "sqlite" else InMemoryStore()


def find(pattern: str, folder: Path) -> list[Path]:
    return list(folder.rglob(pattern))


@pytest.fixture(params=["in memory", "sqlite", "postgres"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenMemory]:
    opened = OpenMemory(open_store(request.param, tmp_path))
    try:
        yield opened
    finally:
        await opened.memory.close()


async def test_an_output_lives_as_long_as_its_session_is_used(opened: OpenMemory) -> None:
    await opened.add("c", OUTPUT)
    for _ in range(3):
        opened.now += 29 * DAY
        await opened.add("c")
        assert await opened.sweep() == []
        assert await opened.stored() == ["c", OUTPUT]
        assert f"all of {OUTPUT}" in (await opened.memory.expand(OUTPUT, "t0")).text
    opened.now += 30 * DAY
    assert await opened.memory.sweep() == []
    with pytest.raises(UnknownConversation):
        await opened.memory.info(OUTPUT)
    opened.ticks += CONFIRM_SECONDS
    assert await opened.memory.sweep() == ["c", OUTPUT]


async def test_an_output_is_read_although_no_sweep_has_extended_it(opened: OpenMemory) -> None:
    await opened.add("c", OUTPUT)
    opened.now += 29 * DAY
    await opened.add("c")
    opened.now += 2 * DAY
    assert [turn.content for turn in await opened.memory.history(OUTPUT)] == [f"all of {OUTPUT}"]
    assert await opened.stored() == ["c", OUTPUT]


async def test_an_output_has_the_retention_that_its_session_is_given(opened: OpenMemory) -> None:
    await opened.add("c", OUTPUT, "c:agent")
    opened.now += DAY
    await opened.memory.set_retention("c", 3)
    later = "c:output-abcdef0123"
    await opened.add(later)
    assert [await opened.days(one) for one in ("c", OUTPUT, later, "c:agent")] == [3, 3, 3, 30]
    opened.now += 2 * DAY
    assert await opened.sweep() == ["c", OUTPUT, later]
    assert await opened.stored() == ["c:agent"]


async def test_an_output_of_a_longer_retention_is_deleted_with_its_session(opened: OpenMemory) -> None:
    await opened.add(OUTPUT)
    await opened.memory.append(NewTurn("user", "one"), conversation_id="c", retention_days=2)
    opened.now += 3 * DAY
    assert await opened.sweep() == ["c", OUTPUT]
    assert await opened.stored() == []


async def test_an_output_without_a_session_expires_on_its_own_clock(opened: OpenMemory) -> None:
    await opened.add(OUTPUT, "d")
    opened.now += 29 * DAY
    await opened.add("d")
    assert await opened.sweep() == []
    opened.now += DAY
    assert await opened.sweep() == [OUTPUT]


async def test_an_output_is_kept_while_its_session_cannot_be_read(tmp_path: Path) -> None:
    opened = OpenMemory(SqliteStore(tmp_path))
    await opened.add("c", OUTPUT, "d")
    await opened.memory.close()
    find("c-*.ctxmem", tmp_path)[0].write_bytes(b"no database")
    opened = OpenMemory(SqliteStore(tmp_path))
    try:
        opened.now += 31 * DAY
        assert await opened.sweep() == ["d"]
        assert len(find("c_output-*.ctxmem", tmp_path)) == 1
    finally:
        await opened.memory.close()
