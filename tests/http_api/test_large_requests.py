"""A real service goes on for others while one caller sends large requests. Progress is counted, not seconds."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.http_api.mcp_calls import call_tool
from tests.http_api.service_process import served

pytestmark = pytest.mark.anyio
SOURCE = Path(__file__).read_text("utf-8")
# In the event loop, these take seconds of processor time each, during which nobody else would get a response.
LIST_BYTES, TURN_BYTES = 1_500_000, 3_000_000
RESPONSES_MIN = 10


def messages(size: int, seed: int) -> list[dict[str, str]]:
    chance, made, total = random.Random(seed), list[dict[str, str]](), 0
    while total < size:
        at = chance.randrange(len(SOURCE) // 2)
        made.append(
            {"role": ("user", "assistant")[len(made) % 2], "content": f"{len(made)}. {SOURCE[at : at + 1_500]}"}
        )
        total += len(made[-1]["content"])
    return made


async def append(client: httpx2.AsyncClient, conversation: str, content: str) -> None:
    await call_tool(client, "append_turn", conversation_id=conversation, role="user", content=content)


async def count_responses(client: httpx2.AsyncClient, large: asyncio.Task[Any]) -> tuple[int, int]:
    """Counts the health checks, and the small appends to another conversation, that complete before `large`."""
    health = appends = 0
    while not large.done():
        assert (await client.get("/health")).status_code == 200
        health += not large.done()
        await append(client, "small", f"{appends}. What does the parser do with an empty line?")
        appends += not large.done()
    return health, appends


@pytest.mark.parametrize("kind", ["list", "turn"])
async def test_others_get_responses_during_a_large_request(tmp_path: Path, kind: str) -> None:
    with served(tmp_path / "data") as base:
        async with httpx2.AsyncClient(base_url=base, timeout=110) as client:
            await append(client, "small", "hello")
            if kind == "list":
                large = asyncio.create_task(client.post("/v1/memory", json={"messages": messages(LIST_BYTES, 1)}))
            else:
                text = SOURCE * (TURN_BYTES // len(SOURCE))
                large = asyncio.create_task(append(client, "large", text))  # type: ignore[arg-type]
            health, appends = await count_responses(client, large)
            await large
    assert health >= RESPONSES_MIN
    assert appends >= RESPONSES_MIN


async def test_a_large_request_ends_at_the_time_limit_and_stores_nothing(tmp_path: Path) -> None:
    with served(tmp_path / "data", http_seconds=1) as base:
        async with httpx2.AsyncClient(base_url=base, timeout=110) as client:
            # So large that the time ends before its turns are stored.
            response = await client.post("/v1/memory", json={"messages": messages(12 * LIST_BYTES, 2)})
            assert response.status_code == 504
            await append(client, "small", "hello")
    stored = [path.stem for path in (tmp_path / "data" / "conversations").glob("*.ctxmem")]
    assert len(stored) == 1
