"""Properties of the gateway for any history: every message is stored, and a request is compacted reproducibly."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.http_api.gateway.compaction import ConversationTracker
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
from ctxmem_mcp.http_api.gateway.openai import OpenAI
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.transcripts.openai import turns_from_messages
from tests.gateway.test_cut_point import openai_messages

OPTIONS = MemoryOptions(True, "m")
Facts = list[tuple[str, str, str | None, str | None]]


async def _stored(memory: Memory, conversation_id: str, ids: tuple[str, ...]) -> Facts:
    turns = [await memory.turn(conversation_id, turn_id) for turn_id in ids]
    return [(turn.role, turn.content, turn.name, turn.call_id) for turn in turns]


@settings(max_examples=25)
@given(openai_messages(), st.data())
def test_every_message_of_every_request_is_stored_byte_for_byte(
    messages: list[dict[str, Any]], data: st.DataObject
) -> None:
    ends = data.draw(st.lists(st.integers(2, len(messages)), min_size=1, max_size=4))

    async def replayed() -> None:
        memory, tracker = Memory(InMemoryStore(), ExtractiveSummarizer()), ConversationTracker(4_000, "o200k_base")
        for end in ends:
            body = {"model": "m", "messages": messages[:end]}
            compacted = await tracker.compact(memory, "", OpenAI(), body, OPTIONS)
            expected = [(t.role, t.content, t.name, t.call_id) for t in turns_from_messages(messages[:end])]
            stored = compacted.conversation
            assert await _stored(memory, stored.conversation_id, stored.turn_ids) == expected
            _check_compacted(compacted.body, messages[:end])
            assert compacted.tokens_sent <= compacted.tokens_in

    asyncio.run(replayed())


def _check_compacted(body: dict[str, Any] | None, messages: list[dict[str, Any]]) -> None:
    """System prompt and head first, then unchanged messages up to the last one; no result without its call.

    A prompt right after the head is joined with it: there are no two user messages in a row.
    """
    if body is None:
        return
    sent = body["messages"]
    assert sent[0] == messages[0]
    assert sent[-1] == messages[-1] or (len(sent) == 2 and sent[1]["content"].endswith(messages[-1]["content"]))
    assert all(message in messages for message in sent[2:])
    assert not any(a["role"] == b["role"] == "user" for a, b in pairwise(sent))
    called: set[str] = set()
    for message in sent:
        called |= {call["id"] for call in message.get("tool_calls", ())}
        assert message["role"] != "tool" or message["tool_call_id"] in called


@settings(max_examples=15)
@given(openai_messages())
def test_a_repeated_request_is_compacted_the_same_way_by_any_process(messages: list[dict[str, Any]]) -> None:
    async def replayed() -> None:
        store = InMemoryStore()
        body = {"model": "m", "messages": messages}
        sent = []
        for _ in range(2):
            memory, tracker = Memory(store, ExtractiveSummarizer()), ConversationTracker(4_000, "o200k_base")
            sent += [(await tracker.compact(memory, "", OpenAI(), body, OPTIONS)).body for _ in range(2)]
        assert sent[1:] == sent[:-1]

    asyncio.run(replayed())


def test_concurrent_requests_create_one_conversation() -> None:
    async def both() -> None:
        memory, tracker = Memory(InMemoryStore(), ExtractiveSummarizer()), ConversationTracker(4_000, "o200k_base")
        messages = [{"role": "user", "content": f"word {i} " * 30} for i in range(300)]
        body = {"model": "m", "messages": messages}
        done = await asyncio.gather(*(tracker.compact(memory, "", OpenAI(), body, OPTIONS) for _ in range(4)))
        assert len({compacted.conversation for compacted in done}) == 1
        assert len((await memory.conversations()).conversations) == 1

    asyncio.run(both())


def test_a_request_with_only_empty_messages_before_the_cut_is_unchanged() -> None:
    async def compacted_once() -> None:
        memory, tracker = Memory(InMemoryStore(), ExtractiveSummarizer()), ConversationTracker(4_000, "o200k_base")
        silent: dict[str, Any] = {"role": "user", "content": []}
        body = {"model": "m", "messages": [silent, {"role": "user", "content": "word " * 5_000}]}
        compacted = await tracker.compact(memory, "", OpenAI(), body, OPTIONS)
        assert compacted.body is None
        assert len(compacted.conversation.turn_ids) == 1

    asyncio.run(compacted_once())
