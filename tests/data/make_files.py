"""Writes the files of the present formats, so that later versions must open them: `python -m tests.data.make_files`.

A file that is there is left alone: it was written by an earlier version. Run it when a format has a new number.
"""

from __future__ import annotations

import asyncio
import gzip
import shutil
import tempfile
from pathlib import Path

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.stores.sqlite.schema import FORMAT
from ctxmem_mcp.stores.testing.builders import NOW
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

DATA = Path(__file__).parent
CONVERSATION_ID = "old"
TURNS = 64


def turns() -> list[NewTurn]:
    """The turns of such a file: two branches are made of them."""
    return [
        NewTurn("user" if i % 2 == 0 else "assistant", f"Turn {i} about the oslo mirror: " + f"step {i} is done. " * 20)
        for i in range(TURNS)
    ]


async def write(folder: Path) -> bytes:
    """Returns the bytes of a conversation's file."""
    memory = Memory(SqliteStore(folder), ExtractiveSummarizer(), clock=lambda: NOW)
    await memory.sync(turns(), conversation_id=CONVERSATION_ID)
    await memory.append(NewTurn("user", "Another way."), conversation_id=CONVERSATION_ID, parent_id="t20")
    node = next(node.id for node in await memory.outline(CONVERSATION_ID) if node.id)
    await memory.write_summary(CONVERSATION_ID, node, "A written title", "What was done")
    await memory.close()
    return (folder / FOLDER / file_name(CONVERSATION_ID)).read_bytes()


def main() -> None:
    path = DATA / f"format-{FORMAT}.ctxmem.gz"
    if path.exists():
        return
    folder = Path(tempfile.mkdtemp())
    try:
        path.write_bytes(gzip.compress(asyncio.run(write(folder)), mtime=0))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
