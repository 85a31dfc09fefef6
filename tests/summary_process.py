"""A process that summarises: `python -m tests.summary_process DATA URL SECONDS_AHEAD`.

Looks until every node has a summary by the model at URL, its clock so many seconds ahead; then says "done".
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from ctxmem_mcp.llm_client import Limits, Model
from ctxmem_mcp.models import EXTRACTIVE
from ctxmem_mcp.stores.base import SpendLimits, Store
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summary_worker import Pace, Upkeep

LIMITS = Limits(try_seconds=20, total_seconds=30, pause_seconds=0.01)
CAPS = SpendLimits(10**9, 10**9, lost_after_seconds=90)
AT_ONCE = Pace(first=0, look=0.01, failed=0.01, failed_max=0.05, refused=0.05)


async def authors(store: Store, conversation: str) -> dict[str, list[str]]:
    """Who wrote summaries of each node, oldest first, by the node's id, in the order of closing."""
    nodes = [node for _, node in await store.closings(conversation, 1, 10**9)]
    kept = await store.summaries(conversation, [node.digest for node in nodes])
    return {node.id: [summary.author for summary in kept[node.digest]] for node in nodes}


async def all_written(store: Store, *conversations: str) -> bool:
    """Whether every node has a better summary than the one it was born with."""
    for name in conversations:
        if not all(set(written) - {EXTRACTIVE} for written in (await authors(store, name)).values()):
            return False
    return True


async def until(holds: Callable[[], Awaitable[object] | object], seconds: float = 20) -> None:
    """Waits for something that another task, thread or process does."""
    end = time.monotonic() + seconds
    while not (await found if inspect.isawaitable(found := holds()) else found):
        assert time.monotonic() < end, "it does not come about"
        await asyncio.sleep(0.01)


async def summarise(data: Path, url: str, seconds_ahead: float) -> None:
    store = SqliteStore(data, durability="normal")
    model = Model(url, "m", None, LIMITS)
    upkeep = Upkeep(store, model, CAPS, clock=lambda: time.time() + seconds_ahead, pace=AT_ONCE)
    worker = asyncio.create_task(upkeep.run())
    try:
        page = await store.conversations(time.time())
        names = [info.conversation_id for info in page.conversations]
        await until(lambda: all_written(store, *names))
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        await model.close()
        await store.close()


if __name__ == "__main__":
    _, data, url, seconds_ahead = sys.argv
    asyncio.run(summarise(Path(data), url, float(seconds_ahead)))
    sys.stdout.write("done\n")
