"""Merging collapsed nodes: the same turns in fewer lines, and room for more excerpts."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from bench.misses import read_branch
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.branch_reader import load_snapshot, with_paths_to
from ctxmem_mcp.models import EMPTY_SUMMARY, NewTurn, Node, Turn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.tokenizer import count
from ctxmem_mcp.views.budget import Draft, fit_outline
from ctxmem_mcp.views.excerpt_groups import ExcerptGroup, ExcerptRef
from ctxmem_mcp.views.layout import (
    CharSpan,
    Collapsed,
    Expanded,
    Gap,
    Item,
    OmittedCache,
    Quote,
    covered_turns,
    merge_collapsed,
    merge_omitted,
    tile,
    tile_compactly,
)
from ctxmem_mcp.views.page_layout import FitInput, PageLayout
from tests.view_parser import parse_view, turns_in


@st.composite
def tilings(draw: st.DrawFn) -> list[Item]:
    """Items of a view in order. Expanded inner nodes need not contain what follows them."""
    items: list[Item] = []
    at = 0
    for kind in draw(st.lists(st.sampled_from(["collapsed", "inner", "leaf"]), max_size=20)):
        level, width, depth = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(0, 5))
        if kind == "inner":
            items.append(Expanded(Node(b"", level, at, at + width, 1, 0), depth))
            continue
        node = Node(bytes([len(items)]), 0 if kind == "leaf" else level, at, at + width - 1, 10, 0)
        items += (
            [Collapsed((node,), depth)] if kind == "collapsed" else [Expanded(node, depth), Gap(at, at + width - 1, 10)]
        )
        at += width
    return items


@given(tilings())
def test_merging_keeps_all_turns_in_order_and_leaves_no_adjacent_collapsed_items(items: list[Item]) -> None:
    fewer = merge_collapsed(items)
    assert covered_turns(fewer) == covered_turns(items)
    assert sum(item.tokens for item in fewer if isinstance(item, Collapsed)) == sum(
        item.tokens for item in items if isinstance(item, Collapsed)
    )
    outline = [item for item in fewer if not (isinstance(item, Expanded) and item.node.level)]
    assert not any(isinstance(a, Collapsed) and isinstance(b, Collapsed) for a, b in pairwise(outline))
    assert [item for item in fewer if isinstance(item, Gap)] == [item for item in items if isinstance(item, Gap)]


@given(tilings(), st.sets(st.integers(0, 25)))
def test_a_compact_view_has_one_item_for_all_turns_between_two_quotes(items: list[Item], quoted: set[int]) -> None:
    turn = Turn(1, 0, b"", "user", "text", None, None, None, 1)
    for at in sorted(quoted):
        items.insert(min(2 * at, len(items)), Quote.all_of(turn))
    fewer = merge_omitted(items)
    assert covered_turns(fewer) == covered_turns(items)
    assert not any(isinstance(item, Expanded) for item in fewer)
    assert not any(not isinstance(a, Quote) and not isinstance(b, Quote) for a, b in pairwise(fewer))
    assert _tokens(fewer) == _tokens(items)


@pytest.mark.anyio
async def test_a_compact_layout_is_the_layout_of_the_tree_with_the_omitted_turns_merged() -> None:
    store, rng = InMemoryStore(), random.Random(11)
    memory = Memory(store, ExtractiveSummarizer())
    words = [f"word{i}" for i in range(200)]
    history = [
        NewTurn("user" if rng.random() < 0.3 else "assistant", " ".join(rng.choices(words, k=rng.choice((5, 90, 700)))))
        for _ in range(260)
    ]
    await memory.sync(history, conversation_id="c")
    branch = await read_branch(store, "c")
    whole = await load_snapshot(branch)
    assert any(node.level > 1 for node in whole.roots)
    for quoted in (0, 1, 2, 5, 40, 200) * 4:
        chosen = sorted(rng.sample(range(whole.length), quoted))
        snapshot, turns = await with_paths_to(branch, whole, chosen), await branch.turns(chosen)
        inner = [node.digest for node in snapshot.nodes.values() if all(one in snapshot.nodes for one in node.children)]
        snapshot = replace(snapshot, expanded=frozenset(d for d in inner if snapshot.nodes[d].level and quoted % 2))
        shown = {index: Quote.all_of(turns[index]) for index in chosen}
        expected, cache = merge_omitted(tile(snapshot, shown)), OmittedCache()
        assert tile_compactly(snapshot, shown, cache) == tile_compactly(snapshot, shown, cache) == expected
    await memory.close()


@pytest.mark.anyio
async def test_a_compact_view_quotes_no_more_once_the_titles_of_its_outline_are_read() -> None:
    store = InMemoryStore()
    memory = Memory(store, ExtractiveSummarizer())
    await memory.sync([NewTurn("user", f"We deploy host {i} today. " * 9) for i in range(200)], conversation_id="c")
    branch, chosen = await read_branch(store, "c"), [10, 100, 190]
    snapshot = await with_paths_to(branch, await load_snapshot(branch), chosen)
    turns = await branch.turns(chosen)
    groups = [ExcerptGroup((ExcerptRef(i, CharSpan(0, len(turns[i].content), turns[i].tokens)),)) for i in chosen]
    shown = list[int]()

    def title_of(node: Node) -> str:
        shown.append(node.first)
        return f"Title {node.first}"

    spec = FitInput(snapshot, groups, turns, lambda node: EMPTY_SUMMARY, count, compact=True, title_of=title_of)
    layout = PageLayout(spec, [0, 2])
    fitted = fit_outline(Draft(spec, layout, layout.tokens()), 4_000)
    assert fitted.items == layout.items
    assert shown
    assert all(f"Title {first}" in fitted.text for first in shown)
    await memory.close()


def _tokens(items: list[Item]) -> int:
    return sum(item.tokens for item in items if not isinstance(item, (Quote, Expanded)))


@pytest.mark.anyio
@pytest.mark.parametrize("budget", [1_000, 2_000, 4_000])
async def test_a_view_for_a_query_spends_its_budget_on_quotes(budget: int) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    talk = "The porcelain valve {} was checked for leaks, and the pressure held." + " It takes a whole day." * 12
    history = [NewTurn("user" if i % 2 else "assistant", talk.format(i) if i % 31 == 5 else "Go on. " * 60)
               for i in range(1_500)]  # fmt: skip
    await memory.sync(history, conversation_id="c")
    view = await memory.view("c", query="Which porcelain valve was checked for leaks?", token_budget=budget)
    quoted = sum(count("\n".join(part.lines)) for part in parse_view(view.text) if part.kind == "turn")
    assert quoted >= 0.7 * budget


@pytest.mark.anyio
async def test_matches_scattered_over_a_long_history_are_shown() -> None:
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
    # With an outline line for each level above each of them, only 14 would fit.
    assert len([part for part in parts if part.kind == "turn" and part.first % 97 == 5]) >= 18
