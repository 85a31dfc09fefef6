"""A view requests better summaries of large nodes that it shows collapsed, within its budget."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.results import OutlineNode, View
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.summary_requests import BUDGET_MIN, NODE_TOKENS_MIN, REQUEST_TOKENS, TIMES_THE_BUDGET
from tests.view_parser import parse_view, turns_in

pytestmark = pytest.mark.anyio

QUERIES = [None, "what failed in file 17?", "what errors did we meet?", "tell me everything"]


def new_memory(**more: Any) -> Memory:
    return Memory(
        InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_750_000_000.0, **{"request_summaries": True, **more}
    )


def history(requests: int) -> list[NewTurn]:
    """About 450 tokens per request."""
    return [
        turn
        for i in range(requests)
        for turn in (
            NewTurn("user", f"Please look at file {i} and say what fails there. " + "It matters much. " * 20),
            NewTurn("assistant", f"File {i} failed: error E{i:04d}. " + f"Then token{i} was looked at. " * 40),
        )
    ]


async def long_conversation(**more: Any) -> Memory:
    memory = new_memory(**more)
    await memory.sync(history(300), conversation_id="c")
    return memory


def requested_in(view: View) -> list[str] | None:
    found = json.loads(view.header).get("summaries_wanted")
    assert found is None or found
    return found


async def nodes(memory: Memory) -> dict[str, OutlineNode]:
    """Returns the nodes by id, as views show it."""
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
    memory = await long_conversation()
    view = await memory.view("c", query=query, token_budget=budget, reader_can_write=True)
    assert view.shown_tokens == tokenizer.count(view.render()) <= budget
    parts = parse_view(view.text)
    assert turns_in(parts) == list(range(600))
    verbatim = {part.first for part in parts if part.kind == "turn"}
    names = requested_in(view)
    assert names
    assert len(names) <= 2
    known = await nodes(memory)
    sizes = [known[name].tokens for name in names]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= NODE_TOKENS_MIN
    for name in names:
        assert not verbatim & set(range(known[name].first, known[name].last + 1)), "it is expanded, not collapsed"


async def test_requests_cost_the_view_no_more_than_was_reserved() -> None:
    memory = await long_conversation()
    for query in QUERIES:
        for budget in (8_000, 12_000):
            plain = await memory.view("c", query=query, token_budget=budget)
            requesting = await memory.view("c", query=query, token_budget=budget, reader_can_write=True)
            cost = tokenizer.count(requesting.header) - tokenizer.count(plain.header)
            assert 0 < cost <= REQUEST_TOKENS


async def test_a_written_summary_is_not_requested_again() -> None:
    memory = await long_conversation()
    requested: set[str] = set()
    while names := requested_in(await memory.view("c", query="file 3", token_budget=8_000, reader_can_write=True)):
        assert not requested & set(names)
        requested |= set(names)
        for name in names:
            await memory.write_summary("c", name, "Files looked at", "Each failed with an error of its own.")
    assert requested


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"request_summaries": False}, {}),
        ({}, {"reader_can_write": False}),
        ({}, {"layout": "stable"}),
        ({}, {"token_budget": BUDGET_MIN - 1}),
        ({}, {"turn_id": "t30"}),
        ({}, {"token_budget": 100_000}),
    ],
    ids=["off in this memory", "reader cannot write", "stable", "small view", "short branch", "large view"],
)
async def test_otherwise_nothing_is_requested_and_the_view_is_the_same(options: Any, arguments: dict[str, Any]) -> None:
    memory = await long_conversation(**options)
    given = {"query": "file 3", "token_budget": 8_000, **arguments}
    view = await memory.view("c", **{"reader_can_write": True, **given})
    assert requested_in(view) is None
    assert view.render() == (await memory.view("c", **given)).render()


async def test_no_summary_of_a_conversation_of_less_than_four_views_is_requested() -> None:
    memory = new_memory()
    await memory.sync(history(30), conversation_id="c")
    whole = (await memory.info("c")).tokens
    assert whole < BUDGET_MIN * TIMES_THE_BUDGET
    assert requested_in(await memory.view("c", token_budget=BUDGET_MIN, reader_can_write=True)) is None
