"""A view quotes one of several outputs that say the same, and has room for what else matters."""

from __future__ import annotations

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

pytestmark = pytest.mark.anyio

CHECK = (
    "Starting the type check of the relay\n"
    + "".join(f"  _build/dev/lib/relay/ebin/Elixir.Relay.Part{part}.beam\n" for part in "ABCDEFGHIJKLMNOP")
    + "done in {seconds} s\nlib/relay.ex:{line}: the pattern can never match the type error\n"
)
SOURCE = "defmodule Relay.Clause{number} do\n" + "".join(
    f"  def match_{word}_{{number}}(pattern), do: pattern.{word}_{{number}}\n"
    for word in ("alpha", "beta", "gamma", "delta")
)
ROUNDS = 6


def session() -> list[NewTurn]:
    turns = [NewTurn("user", "The type check of the relay fails. Find the pattern that can never match.")]
    for number in range(ROUNDS):
        turns += [
            NewTurn("tool", SOURCE.format(number=number), "Read", call_id=f"read-{number}"),
            NewTurn("tool", CHECK.format(seconds=number + 10, line=57 + number), "Bash", call_id=f"check-{number}"),
        ]
    return turns


@pytest.mark.parametrize(("budget", "checks"), [(1_200, 1), (16_000, ROUNDS)])
async def test_a_check_that_fails_again_and_again_is_quoted_once_unless_there_is_room(budget: int, checks: int) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    await memory.sync(session(), conversation_id="c")
    await memory.index("c")
    query = "which pattern can never match in the type check of the relay"
    view = await memory.view("c", query=query, token_budget=budget)
    assert view.text.count("the pattern can never match the type error") == checks
    assert view.text.count("defmodule Relay.Clause") == ROUNDS
