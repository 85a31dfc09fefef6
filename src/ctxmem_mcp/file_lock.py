"""A lock that one process at a time holds, as a file in a private folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ctxmem_mcp.private_files import FILE_MODE, create_folder

_POLL_SECONDS = 0.02


@asynccontextmanager
async def lock_file(path: Path, seconds: float) -> AsyncIterator[bool]:
    """Holds the lock. Yields whether it was got within so many seconds. Creates the file and its folder."""
    # Imported only now, for it takes 30 ms and most often nothing is to be done.
    from filelock import AsyncFileLock, Timeout

    create_folder(path.parent)
    lock = AsyncFileLock(path, seconds, FILE_MODE, poll_interval=_POLL_SECONDS, run_in_executor=False)
    try:
        await lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        await lock.release()
