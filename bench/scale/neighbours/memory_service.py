"""mcp-memory-service through its SQLite storage, with the hashed vectors that it falls back to without a model.

Its own embedding model is a download. A query returns the 30 nearest, which is about 8,000 tokens.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from harness import run
from mcp_memory_service.models.memory import Memory
from mcp_memory_service.storage.sqlite_vec import SqliteVecMemoryStorage
from mcp_memory_service.utils.hashing import generate_content_hash

RESULTS = 30


class McpMemoryService:
    def __init__(self, folder: Path) -> None:
        self.processes: list[int] = []
        self._loop = asyncio.new_event_loop()
        self._storage = SqliteVecMemoryStorage(str(folder / "memory.db"))
        self._loop.run_until_complete(self._storage.initialize())

    def fill(self, turns: list[dict[str, Any]]) -> None:
        for first in range(0, len(turns), 500):
            memories = [_memory(turn) for turn in turns[first : first + 500] if turn["content"].strip()]
            self._loop.run_until_complete(self._storage.store_batch(memories))

    def append(self, turn: dict[str, Any]) -> None:
        self._loop.run_until_complete(self._storage.store(_memory(turn), skip_semantic_dedup=True))

    def query(self, text: str) -> int:
        found = self._loop.run_until_complete(self._storage.retrieve(text, n_results=RESULTS))
        return sum(len(one.memory.content) for one in found)

    def close(self) -> None:
        closed: Any = self._storage.close()
        if asyncio.iscoroutine(closed):
            self._loop.run_until_complete(closed)


def _memory(turn: dict[str, Any]) -> Memory:
    return Memory(content=turn["content"], content_hash=generate_content_hash(turn["content"]), memory_type="note")


if __name__ == "__main__":
    run(McpMemoryService)
