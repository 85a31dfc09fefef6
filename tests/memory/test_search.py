"""Searches of a long conversation for words that are in every turn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ctxmem_mcp.memory import Memory, retrieve
from ctxmem_mcp.memory.retrieve import TERM_CAP
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

pytestmark = pytest.mark.anyio

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TOOL_TURN, SYSTEM_TURN = 1_001, 2_001


@pytest.fixture(scope="module", params=[TERM_CAP - 100, TERM_CAP + 100], ids=["within the cap", "over the cap"])
async def memory(request: pytest.FixtureRequest) -> Memory:
    """One turn an hour, all with the same words; one is a tool's, one the system's."""
    roles: dict[int, Any] = {TOOL_TURN: "tool", SYSTEM_TURN: "system"}
    turns = [
        NewTurn(
            roles.get(i, "user"), f"We deploy the service to host {i}.", None, (BEGAN + timedelta(hours=i)).isoformat()
        )
        for i in range(request.param)
    ]
    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_800_000_000.0)
    await memory.sync(turns, conversation_id="c")
    return memory


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def test_words_of_every_turn_are_found(memory: Memory) -> None:
    assert len(await memory.search("deploy service", conversation_id="c", limit=7)) == 7


async def test_a_view_for_frequent_words_only_quotes_the_turn_that_has_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrieve, "TERM_CAP", 20)
    turns = [NewTurn("user", f"We {'deploy' if i % 2 else 'restart'} host number {i} at noon.") for i in range(1_500)]
    turns[40] = NewTurn("user", "We restart and deploy the spare host in the same minute.")
    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_800_000_000.0)
    await memory.sync(turns, conversation_id="c")
    view = await memory.view("c", query="deploy and restart", token_budget=2_000)
    assert turns[40].content in view.text


async def test_a_frequent_word_is_found_though_the_rarer_one_is_on_an_abandoned_branch_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrieve, "TERM_CAP", 20)
    turns = [NewTurn("user", f"We {'restart' if i % 2 else 'deploy'} host number {i} at noon.") for i in range(300)]
    turns[40] = NewTurn("user", "We restart and deploy the spare host in the same minute.")
    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_800_000_000.0)
    stored = await memory.sync(turns, conversation_id="c")
    await memory.append(NewTurn("user", "It is kafka that fails."), conversation_id="c")
    await memory.revert("c", stored.turn_ids[-1])
    assert len(await memory.search("kafka deploy", conversation_id="c", limit=7)) == 7
    view = await memory.view("c", query="does kafka deploy and restart", token_budget=1_000)
    assert turns[40].content in view.text


@pytest.mark.parametrize(
    ("filters", "indexes"),
    [
        ({"role": "tool"}, [TOOL_TURN]),
        ({"role": "system", "until": "2026-12-01"}, [SYSTEM_TURN]),
        ({"since": "2026-02-01T00:00:00Z", "until": "2026-02-01T02:00:00+00:00"}, [744, 745, 746]),
        ({"until": "2026-01-01T01:30"}, [0, 1]),
        ({"role": "tool", "since": "2026-05-01"}, []),
    ],
)
async def test_a_filter_by_role_or_time_considers_every_match(
    memory: Memory, filters: dict[str, Any], indexes: list[int]
) -> None:
    hits = await memory.search("deploy service", conversation_id="c", **filters)
    assert sorted(int(hit.turn_id[1:].partition("-")[0]) for hit in hits) == indexes
