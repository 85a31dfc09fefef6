"""A conversation whose words another one has is removed only with the words that the other one has."""

from __future__ import annotations

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

pytestmark = pytest.mark.anyio


async def test_turns_that_were_stored_after_the_branches_were_read_are_not_removed() -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    first = await memory.append(NewTurn("user", "The zeppelin leaks."), conversation_id="c")
    read = [turn.id for turn in await memory.branches("c")]
    await memory.append(NewTurn("assistant", "I mend it."), conversation_id="c")
    await memory.append(NewTurn("assistant", "I sell it."), conversation_id="c", parent_id=first.turn_id)
    assert not await memory.remove_moved("c", read)
    tips = [turn.id for turn in await memory.branches("c")]
    assert not await memory.remove_moved("c", tips[:1])
    assert len(await memory.branches("c")) == 2
    assert await memory.remove_moved("c", tips)
    assert await memory.all_conversations() == []
    assert not await memory.is_forgotten("c")
    assert await memory.remove_moved("c", tips)
