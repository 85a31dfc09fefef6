"""Opening ids: what the first line says of them, and that every id that a view shows opens what it stands for there."""

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
    """A memory of one conversation that went two ways, and the last turn of the way that was left."""
    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_750_000_000.0)
    left = [await memory.append(_said("left", i), conversation_id="c") for i in range(LEFT_TURNS)]
    await memory.revert("c", left[FORKED_AT].turn_id)
    for i in range(FORKED_AT + 1, TURNS):
        await memory.append(_said("kept", i), conversation_id="c")
    return memory, left[-1].turn_id


def _said(way: str, i: int) -> NewTurn:
    # One number that is in no other turn: what is opened is told by it.
    text = f"Step {i} of the way {way}.\n" + f"The {way} migration moves table {i} to the new schema. " * 4
    return NewTurn("user" if i % 2 else "assistant", text)


@pytest.mark.parametrize("layout", ["tree", "stable"])
@pytest.mark.parametrize("budget", [500, 1_500, 3_000])
async def test_a_span_in_the_view_of_a_branch_that_was_left_opens_there(
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


async def test_on_the_heads_branch_a_span_needs_no_digits(forked: tuple[Memory, str]) -> None:
    memory, _ = forked
    spans = _SPAN.findall((await memory.view("c", query="table 55", token_budget=600)).text)
    assert spans
    assert all(re.fullmatch(r"t\d+(-t\d+)?", span) for span, _, _ in spans)


async def test_where_the_head_is_leaves_the_stable_prefix_as_it_is(forked: tuple[Memory, str]) -> None:
    memory, last = forked
    aside = await memory.view("c", turn_id=last, token_budget=500, layout="stable")
    await memory.revert("c", last)
    on_it = await memory.view("c", turn_id=last, token_budget=500, layout="stable")
    assert json.loads(on_it.header)["stable_prefix_sha256"] == json.loads(aside.header)["stable_prefix_sha256"]


@pytest.mark.parametrize("span", ["t3-t1", "t3-t70", "t1-000-t3", "t1-t3-000", "t40-t119"])
async def test_a_span_that_is_none_is_not_found(forked: tuple[Memory, str], span: str) -> None:
    with pytest.raises(NotFound, match="No "):
        await forked[0].expand("c", span)


@pytest.mark.parametrize("opens", ["t3", "t3-t9", "n0-", "t99-"])
async def test_the_first_line_tells_the_head_and_what_is_opened(forked: tuple[Memory, str], opens: str) -> None:
    memory, last = forked
    here, there = await memory.turns("c"), await memory.turns("c", turn_id=last)
    node = (await memory.outline("c"))[0]
    assert node.id
    named = {"t99-": there[99].id, "n0-": node.id}.get(opens, opens)
    stands_for = {"t3": here[3:4], "t3-t9": here[3:10], "n0-": here[: node.last + 1], "t99-": there[99:100]}[opens]
    view = await memory.expand("c", named, token_budget=2_000)
    said = json.loads(view.header)
    assert said["head"] == here[-1].id
    assert (said["turns"], said["tokens"]) == (len(stands_for), sum(turn.tokens for turn in stands_for))
    assert said["shown_tokens"] == tokenizer.count(view.render()) <= 2_000


@pytest.mark.parametrize("words", ["x", "🧵𒀀" * 30, "﷽" * 30, "word\n" * 100])
async def test_the_smallest_budget_that_a_refusal_names_is_enough(words: str) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_750_000_000.0)
    for i in range(60):
        await memory.append(NewTurn("assistant" if i % 2 else "user", f"{words}{i}"), conversation_id="c")
    for opens in ("t3", "t1-t5", str((await memory.outline("c"))[0].id)):
        with pytest.raises(BudgetTooSmall) as refused:
            await memory.expand("c", opens, token_budget=10)
        view = await memory.expand("c", opens, token_budget=refused.value.floor)
        assert tokenizer.count(view.render()) <= refused.value.floor
