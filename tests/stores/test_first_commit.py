"""A conversation's first commit while the folder is being swept."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing.builders import NOW, extend, new_state

pytestmark = pytest.mark.anyio


async def test_a_sweep_leaves_alone_the_files_that_the_same_store_is_creating(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    done = anyio.Event()

    async def sweep_repeatedly() -> None:
        while not done.is_set():
            await store.sweep(await store.expired(NOW))

    async def create(number: int) -> None:
        # HeadMoved here would make a memory compute a whole import a second time.
        await store.commit(extend(new_state(f"c{number}"), ["hello"]), NOW)

    async with anyio.create_task_group() as sweeping:
        sweeping.start_soon(sweep_repeatedly)
        async with anyio.create_task_group() as creating:
            for number in range(12):
                creating.start_soon(create, number)
        done.set()
    assert len((await store.conversations(NOW)).conversations) == 12
    await store.close()
