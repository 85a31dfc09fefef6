"""Large appends are durable before they are indexed; once indexed, all is as if one commit had stored it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.errors import StoreUnavailable
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.commit_builder import index_in_steps
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.embeddings import load_embedder
from ctxmem_mcp.worker_pool import WorkerPool
from tests.histories import turns
from tests.stores.samples import raw_files
from tests.view_parser import parse_view, turns_in

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:Generating overly large repr")]
NOW = 1_750_000_000.0
NEVER, ALWAYS = sys.maxsize, -1


def memory_over(store: Store, later_than: int, **options: Any) -> Memory:
    return Memory(store, ExtractiveSummarizer(), clock=lambda: NOW, index_later_chars=later_than, **options)


async def kill(memory: Memory) -> None:
    """Stops all that the memory does in the background, as the end of its process would."""
    tasks = [task for task in asyncio.all_tasks() if (task.get_name()).startswith("ctxmem index")]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def everything(memory: Memory) -> list[object]:
    """All that can be read of the conversation `c`."""
    await memory.index("c")
    found: list[object] = [await memory.info("c"), await memory.verify("c"), await memory.branches("c")]
    for tip in await memory.branches("c"):
        found += [await memory.history("c", turn_id=tip.id), await memory.outline("c", turn_id=tip.id)]
        for query, layout in (("limits parser line", "tree"), (None, "tree"), (None, "stable")):
            found.append(
                await memory.view("c", query=query, turn_id=tip.id, token_budget=6_000, layout=layout, explain=True)
            )
    found.append(await memory.search("parser Lisbon", conversation_id="c", limit=20))
    return [*found, await memory.hand_off("c")]


Step = tuple[str, int, int, list[NewTurn]]
# What may happen to a conversation; two processes take turns. A number chooses a turn, a process, or nothing.
steps = st.lists(
    st.tuples(
        st.sampled_from(["sync", "sync", "append", "fork", "revert", "title", "retention", "view", "kill", "pause"]),
        st.integers(0, 1),
        st.integers(0, 60),
        turns(5),
    ),
    min_size=1,
    max_size=8,
)


async def run(step: Step, memory: Memory, ids: list[str]) -> object:
    """Takes one step; returns its result and adds the ids of the turns it has stored."""
    kind, _, number, new = step
    at = ids[number % len(ids)] if ids else None
    if kind == "append":
        done = await memory.append(new[0], conversation_id="c")
        ids.append(done.turn_id)
        return done
    if kind in ("sync", "fork") or at is None:
        after = at if kind == "fork" else ids[-1] if ids else None
        synced = await memory.sync(new, conversation_id="c", after=after)
        ids += synced.turn_ids
        return synced
    if kind == "revert":
        return await memory.revert("c", at)
    if kind == "title":
        return await memory.set_title("c", f"Title number {number}")
    if kind == "retention":
        return (await memory.set_retention("c", 1 + number)).expires  # its title may follow
    return None


async def compare(history: list[Step], once: Store, later: Store, **options: Any) -> None:
    expected, expected_ids, ids = memory_over(once, NEVER, **options), list[str](), list[str]()
    processes = [memory_over(later, 200, **options), memory_over(later, ALWAYS, **options)]
    for step in history:
        kind, process, number, _ = step
        if kind == "kill":
            await kill(processes[process])
        elif kind == "pause":
            for _ in range(number):
                await asyncio.sleep(0)
        elif kind == "view" and ids:
            await processes[process].view("c", token_budget=4_000)
        else:
            result = await run(step, processes[process], ids)
            assert result == await run(step, expected, expected_ids)
    if ids:
        assert ids == expected_ids
        assert await everything(processes[0]) == await everything(expected)
        assert await later.unindexed() == []
    for memory in (processes[1], processes[0], expected):
        await memory.close()


@settings(max_examples=40, deadline=None)
@given(steps)
async def test_indexing_later_gives_what_one_commit_gives(history: list[Step]) -> None:
    await compare(history, InMemoryStore(), InMemoryStore())


@settings(max_examples=12, deadline=None)
@given(steps)
async def test_it_does_in_files_too(history: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        stores = [SqliteStore(Path(folder), durability="normal") for folder in (a, b)]
        await compare(history, *stores, embedder=load_embedder("auto"))


class DyingPool(WorkerPool):
    """Workers that die whenever they begin to index."""

    async def run(self, function: Callable[..., Generator[Any, None, Any]], *args: Any) -> Any:
        if function is index_in_steps:
            raise StoreUnavailable("The process that computes large requests died twice.", "Try again.")
        return await super().run(function, *args)


LONG = [NewTurn(("user", "assistant")[i % 2], f"{i}. Where does the parser fail, and why? " * 30) for i in range(40)]


@pytest.mark.parametrize("indexed", [0, 1, 30])
@pytest.mark.parametrize("budget", [400, 2_000, 8_000])
async def test_a_view_says_what_is_not_indexed_and_shows_each_turn_once(indexed: int, budget: int) -> None:
    store = InMemoryStore()
    if indexed:
        await memory_over(store, NEVER).sync(LONG[:indexed], conversation_id="c")
    memory = memory_over(store, ALWAYS, workers=DyingPool())
    await memory.sync(LONG, conversation_id="c")
    view = await memory.view("c", query="parser", token_budget=budget)
    header = json.loads(view.header)
    assert header["turns_not_indexed"] == 40 - indexed
    assert (header["turns"], header["head"]) == (40, (await memory.head("c")).id)
    assert header["tokens"] == sum(turn.tokens for turn in await memory.history("c"))
    assert tokenizer.count(view.render()) == view.shown_tokens <= budget
    assert turns_in(parse_view(view.text)) == list(range(40))
    if budget == 8_000:
        assert LONG[-1].content in view.text
    found = await memory.search("parser", conversation_id="c")
    assert found.unreadable == {"c": f"{40 - indexed} turns are not indexed yet; their words are not found."}
    assert bool(found.hits) == bool(indexed)
    everywhere = await memory.search("parser")
    assert everywhere.unreadable == found.unreadable
    assert "turns_not_indexed" in (await memory.hand_off("c")).header
    assert (await memory.expand("c", "t39")).text == LONG[39].content
    assert [turn.content for turn in await memory.history("c")] == [turn.content for turn in LONG]


CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from ctxmem_mcp import NewTurn
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

async def main():
    memory = Memory(SqliteStore(Path(sys.argv[1])), ExtractiveSummarizer(), index_later_chars=0)
    turns = [NewTurn("user", f"{i}. The parser fails on an empty line. " * 50) for i in range(200)]
    await memory.sync(turns, conversation_id="c")
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_process_killed_after_the_answer_loses_nothing(tmp_path: Path) -> None:
    child = await anyio.run_process([sys.executable, "-c", CHILD, str(tmp_path)], check=False)
    assert child.returncode == -signal.SIGKILL
    store = SqliteStore(tmp_path)
    memory = Memory(store, ExtractiveSummarizer())
    try:
        assert await store.unindexed() == ["c"]
        assert len(await memory.history("c")) == 200
        assert (await memory.conversations()).conversations[0].turns == 200
        await memory.index_all()
        assert await store.unindexed() == []
        assert await memory.verify("c") == []
        assert (await memory.search("empty line", conversation_id="c")).hits
    finally:
        await memory.close()


async def test_unindexed_turns_are_forgotten_verified_and_repaired_like_others(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    memory = memory_over(store, ALWAYS, workers=DyingPool())
    ids = (await memory.sync(LONG, conversation_id="c")).turn_ids
    await memory.sync([NewTurn("user", "Only this branch says zanzibar.")], conversation_id="c", after=ids[3])
    assert await memory.verify("c") == []
    await memory.forget("c", "c", turn_id=(await memory.head("c")).id)
    assert not any(b"zanzibar" in data for data in raw_files(tmp_path).values())
    assert [turn.id for turn in await memory.history("c")] == ids
    await memory.sync([NewTurn("user", "And now?")], conversation_id="c", after=ids[-1])
    assert await store.unindexed() == ["c"]
    assert (await memory.repair("c")).turns == 41
    assert await store.unindexed() == []
    assert await memory.verify("c") == []
    await memory.sync([NewTurn("user", "And then?")], conversation_id="c", after=(await memory.head("c")).id)
    assert (await memory.forget("c", "c")).turns == 42
    await memory.close()
