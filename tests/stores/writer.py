"""A process that writes: `python -m tests.stores.writer DATA ID SEED HOW_MANY [BYTES_MAX]`.

Says "ready", waits for a line on stdin, then appends turns, and after each acknowledgement says its id, a space and
its text, at once. With BYTES_MAX no file may grow beyond it (a disk that is full). Says "full" for each append that
was refused.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from ctxmem_mcp.errors import StoreUnavailable
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def limited(bytes_max: int) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))


async def write(data: Path, conversation_id: str, seed: str, how_many: int) -> None:
    memory = Memory(SqliteStore(data), ExtractiveSummarizer())
    try:
        await append(memory, conversation_id, seed, how_many)
    finally:
        await memory.close()


async def append(memory: Memory, conversation_id: str, seed: str, how_many: int) -> None:
    random_words = random.Random(seed)
    say("ready")
    sys.stdin.readline()
    for i in range(how_many):
        words = " ".join(f"w{random_words.randrange(10**9)}" for _ in range(random_words.randrange(2, 60)))
        try:
            done = await memory.append(NewTurn("user", f"{seed}.{i} {words}"), conversation_id=conversation_id)
            say(f"{done.turn_id} {seed}.{i} {words}")
        except StoreUnavailable:
            say("full")


if __name__ == "__main__":
    _, data, conversation_id, seed, how_many, *bytes_max = sys.argv
    if bytes_max:
        limited(int(bytes_max[0]))
    asyncio.run(write(Path(data), conversation_id, seed, int(how_many)))
