"""expand: what the header states, and that every id in a view expands to what the view shows it for."""

from __future__ import annotations

import json
import re

import pytest

from ctxmem_mcp.errors import BudgetTooSmall, NotFound
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer

pytestmark = pytest.mark.anyio

_SPAN = re.compile(r"^ *\[(?:… )?(t(\d+)(?:-t(\d+))?(?:-\d{3})?) [\d.]+k?\]", re.MULTILINE)
FORKED_AT, LEFT_TURNS, TURNS = 30, 120, 70


@pytest.fixture
async def forked() -> tuple[Memory, str]:
    """Returns a memory with one forked conversation, and the last turn of the branch that the head left."""
    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_750_000_000.0)
    left = [await memory.append(_turn("left", i), conversation_id="c") for i in range(LEFT_TURNS)]
    await memory.revert("c", left[FORKED_AT].turn_id)
    for i in range(FORKED_AT + 1, TURNS):
        await memory.append(_turn("right", i), conversation_id="c")
    return memory, left[-1].turn_id


def _turn(way: str, i: int) -> NewTurn:
    # The number and branch occur in no other turn, so they identify it.
    text = f"Step {i} of the way {way}.\n" + f"The {way} migration moves table {i} to the new schema. " * 4
    return NewTurn("user" if i % 2 else "assistant", text)


@pytest.mark.parametrize("layout", ["tree", "stable"])
@pytest.mark.parametrize("budget", [500, 1_500, 3_000])
async def test_a_span_in_the_view_of_another_branch_expands_on_that_branch(
    forked: tuple[Memory, str], layout: str, budget: int
) -> None:
    memory, last = forked
    view = await memory.view("c", query="table 55", turn_id=last, token_budget=budget, layout=layout)
    spans = _SPAN.findall(view.text)
    assert spans
    for span, first, end in spans:
        opened = await memory.expand("c", span, token_budget=100_000)
        for i in range(int(first), int(end or first) + 1):
            assert f"Step {i} of the way left" in opened.text, span


async def test_a_span_on_the_heads_branch_needs_no_digits(forked: tuple[Memory, str]) -> None:
    memory, _ = forked
    spans = _SPAN.findall((await memory.view("c", query="table 55", token_budget=600)).text)
    assert spans
    assert all(re.fullmatch(r"t\d+(-t\d+)?", span) for span, _, _ in spans)


async def test_the_stable_prefix_does_not_depend_on_the_head(forked: tuple[Memory, str]) -> None:
    memory, last = forked
    other = await memory.view("c", turn_id=last, token_budget=500, layout="stable")
    await memory.revert("c", last)
    on_head = await memory.view("c", turn_id=last, token_budget=500, layout="stable")
    assert json.loads(on_head.header)["stable_prefix_sha256"] == json.loads(other.header)["stable_prefix_sha256"]


@pytest.mark.parametrize("span", ["t3-t1", "t3-t70", "t1-000-t3", "t1-t3-000", "t40-t119"])
async def test_an_invalid_span_is_not_found(forked: tuple[Memory, str], span: str) -> None:
    with pytest.raises(NotFound, match="No "):
        await forked[0].expand("c", span)


@pytest.mark.parametrize("opens", ["t3", "t3-t9", "n0-", "t99-"])
async def test_the_header_states_the_head_and_the_size_of_what_is_expanded(
    forked: tuple[Memory, str], opens: str
) -> None:
    memory, last = forked
    here, there = await memory.turns("c"), await memory.turns("c", turn_id=last)
    node = (await memory.outline("c"))[0]
    assert node.id
    node_id = {"t99-": there[99].id, "n0-": node.id}.get(opens, opens)
    expected = {"t3": here[3:4], "t3-t9": here[3:10], "n0-": here[: node.last + 1], "t99-": there[99:100]}[opens]
    view = await memory.expand("c", node_id, token_budget=2_000)
    header = json.loads(view.header)
    assert header["head"] == here[-1].id
    assert (header["turns"], header["tokens"]) == (len(expected), sum(turn.tokens for turn in expected))
    assert header["shown_tokens"] == tokenizer.count(view.render()) <= 2_000


@pytest.mark.parametrize("text", ["x", "🧵𒀀" * 30, "﷽" * 30, "word\n" * 100])
async def test_the_floor_that_an_error_names_is_enough(text: str) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_750_000_000.0)
    for i in range(60):
        await memory.append(NewTurn("assistant" if i % 2 else "user", f"{text}{i}"), conversation_id="c")
    for opens in ("t3", "t1-t5", str((await memory.outline("c"))[0].id)):
        with pytest.raises(BudgetTooSmall) as raised:
            await memory.expand("c", opens, token_budget=10)
        view = await memory.expand("c", opens, token_budget=raised.value.floor)
        assert tokenizer.count(view.render()) <= raised.value.floor
