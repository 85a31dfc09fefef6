"""Laying out: the same turns in fewer lines, and what that leaves room for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Node
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.views.layout import Collapsed, Expanded, Gap, Item, covered_turns, merge_collapsed
from tests.view_parser import parse_view, turns_in


@st.composite
def tilings(draw: st.DrawFn) -> list[Item]:
    """Items of a view in order; what opens is said to hold whatever follows."""
    items: list[Item] = []
    at = 0
    for kind in draw(st.lists(st.sampled_from(["folded", "inner", "leaf"]), max_size=20)):
        level, width, depth = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(0, 5))
        if kind == "inner":
            items.append(Expanded(Node(b"", level, at, at + width, 1, 0), depth))
            continue
        node = Node(bytes([len(items)]), 0 if kind == "leaf" else level, at, at + width - 1, 10, 0)
        items += (
            [Collapsed((node,), depth)] if kind == "folded" else [Expanded(node, depth), Gap(at, at + width - 1, 10)]
        )
        at += width
    return items


@given(tilings())
def test_merging_keeps_every_turn_in_its_place_and_leaves_no_two_folded_side_by_side(items: list[Item]) -> None:
    fewer = merge_collapsed(items)
    assert covered_turns(fewer) == covered_turns(items)
    assert sum(item.tokens for item in fewer if isinstance(item, Collapsed)) == sum(
        item.tokens for item in items if isinstance(item, Collapsed)
    )
    outline = [item for item in fewer if not (isinstance(item, Expanded) and item.node.level)]
    assert not any(isinstance(a, Collapsed) and isinstance(b, Collapsed) for a, b in pairwise(outline))
    assert [item for item in fewer if isinstance(item, Gap)] == [item for item in items if isinstance(item, Gap)]


@pytest.mark.anyio
async def test_what_is_scattered_over_a_long_history_is_shown() -> None:
    memory, turns = Memory(InMemoryStore(), ExtractiveSummarizer()), 6_000
    said = ["Step {}: the porcelain valve was checked." if i % 97 == 5 else "Step {} of many." for i in range(turns)]
    history = [
        NewTurn("user" if i % 2 else "assistant", text.format(i) + " Nothing to add." * 8)
        for i, text in enumerate(said)
    ]
    await memory.sync(history, conversation_id="c")
    view = await memory.view("c", query="porcelain valve", token_budget=2_000)
    parts = parse_view(view.text)
    assert turns_in(parts) == list(range(turns))
    # With a line for each level on the way down to each of them there would be room for 14.
    assert len([part for part in parts if part.kind == "turn" and part.first % 97 == 5]) >= 18
