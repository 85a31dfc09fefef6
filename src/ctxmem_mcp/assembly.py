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
    from ctxmem_mcp.stores.sqlite import SqliteStore
    from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

    settings = settings or Settings.load()
    memory = Memory(
        SqliteStore(settings.data_dir, durability=settings.durability),
        ExtractiveSummarizer(),
        encoding=settings.encoding,
        retention_days=settings.retention_days,
    )
    upkeep = asyncio.create_task(_sweep_now_and_then(memory, settings.sweep_seconds), name="ctxmem upkeep")
    try:
        yield memory
    finally:
        upkeep.cancel()
        with suppress(asyncio.CancelledError):
            await upkeep
        await memory.close()


async def _sweep_now_and_then(memory: Memory, seconds: float) -> None:
    while True:
        try:
            gone = await memory.sweep()
            if gone:
                _log.info("Swept %d expired conversations.", len(gone))
        except Exception:
            # A sweep that fails is tried again at the next one; what expired is invisible meanwhile.
            _log.exception("The sweep of expired conversations failed.")
        await asyncio.sleep(seconds)
