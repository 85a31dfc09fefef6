"""Views of a conversation that grows between them."""

from __future__ import annotations

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.embeddings import load_embedder

pytestmark = pytest.mark.anyio

QUERIES = ("why does the parser fail on line 3", "what did Ann say at 10:00 about tests", None)


def memory_of(store: InMemoryStore) -> Memory:
    return Memory(store, ExtractiveSummarizer(), embedder=load_embedder("on"), clock=lambda: 1_800_000_000.0)


def some_turns(number: int, name: str) -> list[NewTurn]:
    time = f"2026-01-05T{10 + number // 60:02}:{number % 60:02}:00Z"
    return [
        NewTurn("user", f"Case {number}: the parser fails on line {number % 7}, why?", name, time),
        NewTurn("assistant", f'{{"command": "pytest -k case{number}"}}', "bash", time, f"call{number}"),
        NewTurn("tool", f"FAILED tests/test_{number}.py: line {number % 5}\n" * 4, "bash", time, f"call{number}"),
    ]


async def test_a_view_after_appends_is_that_of_a_memory_which_has_read_nothing_before() -> None:
    store = InMemoryStore()
    warm = memory_of(store)
    await warm.sync([turn for i in range(60) for turn in some_turns(i, "Ann")], conversation_id="c")
    fork = (await warm.head("c")).id
    for step in range(6):
        for query in QUERIES:
            cold = memory_of(store)
            expected = (await cold.view("c", query=query, token_budget=2_000)).text
            assert (await warm.view("c", query=query, token_budget=2_000)).text == expected
        if step == 3:
            await warm.revert("c", fork)
        for turn in some_turns(100 + step, "Bob" if step % 2 else "Cy"):
            await warm.append(turn, conversation_id="c")
