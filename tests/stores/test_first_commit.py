"""A conversation's first commit while the folder is being swept."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing.builders import NOW, extend, new_state

pytestmark = pytest.mark.anyio


async def test_a_sweep_leaves_alone_what_the_same_store_is_just_beginning(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    done = anyio.Event()

    async def sweep_again_and_again() -> None:
        while not done.is_set():
            await store.sweep(NOW)

    async def begin(number: int) -> None:
        # HeadMoved would make a whole import be computed a second time.
        await store.commit(extend(new_state(f"c{number}"), ["hello"]), NOW)

    async with anyio.create_task_group() as sweeping:
        sweeping.start_soon(sweep_again_and_again)
        async with anyio.create_task_group() as beginnings:
            for number in range(12):
                beginnings.start_soon(begin, number)
        done.set()
    assert len((await store.conversations(NOW)).conversations) == 12
    await store.close()
