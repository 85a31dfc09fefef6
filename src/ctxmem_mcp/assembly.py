"""Settings -> an open Memory. The only file that knows the concrete classes.

They are imported when a memory is opened, not before: a server answers its host first and opens then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ctxmem_mcp.capture import spool
from ctxmem_mcp.settings import Settings

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory

# Words said a moment ago are looked for this often; an empty folder is looked at and no more.
DRAIN_SECONDS = 2.0

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_memory(settings: Settings | None = None) -> AsyncIterator[Memory]:
    """An open memory over the SQLite store; without settings, those of the environment and the config file.

    As long as it is open, what has expired is swept in the background, at once and then hourly, and what agents' hooks
    leave in the spool is taken in.
    """
    from ctxmem_mcp.capture.forgetting import leave_alone
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.stores.sqlite.store import SqliteStore
    from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

    settings = settings or Settings.load()
    memory = Memory(
        SqliteStore(settings.data_dir, durability=settings.durability),
        ExtractiveSummarizer(),
        encoding=settings.encoding,
        retention_days=settings.retention_days,
        on_gone=partial(leave_alone, settings.data_dir),
    )
    closing = asyncio.Event()
    upkeep = asyncio.create_task(_sweep(memory, settings.sweep_seconds, closing), name="ctxmem upkeep")
    drain = asyncio.create_task(_drain(memory, settings.data_dir), name="ctxmem drain")
    try:
        yield memory
    finally:
        # A sweep that is under way comes to its end: what it removes, it removes whole.
        closing.set()
        # What waits in the spool waits on; a commit that is under way is made.
        drain.cancel()
        await asyncio.gather(upkeep, drain, return_exceptions=True)
        await memory.close()


async def _sweep(memory: Memory, seconds: float, closing: asyncio.Event) -> None:
    """Sweeps at once and then every so many seconds, until the memory closes."""
    while not closing.is_set():
        try:
            gone = await memory.sweep()
            if gone:
                _log.info("Swept %d expired conversations.", len(gone))
        except Exception:
            # A sweep that fails is tried again at the next one; what expired is invisible meanwhile.
            _log.exception("The sweep of expired conversations failed.")
        with suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), seconds)


async def _drain(memory: Memory, data_dir: Path) -> None:
    """Takes in what hooks left, at once and then every few seconds."""
    while True:
        if spool.waiting(str(data_dir)):
            from ctxmem_mcp.capture.draining import drain

            try:
                await drain(memory, data_dir)
            except Exception:
                _log.exception("What agents' hooks left could not be taken in.")
        await asyncio.sleep(DRAIN_SECONDS)
