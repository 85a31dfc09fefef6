"""A process that writes: `python -m tests.stores.writer DATA ID SEED COUNT [BYTES_MAX]`.

Prints "ready", waits for a line on stdin, then appends turns. After each acknowledgement it prints the turn's id, a
space and its text, and flushes. With BYTES_MAX no file may grow beyond it, as on a full disk; it prints "full" for each
append that was refused. A turn that was refused because the conversation was forgotten is sent again, as another.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from ctxmem_mcp.errors import Forgotten, StoreUnavailable
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer


def print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def limit_file_size(bytes_max: int) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))


async def write(data: Path, conversation_id: str, seed: str, count: int) -> None:
    memory = Memory(SqliteStore(data), ExtractiveSummarizer())
    try:
        await append(memory, conversation_id, seed, count)
    finally:
        await memory.close()


async def append(memory: Memory, conversation_id: str, seed: str, count: int) -> None:
    randoms = random.Random(seed)
    print_line("ready")
    sys.stdin.readline()
    for i in range(count):
        words = " ".join(f"w{randoms.randrange(10**9)}" for _ in range(randoms.randrange(2, 60)))
        done = None
        while done is None:
            try:
                done = await memory.append(NewTurn("user", f"{seed}.{i} {words}"), conversation_id=conversation_id)
                print_line(f"{done.turn_id} {seed}.{i} {words}")
            except Forgotten:
                words = f"again {words}"
            except StoreUnavailable:
                print_line("full")
                break


if __name__ == "__main__":
    _, data, conversation_id, seed, count, *bytes_max = sys.argv
    if bytes_max:
        limit_file_size(int(bytes_max[0]))
    asyncio.run(write(Path(data), conversation_id, seed, int(count)))
