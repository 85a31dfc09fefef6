"""A process that redacts all turns that match: python -m tests.stores.redact_process DATA_DIR PATTERN."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from ctxmem_mcp import redaction
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.settings import Settings


async def main(data_dir: Path, pattern: str) -> None:
    async with open_memory(Settings(data_dir=data_dir), background=False) as memory:
        found = await memory.find_matches(re.compile(pattern))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await redaction.redact(memory, data_dir, found)
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
