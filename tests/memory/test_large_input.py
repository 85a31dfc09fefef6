"""Large appends are computed in worker processes, with the same result as in the event loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.embeddings import load_embedder
from ctxmem_mcp.worker_pool import LARGE_CHARS, WorkerPool

pytestmark = pytest.mark.anyio
SOURCE = Path(__file__).read_text("utf-8")
KEY = "sk-" + "a" * 30


class CountingPool(WorkerPool):
    def __init__(self) -> None:
        super().__init__()
        self.runs, self.names = 0, list[str]()
        self.started = asyncio.Event()

    async def run(self, function: Callable[..., Generator[Any, None, Any]], *args: Any) -> Any:
        self.runs += 1
        self.names.append(getattr(function, "func", function).__name__)
        self.started.set()
        return await super().run(function, *args)


@pytest.fixture
def pool() -> Any:
    pool = CountingPool()
    yield pool
    pool.close()


@asynccontextmanager
async def opened(folder: Path, pool: WorkerPool | None, **options: Any) -> AsyncIterator[Memory]:
    memory = Memory(
        SqliteStore(folder), ExtractiveSummarizer(), clock=lambda: 1e9, embedder=load_embedder("auto"), workers=pool,
        **options,
    )  # fmt: skip
    try:
        yield memory
    finally:
        await memory.close()


def history(chars: int) -> list[NewTurn]:
    """Turns of code and talk, of which one is long and one has no line end."""
    chance, made = random.Random(chars), list[NewTurn]()
    while chars > 0:
        size = chance.choice((50, 400, 3_000))
        at = chance.randrange(len(SOURCE) // 2)
        made.append(NewTurn(chance.choice(("user", "assistant")), f"{len(made)}. {SOURCE[at : at + size]}"))
        chars -= size
    made.insert(len(made) // 2, NewTurn("tool", SOURCE * 5, "Bash", None, "call_1"))
    return [*made, NewTurn("assistant", "no line end " * 3_000), NewTurn("user", "And what now?")]


async def everything(memory: Memory) -> list[object]:
    hits = await memory.search("parser history line", conversation_id="c", limit=20)
    views = [await memory.view("c", query=query, token_budget=3_000) for query in ("code and talk", None)]
    return [await memory.history("c"), await memory.outline("c"), hits, views, await memory.verify("c")]


async def test_a_worker_computes_the_same_tree_index_and_views(tmp_path: Path, pool: CountingPool) -> None:
    turns = history(LARGE_CHARS)
    async with opened(tmp_path / "a", None) as inline, opened(tmp_path / "b", pool) as beside:
        first = await inline.sync(turns, conversation_id="c")
        assert await beside.sync(turns, conversation_id="c") == first
        await beside.index("c")
        assert pool.names[:2] == ["count_in_steps", "index_in_steps"]
        assert await everything(beside) == await everything(inline)
        # The open leaf is large: closing it is a large computation, whatever closes it.
        large = NewTurn("user", SOURCE * 20)
        for turn in (large, NewTurn("assistant", "Read."), NewTurn("user", "Good.")):
            assert await beside.append(turn, conversation_id="c") == await inline.append(turn, conversation_id="c")
        assert await everything(beside) == await everything(inline)


async def test_small_appends_start_no_worker(tmp_path: Path, pool: CountingPool) -> None:
    async with opened(tmp_path, pool) as memory:
        for turn in history(2_000)[:3]:
            await memory.append(turn, conversation_id="c")
    assert pool.runs == 0


async def test_a_cancelled_append_stores_nothing(tmp_path: Path, pool: CountingPool) -> None:
    async with opened(tmp_path, pool) as memory:
        await memory.append(NewTurn("user", "hello"), conversation_id="c")
        appending = asyncio.create_task(memory.append(NewTurn("user", SOURCE * 300), conversation_id="c"))
        await pool.started.wait()
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending
        assert len(await memory.history("c")) == 1
        assert (await memory.append(NewTurn("user", "next"), conversation_id="c")).index == 1


def hide(text: str) -> str:
    return text.replace(KEY, "[redacted]")


async def test_large_turns_are_redacted_before_they_are_hashed(tmp_path: Path, pool: CountingPool) -> None:
    turns = [NewTurn("user", f"{KEY} {SOURCE * 20}"), NewTurn("assistant", KEY)]
    async with opened(tmp_path / "a", None, redact=hide) as inline, opened(tmp_path / "b", pool, redact=hide) as beside:
        assert await inline.sync(turns, conversation_id="c") == await beside.sync(turns, conversation_id="c")
        assert not any(KEY in turn.content for turn in await beside.history("c"))
