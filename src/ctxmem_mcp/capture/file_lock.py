"""One drainer at a time on a data folder, over all processes: a lock that ends with the process that holds it.

Two at once would do no harm (a turn that is known is stored no second time), only the same work twice.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_PAUSE_SECONDS = 0.02


@asynccontextmanager
async def alone(file: Path, wait_seconds: float) -> AsyncIterator[bool]:
    """Holds the lock while it lasts; gives whether it could be had in that time."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        left = wait_seconds
        while not (held := _locked(descriptor)) and left > 0:
            await asyncio.sleep(_PAUSE_SECONDS)
            left -= _PAUSE_SECONDS
        yield held
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
