"""A text that continues a stable view: within its budget, about every turn since, the same whatever comes later."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.stable_prefix import QUERY_MARKER
from tests.histories import turns
from tests.memory.test_stable_view import long_turns, new_memory
from tests.view_parser import parse_view, turns_in

pytestmark = pytest.mark.anyio


@settings(max_examples=40)
@given(turns(40), st.data(), st.sampled_from([80, 500, 2_000]), st.sampled_from([None, "what failed in limits.py?"]))
async def test_every_turn_since_the_view_once_within_the_budget(
    history: list[NewTurn], data: st.DataObject, budget: int, query: str | None
) -> None:
    memory = new_memory()
    ids = (await memory.sync(history, conversation_id="c")).turn_ids
    if len(ids) < 2:
        return
    last = data.draw(st.integers(1, len(ids) - 1))
    after = data.draw(st.integers(0, last - 1))

    async def continued(omitted: frozenset[int] = frozenset()) -> str:
        return await memory.continue_view(
            "c", after=ids[after], turn_id=ids[last], query=query, token_budget=budget, omitted_turns=omitted
        )

    text = await continued()
    assert tokenizer.count(text) <= budget
    assert turns_in(parse_view(text.partition(QUERY_MARKER)[0])) == list(range(after + 1, last + 1))
    assert all(part.first > after for part in parse_view(text.replace(QUERY_MARKER, "")))
    assert not re.search(rf"^\[t{last}-\d+ \w+", await continued(frozenset([last])), re.MULTILINE)
    await memory.append(NewTurn("user", "And what else?"), conversation_id="c")
    assert await continued() == text


async def test_leaves_that_closed_since_have_a_line_and_the_newest_turns_are_quoted() -> None:
    memory, history = new_memory(), long_turns(120)
    ids = (await memory.sync(history, conversation_id="c")).turn_ids
    text = await memory.continue_view("c", after=ids[30], token_budget=1_500)
    assert "[n" in text
    assert history[-1].content in text


async def test_a_new_query_may_quote_turns_from_before() -> None:
    memory = new_memory()
    ids = (await memory.sync(long_turns(120), conversation_id="c")).turn_ids
    query = "word17x3 word17x4"
    plain = await memory.continue_view("c", after=ids[90], query=query, token_budget=1_500)
    assert "Step 17: word17x0" not in plain
    wide = await memory.continue_view("c", after=ids[90], query=query, token_budget=1_500, looks_back=True)
    assert "Step 17: word17x0" in wide.partition(QUERY_MARKER)[2]
