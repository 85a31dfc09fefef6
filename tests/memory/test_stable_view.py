"""The stable prefix and the other properties of views in the stable layout."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.errors import BudgetTooSmall
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.results import View
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.stable_prefix import QUERY_MARKER
from tests.histories import turns
from tests.view_parser import parse_view, turns_in

pytestmark = pytest.mark.anyio


def new_memory() -> Memory:
    return Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_750_000_000.0)


def prefix_of(view: View) -> str:
    header = json.loads(view.header)
    prefix = view.text[: header["stable_prefix_chars"]]
    assert hashlib.sha256(prefix.encode()).hexdigest() == header["stable_prefix_sha256"]
    return prefix


def long_turns(count: int) -> list[NewTurn]:
    """A session long enough to close inner nodes."""
    history = []
    for i in range(count):
        words = " ".join(f"word{i}x{j}" for j in range(60))
        role = ("user", "assistant", "assistant", "tool")[i % 4]
        history.append(NewTurn(role, f"Step {i}: {words}.", call_id=f"c{i // 4}" if i % 4 > 1 else None))  # type: ignore[arg-type]
    return history


async def test_the_prefix_changes_only_from_the_place_of_a_closed_inner_node_on() -> None:
    memory, before, collapsed = new_memory(), "", 0
    known: set[tuple[int, int]] = set()
    for turn in long_turns(240):
        await memory.append(turn, conversation_id="c")
        prefix = prefix_of(await memory.view("c", layout="stable", token_budget=8_000))
        inner = {(root.first, root.last) for root in await memory.outline("c") if root.children} - known
        known |= inner
        if inner:
            collapsed += 1
            at = re.search(rf"^\[[tn]{min(first for first, _ in inner)}-", before, re.MULTILINE)
            assert at is not None
            assert prefix.startswith(before[: at.start()])
        else:
            assert prefix.startswith(before)
        before = prefix
    assert collapsed >= 3


@given(turns(40), st.sampled_from([500, 1_500, 8_000]), st.sampled_from([None, "what failed in limits.py?"]))
async def test_stable_prefix_whatever_the_history(history: list[NewTurn], budget: int, query: str | None) -> None:
    memory, before = new_memory(), ""
    for turn in history:
        done = await memory.append(turn, conversation_id="c")
        try:
            view = await memory.view("c", query=query, layout="stable", token_budget=budget)
        except BudgetTooSmall:
            assert budget < 1_000
            return
        assert tokenizer.count(view.render()) == view.shown_tokens <= budget
        prefix = prefix_of(view)
        assert turns_in(parse_view(view.text.partition(QUERY_MARKER)[0])) == list(range(done.index + 1))
        if len(done.closed_nodes) < 2:
            assert prefix.startswith(before)
        before = prefix


async def test_excerpts_for_a_query_follow_the_prefix_and_leave_it_unchanged() -> None:
    memory = new_memory()
    await memory.sync(long_turns(200), conversation_id="c")
    plain = await memory.view("c", layout="stable", token_budget=6_000)
    with_query = await memory.view("c", query="word17x3 word17x4", layout="stable", token_budget=6_000)
    assert prefix_of(plain) == prefix_of(with_query)
    rest = with_query.text[len(prefix_of(with_query)) :]
    assert "Step 17: word17x0" in rest
    assert "Step 17: word17x0" not in plain.text


async def test_the_newest_turn_is_shown_even_if_the_prefix_is_full() -> None:
    memory = new_memory()
    history = long_turns(120)
    await memory.sync(history, conversation_id="c")
    view = await memory.view("c", layout="stable", token_budget=1_500)
    assert history[-1].content in view.text


async def test_the_smallest_legal_budget_fits_a_view_of_any_turn() -> None:
    memory, conversation = new_memory(), "x7Q-" * 32
    words = "fix the parser token" + " fix the parser token" * 4
    history = [
        NewTurn(
            ("user", "assistant")[i % 2], f"step {i} {words}", None, f"2026-01-{1 + i // 100:02}T10:{i % 60:02}:00Z"
        )
        for i in range(400)
    ]
    ids = (await memory.sync(history, conversation_id=conversation)).turn_ids
    for turn_id in ids[::7]:
        view = await memory.view(conversation, query="parser", turn_id=turn_id, token_budget=500, layout="stable")
        assert tokenizer.count(view.render()) == view.shown_tokens <= 500


async def test_a_huge_turn_is_in_the_prefix_as_excerpts() -> None:
    memory = new_memory()
    huge = "\n".join(f"line {i} of a very long output" for i in range(40_000))
    await memory.append(NewTurn("user", "run it"), conversation_id="c")
    await memory.append(NewTurn("tool", huge), conversation_id="c")
    await memory.append(NewTurn("assistant", "It printed a lot."), conversation_id="c")
    view = await memory.view("c", layout="stable", token_budget=8_000)
    assert view.shown_tokens <= 8_000
    prefix = prefix_of(view)
    assert "line 0 of a very long output" in prefix
    assert "line 39999 of a very long output" in prefix
    assert "It printed a lot." in prefix


async def test_omitted_turns_are_a_line_with_their_id() -> None:
    memory = new_memory()
    for i in range(40):
        await memory.append(NewTurn("user" if i % 2 else "assistant", f"word{i}x " * 20), conversation_id="c")
    for budget in (2_000, 30_000):
        omitted = frozenset((0, 1, 5, 38))
        view = await memory.view("c", query="word5x", layout="stable", token_budget=budget, omitted_turns=omitted)
        assert view.shown_tokens <= budget
        assert not any(f"word{i}x" in view.text for i in omitted)
        assert "word39x" in view.text
