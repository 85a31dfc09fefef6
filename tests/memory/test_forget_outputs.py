"""The whole of an output that a hook shortened is a conversation beside its session's, and is removed with it."""

from __future__ import annotations

import asyncio

import pytest

from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

pytestmark = pytest.mark.anyio
SESSION = "s-1"
OUTPUTS = [f"{SESSION}:output-0123456789", f"{SESSION}:output-abcdef0123"]


async def add(memory: Memory, *conversations: str) -> None:
    for one in conversations:
        await memory.sync([NewTurn("user", f"Words of {one}.")], conversation_id=one)


async def stored(memory: Memory) -> set[str]:
    return {info.conversation_id for info in await memory.all_conversations()}


async def test_a_cancellation_while_a_session_is_forgotten_leaves_no_output() -> None:
    def cancel(_: list[str]) -> None:
        forget.cancel()

    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), on_forgotten=cancel)
    await add(memory, SESSION, *OUTPUTS, "other")
    forget = asyncio.ensure_future(memory.forget(SESSION, SESSION))
    with pytest.raises(asyncio.CancelledError):
        await forget
    assert await stored(memory) == {"other"}


async def test_outputs_whose_session_is_gone_are_forgotten_by_its_id() -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    await add(memory, *OUTPUTS, "other")
    with pytest.raises(UnknownConversation):
        await memory.forget(SESSION, SESSION)
    assert await stored(memory) == {"other"}
