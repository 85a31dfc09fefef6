"""Stores what sessions' transcripts got after the last event of a hook.

An agent that is killed sends no event, and the row of the last tool's result may be younger than its event. The server
that the agent started sees the end of its stdin, and catches up.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from ctxmem_mcp.capture.spool_worker import drain, spool_lock
from ctxmem_mcp.capture.sync_state import SyncRecords
from ctxmem_mcp.capture.transcript_sync import SETTLE_SECONDS, TranscriptSync, size_and_mtime
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.memory import Memory

# A transcript that was stored this long ago, or earlier, is not of a session that has just ended.
RECENT_SECONDS = 24 * 3_600.0
_LOCK_SECONDS = 2.0

_log = logging.getLogger(__name__)


async def catch_up(memory: Memory, data_dir: Path) -> None:
    """Stores the pending events, and the rows that were added to transcripts since they were stored."""
    await drain(memory, data_dir, wait=True)
    files = await asyncio.to_thread(_grown, data_dir)
    if not files:
        return
    async with spool_lock(data_dir, _LOCK_SECONDS) as locked:
        if not locked:  # another server does the same
            return
        unsettled = await _sync(memory, data_dir, files)
        if unsettled:
            await asyncio.sleep(SETTLE_SECONDS)
            await _sync(memory, data_dir, unsettled)


def _grown(data_dir: Path) -> list[Path]:
    """The transcripts that have changed since they were stored."""
    records = SyncRecords(data_dir).recent(RECENT_SECONDS)
    return [
        Path(record.path)
        for record in records
        if size_and_mtime(Path(record.path)) not in (None, (record.size, record.changed))
    ]


async def _sync(memory: Memory, data_dir: Path, files: list[Path]) -> list[Path]:
    """Returns the files that are read only once nothing has been written to them for a moment."""
    transcript_sync, unsettled = TranscriptSync(memory, data_dir), []
    for file in files:
        try:
            result = await transcript_sync.sync_file(file)
        except (CtxmemError, OSError) as error:
            _log.warning("Skipped %s: %s", file, error)
            continue
        if result is not None and result.recent:
            unsettled.append(file)
    return unsettled
