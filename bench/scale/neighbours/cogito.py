"""cogito-mem through its Python API: keyword search (its embedding model is a download), answers of 8,000 tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cogito_mem.memory import Config, Memory
from harness import run

# It refuses more items, and longer texts, in one call.
ITEMS, RESULTS, TOKENS = 500, 100, 8_000


class CogitoMem:
    def __init__(self, folder: Path) -> None:
        self.processes: list[int] = []
        self._memory = Memory(folder, embedder=None, config=Config(search="keyword"), cache_path=None)

    def fill(self, turns: list[dict[str, Any]]) -> None:
        items = [{**_item(turn), "valid_at": turn["said_at"]} for turn in turns if turn["content"].strip()]
        for first in range(0, len(items), ITEMS):
            self._memory.append(items[first : first + ITEMS], namespace="a", import_=True)

    def append(self, turn: dict[str, Any]) -> None:
        self._memory.append([_item(turn)], namespace="a")

    def query(self, text: str) -> int:
        found = self._memory.query(text, namespace="a", top_k=RESULTS, max_tokens=TOKENS)["items"]
        return sum(len(item["text"]) for item in found)

    def close(self) -> None:
        self._memory.close()


def _item(turn: dict[str, Any]) -> dict[str, Any]:
    return {"author": turn["role"], "text": turn["content"] or "-", "thread_id": "long"}


if __name__ == "__main__":
    run(CogitoMem)
