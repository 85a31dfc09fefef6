"""The last turns of a branch, and the query that they make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.histories import turns

pytestmark = pytest.mark.anyio


async def memory_with(history: list[NewTurn]) -> Memory:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_750_000_000.0)
    await memory.sync(history, conversation_id="c")
    return memory


@given(turns(), st.integers(0, 3_000), st.integers(0, 10), st.data())
async def test_the_last_turns_are_the_longest_run_that_fits(
    history: list[NewTurn], budget: int, overhead: int, data: st.DataObject
) -> None:
    memory = await memory_with(history)
    end = data.draw(st.integers(0, len(history) - 1))
    found = await memory.last_turns("c", token_budget=budget, overhead=overhead, turn_id=f"t{end}")
    branch = (await memory.history("c"))[: end + 1]
    fitting = [n for n in range(end + 2) if sum(t.tokens + overhead for t in branch[end + 1 - n :]) <= budget]
    assert found == branch[end + 1 - max(fitting) :]


async def test_the_last_turns_are_read_in_batches_as_far_as_they_fit() -> None:
    memory = await memory_with([NewTurn("user", f"turn {i}") for i in range(300)])
    assert len(await memory.last_turns("c", token_budget=10**6)) == 300


@pytest.mark.parametrize(
    ("texts", "query"),
    [
        (["Fix the parser."], "Fix the parser."),
        (["Fix the parser.", "go on"], "Fix the parser.\ngo on"),
        (["Fix the parser.", "Now look at the lexer."], "Now look at the lexer."),
        ([" ", ""], None),
    ],
)
async def test_the_users_last_words_are_the_query(texts: list[str], query: str | None) -> None:
    memory = await memory_with([turn for text in texts for turn in (NewTurn("user", text), NewTurn("assistant", "ok"))])
    assert await memory.last_user_query("c") == query


async def test_turns_are_quoted_as_in_a_view() -> None:
    memory = await memory_with([NewTurn("user", "Fix the parser."), NewTurn("assistant", "Done.")])
    assert memory.quote(await memory.turns("c")) in (await memory.view("c")).text
