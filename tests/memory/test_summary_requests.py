"""A view asks for better summaries: where it matters, of what is collapsed in it, and within its budget."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, OutlineNode, View
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.summary_requests import BUDGET_MIN, NODE_TOKENS_MIN, REQUEST_TOKENS, TIMES_THE_BUDGET
from tests.view_parser import read, told

pytestmark = pytest.mark.anyio

QUERIES = [None, "what failed in file 17?", "what errors did we meet?", "tell me everything"]


def opened(**more: Any) -> Memory:
    return Memory(
        InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_750_000_000.0, **{"request_summaries": True, **more}
    )


def history(requests: int) -> list[NewTurn]:
    """About 450 tokens a request."""
    return [
        turn
        for i in range(requests)
        for turn in (
            NewTurn("user", f"Please look at file {i} and say what fails there. " + "It matters much. " * 20),
            NewTurn("assistant", f"File {i} failed: error E{i:04d}. " + f"Then token{i} was looked at. " * 40),
        )
    ]


async def long(**more: Any) -> Memory:
    memory = opened(**more)
    await memory.sync(history(300), conversation_id="c")
    return memory


def wanted_in(view: View) -> list[str] | None:
    found = json.loads(view.header).get("summaries_wanted")
    assert found is None or found
    return found


async def nodes(memory: Memory) -> dict[str, OutlineNode]:
    """By id as views show it."""
    found: dict[str, OutlineNode] = {}

    def walk(node: OutlineNode) -> None:
        found[re.sub(r"\d{9}$", "", node.id or "")] = node
        for child in node.children:
            walk(child)

    for root in await memory.outline("c"):
        walk(root)
    return found


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("budget", [BUDGET_MIN, 9_003, 12_000])
async def test_the_largest_collapsed_nodes_are_named_within_the_budget(budget: int, query: str | None) -> None:
    memory = await long()
    view = await memory.view("c", query=query, token_budget=budget, reader_can_write=True)
    assert view.shown_tokens == tokenizer.count(view.render()) <= budget
    parts = read(view.text)
    assert told(parts) == list(range(600))
    verbatim = {part.first for part in parts if part.kind == "turn"}
    names = wanted_in(view)
    assert names
    assert len(names) <= 2
    known = await nodes(memory)
    sizes = [known[name].tokens for name in names]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= NODE_TOKENS_MIN
    for name in names:
        assert not verbatim & set(range(known[name].first, known[name].last + 1)), "it is opened, not collapsed"


async def test_asking_costs_the_view_no_more_than_was_set_aside() -> None:
    memory = await long()
    for query in QUERIES:
        for budget in (8_000, 12_000):
            plain = await memory.view("c", query=query, token_budget=budget)
            asks = await memory.view("c", query=query, token_budget=budget, reader_can_write=True)
            cost = tokenizer.count(asks.header) - tokenizer.count(plain.header)
            assert 0 < cost <= REQUEST_TOKENS


async def test_what_was_told_is_not_asked_for_again_until_nothing_is() -> None:
    memory = await long()
    asked: set[str] = set()
    while names := wanted_in(await memory.view("c", query="file 3", token_budget=8_000, reader_can_write=True)):
        assert not asked & set(names)
        asked |= set(names)
        for name in names:
            await memory.write_summary("c", name, "Files looked at", "Each failed with an error of its own.")
    assert asked


@pytest.mark.parametrize(
    ("asks", "asked"),
    [
        ({"request_summaries": False}, {}),
        ({}, {"reader_can_write": False}),
        ({}, {"layout": "stable"}),
        ({}, {"token_budget": BUDGET_MIN - 1}),
        ({}, {"turn_id": "t30"}),
        ({}, {"token_budget": 100_000}),
    ],
    ids=["not this memory", "no writer", "stable", "small view", "short branch", "large view"],
)
async def test_elsewhere_nothing_is_asked_and_the_view_is_the_same(asks: Any, asked: dict[str, Any]) -> None:
    memory = await long(**asks)
    given = {"query": "file 3", "token_budget": 8_000, **asked}
    view = await memory.view("c", **{"reader_can_write": True, **given})
    assert wanted_in(view) is None
    assert view.render() == (await memory.view("c", **given)).render()


async def test_a_conversation_of_less_than_four_views_is_not_asked_about() -> None:
    memory = opened()
    await memory.sync(history(30), conversation_id="c")
    whole = (await memory.info("c")).tokens
    assert whole < BUDGET_MIN * TIMES_THE_BUDGET
    assert wanted_in(await memory.view("c", token_budget=BUDGET_MIN, reader_can_write=True)) is None
