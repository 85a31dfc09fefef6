"""Settings -> an open Memory. The only file that knows the concrete classes.

They are imported when a memory is opened, not before: a server answers its host first and opens then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from ctxmem_mcp.settings import Settings

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_memory(settings: Settings | None = None) -> AsyncIterator[Memory]:
    """An open memory over the SQLite store; without settings, those of the environment and the config file.

    What has expired is swept in the background, at once and then hourly, as long as it is open.
    """
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.stores.sqlite.store import SqliteStore
    from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

    settings = settings or Settings.load()
    memory = Memory(
        SqliteStore(settings.data_dir, durability=settings.durability),
        ExtractiveSummarizer(),
        encoding=settings.encoding,
        retention_days=settings.retention_days,
    )
    closing = asyncio.Event()
    upkeep = asyncio.create_task(_sweep(memory, settings.sweep_seconds, closing), name="ctxmem upkeep")
    try:
        yield memory
    finally:
        # A sweep that is under way comes to its end: what it removes, it removes whole.
        closing.set()
        await upkeep
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
