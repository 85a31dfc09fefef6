"""A writer that loses again and again gets its turn, because the others see its note and pause."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.waiting_notes import FAILURES, PAUSE_SECONDS, WAITING, WaitingNotes
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.stores.locations import new_location, open_store

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Opens a store with the conversation "c"."""
    store = open_store(str(tmp_path))
    await Memory(store, ExtractiveSummarizer()).append(NewTurn("user", "first"), conversation_id="c")
    yield store
    await store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_writer_pauses_until_the_one_that_waits_has_committed(kind: str, tmp_path: Path) -> None:
    location = new_location(kind, tmp_path)
    fast, other = Memory(open_store(location), ExtractiveSummarizer()), open_store(location)
    slow = WaitingNotes(other)
    await fast.append(NewTurn("user", "first"), conversation_id="c")
    await slow.leave("c", FAILURES)
    stored = anyio.Event()

    async def append() -> None:
        await fast.append(NewTurn("user", "second"), conversation_id="c")
        stored.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(append)
        with anyio.move_on_after(PAUSE_SECONDS / 4):
            await stored.wait()
        assert not stored.is_set()
        await slow.remove_own("c")
        with anyio.fail_after(60):
            await stored.wait()
    await fast.close()
    await other.close()


async def test_a_note_is_left_after_some_failures_only(store: Store) -> None:
    notes = WaitingNotes(store)
    for failures in range(1, FAILURES):
        await notes.leave("c", failures)
        assert await store.extra("c", WAITING) is None
    await notes.leave("c", FAILURES)
    assert await store.extra("c", WAITING) is not None


async def test_the_note_of_a_killed_process_is_removed(store: Store) -> None:
    await WaitingNotes(store).leave("c", FAILURES)
    await WaitingNotes(store).give_way("c")
    assert await store.extra("c", WAITING) is None


async def test_a_newer_note_stays_when_an_older_one_is_removed(store: Store) -> None:
    older, newer = WaitingNotes(store), WaitingNotes(store)
    await older.leave("c", FAILURES)
    await newer.leave("c", FAILURES)
    await older.remove_own("c")
    assert await store.extra("c", WAITING) is not None
    await newer.remove_own("c")
    assert await store.extra("c", WAITING) is None


async def test_a_conversation_that_is_not_stored_has_no_note(store: Store) -> None:
    notes = WaitingNotes(store)
    await notes.leave("none", FAILURES)
    await notes.give_way("none")
    await notes.remove_own("none")
