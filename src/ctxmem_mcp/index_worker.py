"""Brings the index over all conversations up to date: in the background of a server, or at the end of an import.

Searches, listings and the first append to a new conversation wait while a file is read: mostly some tens of
milliseconds, but about 2.5 s of processor time for one of nearly 20,000 chunks. Other appends don't wait. What it has
not reached yet is found through the conversations' own indexes, slowly.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory

# A server begins no further conversation after SLICE_SECONDS. After indexing for t seconds, it pauses for
# PAUSE_FACTOR * t seconds.
SLICE_SECONDS, PAUSE_FACTOR = 0.02, 5.0
# It looks for further ones after so many seconds if none was left, or none could be indexed.
IDLE_SECONDS = 10.0
# An import reports its progress after so many seconds.
REPORT_SECONDS = 0.5

_log = logging.getLogger(__name__)


async def index_repeatedly(memory: Memory) -> None:
    """Keeps the index up to date until it is cancelled."""
    left = -1
    while True:
        before, started, pause = left, time.monotonic(), IDLE_SECONDS
        try:
            left = await memory.index_for_search(SLICE_SECONDS)
            if left and left != before:
                pause = PAUSE_FACTOR * (time.monotonic() - started)
        except Exception:  # a search tries again
            _log.exception("The index over all conversations could not be brought up to date.")
        await asyncio.sleep(pause)


async def finish_index(memory: Memory, report: Callable[[int, int], None]) -> None:
    """Indexes all conversations, except those that are too large.

    Args:
        memory: Holds them.
        report: Called with how many are done and how many there were to do.
    """
    total = left = await memory.index_for_search(0.0)
    before = left + 1
    while 0 < left < before:
        report(total - left, total)
        before, left = left, await memory.index_for_search(REPORT_SECONDS)
