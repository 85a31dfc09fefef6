"""A memory over a store, turns to put into it, and the bytes of the files that it leaves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.expiry import CONFIRM_SECONDS
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer


def memory_over(store: Store, clock: Callable[[], float]) -> Memory:
    """A memory for which a minute passes between two sweeps."""
    ticks = count(step=CONFIRM_SECONDS)
    return Memory(store, ExtractiveSummarizer(), clock=clock, monotonic=lambda: next(ticks))


async def sweep(memory: Memory) -> list[str]:
    """Sweeps until what has expired is deleted: two readings have to agree."""
    return [*await memory.sweep(), *await memory.sweep()]


def sample_turns(count: int, topic: str = "the parser", sentences: int = 30) -> list[NewTurn]:
    """Requests and responses, long enough that sections close."""
    return [
        NewTurn(
            "user" if i % 2 == 0 else "assistant", f"Turn {i} about {topic}: " + f"word{i} is said here. " * sentences
        )
        for i in range(count)
    ]


def raw_files(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder.

    Another process reads them: closing a descriptor of a file in this one would drop SQLite's locks on it.
    """
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root) / name
            found[str(path.relative_to(folder))] = _read_elsewhere(path)
    return found


def _read_elsewhere(path: Path) -> bytes:
    return subprocess.run(["cat", str(path)], capture_output=True, check=False).stdout
