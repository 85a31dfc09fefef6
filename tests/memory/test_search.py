"""Searching a long conversation for words that stand everywhere in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.retrieve import TERM_CAP
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

pytestmark = pytest.mark.anyio

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ASKED, NOTED = 1_001, 2_001


@pytest.fixture(scope="module", params=[TERM_CAP - 100, TERM_CAP + 100], ids=["words read through", "words too common"])
async def memory(request: pytest.FixtureRequest) -> Memory:
    """One turn an hour, all of the same words; one of them is a tool's, and one the system's."""
    roles: dict[int, Any] = {ASKED: "tool", NOTED: "system"}
    said = [
        NewTurn(
            roles.get(i, "user"), f"We deploy the service to host {i}.", None, (BEGAN + timedelta(hours=i)).isoformat()
        )
        for i in range(request.param)
    ]
    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_800_000_000.0)
    await memory.sync(said, conversation_id="c")
    return memory


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def test_words_that_stand_everywhere_are_found(memory: Memory) -> None:
    assert len(await memory.search("deploy service", conversation_id="c", limit=7)) == 7


@pytest.mark.parametrize(
    ("wanted", "at"),
    [
        ({"role": "tool"}, [ASKED]),
        ({"role": "system", "until": "2026-12-01"}, [NOTED]),
        ({"since": "2026-02-01T00:00:00Z", "until": "2026-02-01T02:00:00+00:00"}, [744, 745, 746]),
        ({"until": "2026-01-01T01:30"}, [0, 1]),
        ({"role": "tool", "since": "2026-05-01"}, []),
    ],
)
async def test_all_that_a_role_and_a_time_admit_are_looked_through(
    memory: Memory, wanted: dict[str, Any], at: list[int]
) -> None:
    hits = await memory.search("deploy service", conversation_id="c", **wanted)
    assert sorted(int(hit.turn_id[1:].partition("-")[0]) for hit in hits) == at
