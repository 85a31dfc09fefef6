"""This project through its Python API, with word vectors: a query is a view of 8,000 tokens."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from harness import run

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.embeddings import load_embedder

TURNS, TOKENS = 1_000, 8_000


class Ctxmem:
    def __init__(self, folder: Path) -> None:
        self.processes: list[int] = []
        self._loop = asyncio.new_event_loop()
        self._memory = Memory(SqliteStore(folder), ExtractiveSummarizer(), embedder=load_embedder("auto"))

    def fill(self, turns: list[dict[str, Any]]) -> None:
        self._loop.run_until_complete(self._fill([NewTurn(**turn) for turn in turns]))

    async def _fill(self, turns: list[NewTurn]) -> None:
        after = None
        for first in range(0, len(turns), TURNS):
            part = turns[first : first + TURNS]
            after = (await self._memory.sync(part, conversation_id="long", after=after)).head

    def append(self, turn: dict[str, Any]) -> None:
        self._loop.run_until_complete(self._memory.append(NewTurn(**turn), conversation_id="long"))

    def query(self, text: str) -> int:
        view = self._loop.run_until_complete(self._memory.view("long", query=text, token_budget=TOKENS))
        return len(view.render())

    def close(self) -> None:
        self._loop.run_until_complete(self._memory.close())


if __name__ == "__main__":
    run(Ctxmem)
