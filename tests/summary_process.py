"""A process that runs a summary worker: `python -m tests.summary_process DATA URL SECONDS_AHEAD`.

Its clock is SECONDS_AHEAD. It runs until every node has a summary by the model at URL, then prints "done".
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from ctxmem_mcp.llm_client import LLMClient, RequestLimits
from ctxmem_mcp.models import EXTRACTIVE
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import SpendLimits
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summary_worker import Intervals, SummaryWorker

REQUEST_LIMITS = RequestLimits(attempt_seconds=20, total_seconds=30, pause_seconds=0.01)
SPEND_LIMITS = SpendLimits(10**9, 10**9, lost_after_seconds=90)
NO_DELAYS = Intervals(first=0, poll=0.01, retry=0.01, retry_max=0.05, misconfigured=0.05)


async def authors_by_node(store: Store, conversation: str) -> dict[str, list[str]]:
    """Returns the authors of each node's summaries, oldest first, by node id, in the order in which nodes closed."""
    nodes = [node for _, node in await store.closings(conversation, 1, 10**9)]
    summaries = await store.summaries(conversation, [node.digest for node in nodes])
    return {node.id: [summary.author for summary in summaries[node.digest]] for node in nodes}


async def all_summarized(store: Store, *conversations: str) -> bool:
    """Whether every node has a better summary than its extractive one."""
    for name in conversations:
        if not all(set(written) - {EXTRACTIVE} for written in (await authors_by_node(store, name)).values()):
            return False
    return True


async def wait_until(condition: Callable[[], Awaitable[object] | object], seconds: float = 20) -> None:
    """Waits for a condition that another task, thread or process brings about."""
    end = time.monotonic() + seconds
    while not (await found if inspect.isawaitable(found := condition()) else found):
        assert time.monotonic() < end, "the condition never became true"
        await asyncio.sleep(0.01)


async def summarize_until_done(data: Path, url: str, seconds_ahead: float) -> None:
    store = SqliteStore(data, durability="normal")
    client = LLMClient(url, "m", None, REQUEST_LIMITS)
    worker = SummaryWorker(store, client, SPEND_LIMITS, clock=lambda: time.time() + seconds_ahead, intervals=NO_DELAYS)
    task = asyncio.create_task(worker.run())
    try:
        page = await store.conversations(time.time())
        names = [info.conversation_id for info in page.conversations]
        await wait_until(lambda: all_summarized(store, *names))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()
        await store.close()


if __name__ == "__main__":
    _, data, url, seconds_ahead = sys.argv
    asyncio.run(summarize_until_done(Path(data), url, float(seconds_ahead)))
    sys.stdout.write("done\n")
