"""Measures one store in a process of its own, and prints the figures as JSON.

    python -m bench.scale.measure FOLDER KIND CONTENT CONVERSATION [--operations N]

Every view, search and project view follows an append, as in an agent's work, so no result is cached. Milliseconds are
those of the clock; `cpu` is the processor time of this process, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.scale import text
from bench.scale.fill import PROJECT
from bench.scale.stores import Place
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.base import Store

VIEW_TOKENS = 8_000
WARM_UP = 5


@dataclass
class Times:
    """The milliseconds of an operation's calls, on the clock and of processor time."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Returns medians and 95th percentiles."""
        return {
            "p50": statistics.median(self.wall), "p95": percentile(self.wall), "cpu_p50": statistics.median(self.cpu),
            "cpu_p95": percentile(self.cpu), "calls": len(self.wall),
        }  # fmt: skip


def percentile(values: list[float], share: float = 0.95) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Measurement:
    """Works on one conversation of a store.

    Attributes:
        times: of each operation.
    """

    def __init__(self, memory: Memory, store: Store, conversation_id: str, turns: Iterator[NewTurn]) -> None:
        self._memory, self._store, self._id, self._turns = memory, store, conversation_id, turns
        self.times: dict[str, Times] = {}

    async def run(self, operations: int) -> None:
        """Measures each kind of reading so many times, and appends four times as often."""
        questions = text.read_questions()
        await self._time("first view", self._reads(questions[-1])["view"])
        gc.freeze()  # as the servers do after their imports
        for _ in range(WARM_UP):
            await self._memory.append(next(self._turns), conversation_id=self._id)
        for _ in range(4 * operations):
            await self._append("append")
        for question in questions[:operations]:
            for name, call in self._reads(question).items():
                await self._append("append between reads")
                await self._time(name, call)
        await self._reverts(max(2, operations // 10))

    def _reads(self, query: str) -> dict[str, Callable[[], Awaitable[Any]]]:
        memory, here = self._memory, self._id
        return {
            "view": lambda: memory.view(here, query=query, token_budget=VIEW_TOKENS),
            "view without a query": lambda: memory.view(here, token_budget=VIEW_TOKENS),
            "stable view": lambda: memory.view(here, token_budget=VIEW_TOKENS, layout="stable"),
            "search": lambda: memory.search(query, conversation_id=here),
            "search of all": lambda: memory.search(query),
            "project view": lambda: memory.project_view(PROJECT, query=query, token_budget=VIEW_TOKENS),
            "listing": memory.conversations,
        }

    async def _append(self, name: str) -> None:
        await self._time(name, lambda: self._memory.append(next(self._turns), conversation_id=self._id))

    async def _reverts(self, count: int) -> None:
        """Goes back to the middle, appends there, and returns to where it was."""
        memory, here = self._memory, self._id
        for number in range(count):
            state = await self._store.load(here, time.time())
            assert state is not None
            head, middle = await self._store.turns(here, [state.head, state.head // 2 + number], metadata_only=True)
            head, middle = (head, middle) if head.index > middle.index else (middle, head)
            other = NewTurn("user", f"Another way, number {number}, then.")
            await self._time("revert", lambda turn=middle.id: memory.revert(here, turn))
            await self._time("append after a revert", lambda turn=other: memory.append(turn, conversation_id=here))
            await self._time("view of the branch", lambda: memory.view(here, token_budget=VIEW_TOKENS))
            await memory.revert(here, head.id)

    async def _time(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        began, used = time.perf_counter(), time.process_time()
        await call()
        times = self.times.setdefault(name, Times())
        times.wall.append((time.perf_counter() - began) * 1000)
        times.cpu.append((time.process_time() - used) * 1000)


async def measured(place: Place, conversation_id: str, operations: int) -> dict[str, Any]:
    """Returns the figures of one store."""
    process, load = psutil.Process(), os.getloadavg()[0]
    async with place.opened() as (memory, store):
        known = {info.conversation_id: info for info in await memory.all_conversations()}
        stored = known[conversation_id].turns if conversation_id in known else 0
        turns = text.turns(text.read_conversations(), stored)
        next(turns)  # reads the data before anything is measured
        before = process.memory_info().rss
        measurement = Measurement(memory, store, conversation_id, turns)
        await measurement.run(operations)
        info = await memory.info(conversation_id)
        state = await store.load(conversation_id, time.time())
        assert state is not None
        rss = process.memory_info().rss
    forgetting = await forgotten(place, conversation_id)
    return {
        "turns": info.turns, "tokens": info.tokens, "chunks": state.next_piece - 1, "conversations": len(known),
        "disk": place.bytes(), "rss": rss, "rss_added": rss - before, "load": load, "forget_ms": forgetting,
        "times": {name: times.figures() for name, times in measurement.times.items()},
    }  # fmt: skip


async def forgotten(place: Place, conversation_id: str) -> float:
    """Returns the milliseconds that forgetting the conversation takes in a copy of the store."""
    copy = place.copy()
    try:
        async with copy.opened() as (memory, _):
            began = time.perf_counter()
            await memory.forget(conversation_id, conversation_id)
            return (time.perf_counter() - began) * 1000
    finally:
        copy.remove()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scale.measure")
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind")
    parser.add_argument("content")
    parser.add_argument("conversation")
    parser.add_argument("--operations", type=int, default=50)
    options = parser.parse_args()
    place = Place(options.folder, options.kind, options.content)
    print(json.dumps(asyncio.run(measured(place, options.conversation, options.operations))))


if __name__ == "__main__":
    main()
