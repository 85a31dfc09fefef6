"""Long calls notify a client of their progress, if it sent a progress token."""

from __future__ import annotations

import random

import pytest
from mcp import Client

from ctxmem_mcp.worker_pool import LARGE_CHARS

pytestmark = pytest.mark.anyio
WORDS = "parser budget section window cursor merge header record branch worker".split()


def long_text(seed: int) -> str:
    chance = random.Random(seed)
    lines = (" ".join(chance.choices(WORDS, k=12)) for _ in range(3 * LARGE_CHARS // 80))
    return "\n".join(f"{number} {line}" for number, line in enumerate(lines))


@pytest.mark.parametrize("tool", ["append_turn", "sync_transcript"])
async def test_progress_grows_to_the_end(client: Client, tool: str) -> None:
    shares: list[tuple[float, float | None]] = []

    async def record(progress: float, total: float | None, message: str | None) -> None:
        assert message == f"{progress:.0%} is computed"
        shares.append((progress, total))

    message = {"role": "user", "content": long_text(1)}
    arguments = message if tool == "append_turn" else {"messages": [message]}
    result = await client.call_tool(tool, {"conversation_id": "c", **arguments}, progress_callback=record)
    assert not result.is_error
    assert shares
    assert shares == sorted(set(shares))
    assert {total for _, total in shares} == {1.0}
    assert all(0 < share <= 1 for share, _ in shares)


async def test_a_small_call_notifies_of_nothing(client: Client) -> None:
    shares: list[float] = []

    async def record(progress: float, total: float | None, message: str | None) -> None:
        shares.append(progress)

    small = {"conversation_id": "c", "role": "user", "content": "Hello"}
    result = await client.call_tool("append_turn", small, progress_callback=record)
    assert not result.is_error
    assert shares == []
