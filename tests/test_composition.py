"""An opened memory is closed, even if the caller is cancelled."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import StoreUnavailable
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.settings import Settings


@pytest.mark.anyio
@pytest.mark.parametrize("steps", range(8))
async def test_cancelled_while_closing_it_leaves_no_thread_that_keeps_the_process_alive(
    tmp_path: Path, steps: int
) -> None:
    before, closing = set(threading.enumerate()), asyncio.Event()

    async def used() -> None:
        async with open_memory(Settings(tmp_path)) as memory:
            await memory.append(NewTurn("user", "hello"), conversation_id="c")
            closing.set()

    using = asyncio.create_task(used())
    await closing.wait()
    for _ in range(steps):
        await asyncio.sleep(0)
    for _ in range(2):
        using.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await using
    left = {thread for thread in threading.enumerate() if "connection_worker" in thread.name} - before
    for thread in left:
        await asyncio.to_thread(thread.join, 5)
    assert not [thread for thread in left if thread.is_alive()]


@pytest.mark.anyio
async def test_used_after_closing_it_raises_and_leaves_no_thread_that_keeps_the_process_alive(tmp_path: Path) -> None:
    async with open_memory(Settings(tmp_path)) as memory:
        await memory.append(NewTurn("user", "hello"), conversation_id="c")
    before = set(threading.enumerate())
    for use in (memory.append(NewTurn("user", "again"), conversation_id="c"), memory.view("c"), memory.search("hello")):
        with pytest.raises(StoreUnavailable, match="was closed"):
            await use
    assert not [thread for thread in set(threading.enumerate()) - before if "connection_worker" in thread.name]
