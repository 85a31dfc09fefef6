"""The Responses API through the gateway: the official client, streamed and not, and the laws for any items."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ctxmem_mcp.http_api.gateway.compaction import ConversationTracker
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
from ctxmem_mcp.http_api.gateway.responses import Responses
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.host_text import RECALL_START
from ctxmem_mcp.transcripts.responses import item_turns
from tests.gateway.harness import RunningGateway, UpstreamStub, upstream_stub

Item = dict[str, Any]
REASONING = {"type": "reasoning", "id": "rs_9", "summary": [], "encrypted_content": "gAAA"}
CALL = {"type": "function_call", "id": "fc_9", "call_id": "call_9", "name": "shell", "arguments": '{"command": "ls"}'}
TEXT = {
    "type": "message", "id": "msg_9", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "It is fixed.", "annotations": []}],
}  # fmt: skip
OUTPUT = [REASONING, TEXT, CALL]
USAGE = {
    "input_tokens": 100, "output_tokens": 5, "total_tokens": 105,
    "input_tokens_details": {"cached_tokens": 80, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}  # fmt: skip


def response_of(number: int) -> Item:
    return {
        "id": f"resp_{number}", "object": "response", "created_at": 1, "status": "completed", "model": "m",
        "output": OUTPUT, "usage": USAGE, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "temperature": None, "top_p": None,
    }  # fmt: skip


def answer() -> Any:
    count = 0

    async def respond(request: Request, body: Any) -> Response:
        nonlocal count
        count += 1
        response = response_of(count)
        if body is None or not body.get("stream"):
            return JSONResponse(response)
        events: list[Item] = [
            {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}}
        ]
        events += [
            {"type": "response.output_item.done", "output_index": i, "item": item} for i, item in enumerate(OUTPUT)
        ]
        events.append({"type": "response.completed", "response": {**response, "output": []}})
        sent = b"".join(b"event: x\ndata: " + json.dumps(event).encode() + b"\n\n" for event in events)

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(sent), 23):
                yield sent[at : at + 23]

        return StreamingResponse(chunks(), media_type="text/event-stream")

    return respond


@pytest.fixture
def stub() -> Iterator[UpstreamStub]:
    with upstream_stub(answer()) as found:
        yield found


def user(text: str) -> Item:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def history(requests: int) -> list[Item]:
    """Returns items as Codex sends them: the host's texts first, then rounds of reasoning, calls and outputs."""
    items = [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "<permissions>all</permissions>"}],
        },
        user("<environment_context>\n  <cwd>/w</cwd>\n</environment_context>"),
        user("Make the relay tests pass."),
    ]
    for i in range(requests):
        items += [
            {"type": "reasoning", "id": f"rs_{i}", "summary": [], "encrypted_content": f"gAAA{i}"},
            {
                "type": "function_call",
                "call_id": f"call_{i}",
                "name": "shell",
                "arguments": f'{{"command":"cat f{i}"}}',
            },
            {
                "type": "function_call_output",
                "call_id": f"call_{i}",
                "output": f"line {i}\n" + f"token{i} failed\n" * 120,
            },
        ]
    return [*items, user("And now?")]


def ask(running: RunningGateway, **body: Any) -> Any:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="sk-own", max_retries=0, timeout=30) as api:
        return api.responses.with_raw_response.create(model="m:memory", **body)


def contents(running: RunningGateway) -> list[str]:
    (conversation,) = running.conversations()
    return [turn.content for turn in running.turns(conversation)]


def words_of(items: list[Item]) -> list[str]:
    return [turn.content for item in items for turn in item_turns(item, None)]


def test_a_short_request_is_stored_and_sent_unchanged(running: RunningGateway, stub: UpstreamStub) -> None:
    got = ask(running, instructions="You are Codex.", input="Fix it.", max_output_tokens=500)
    assert got.headers["x-ctxmem-memory"] == "whole"
    assert got.parse().output_text == "It is fixed."
    assert stub.paths == ["/v1/responses"]
    assert (stub.bodies[0]["input"], stub.bodies[0]["model"]) == ("Fix it.", "m")
    assert contents(running) == ["You are Codex.", "Fix it.", "It is fixed.", '{"command": "ls"}']


def test_a_long_request_is_compacted_and_reasoning_stays_with_its_call(
    running: RunningGateway, stub: UpstreamStub
) -> None:
    items = history(12)
    got = ask(running, instructions="You are Codex.", input=items)
    assert got.headers["x-ctxmem-memory"] == "folded"
    sent = stub.bodies[0]["input"]
    assert sent[0] == items[0]
    head = "\n".join(part["text"] for part in sent[1]["content"])
    assert RECALL_START in head
    assert head.startswith("Make the relay tests pass.")
    assert sent[2:] == items[-len(sent) + 2 :]
    assert sent[2]["type"] == "reasoning" or sent[2].get("role") == "user"
    assert contents(running)[1:-2] == words_of(items)
    assert json.loads(got.text)["usage"]["raw_input_tokens"] > 100


def test_a_streamed_answer_is_stored(running: RunningGateway) -> None:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="sk-own", max_retries=0, timeout=30) as api:
        body: Any = {"model": "m:memory", "input": history(1), "stream": True}
        events = [event.type for event in api.responses.create(**body)]
    assert events[-1] == "response.completed"
    assert contents(running)[-2:] == ["It is fixed.", '{"command": "ls"}']


def test_a_request_that_continues_a_response_is_stored_after_it(running: RunningGateway, stub: UpstreamStub) -> None:
    first = ask(running, input="Fix it.").parse()
    result = {"type": "function_call_output", "call_id": "call_9", "output": "a.py"}
    got = ask(running, input=[result], previous_response_id=first.id)
    assert got.headers["x-ctxmem-memory"] == "whole"
    assert stub.bodies[1]["input"] == [result]
    answered = ["It is fixed.", '{"command": "ls"}']
    assert contents(running) == ["Fix it.", *answered, "a.py", *answered]


def test_other_paths_of_the_api_pass_through(running: RunningGateway, stub: UpstreamStub) -> None:
    for method, path in (("POST", "responses/compact"), ("GET", "responses/resp_1?x=1"), ("POST", "embeddings")):
        body = None if method == "GET" else {"input": "x"}
        assert httpx2.request(method, f"{running.url}/v1/{path}", json=body).status_code == 200
        assert stub.targets[-1] == f"/v1/{path}"
    assert running.conversations() == []
    assert httpx2.get(f"{running.url}/v1/files/..%2fadmin").status_code == 404


# ---------------------------------------------------------------- laws


@st.composite
def inputs(draw: st.DrawFn) -> list[Item]:
    words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).map(
        lambda t: f"w {t} " * 60
    )
    items = [user("The task: " + draw(words))]
    for i in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(("user", "text", "calls")))
        if kind == "user":
            items.append(user(draw(words)))
        elif kind == "text":
            items.append(
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": draw(words)}]}
            )
        else:
            ids = [f"c{i}-{n}" for n in range(draw(st.integers(1, 3)))]
            items.append({"type": "reasoning", "summary": [], "encrypted_content": "gAAA"})
            items += [{"type": "function_call", "call_id": id, "name": "run", "arguments": draw(words)} for id in ids]
            items += [{"type": "function_call_output", "call_id": id, "output": draw(words)} for id in ids]
    return [*items, user("Now?")]


@settings(max_examples=25)
@given(inputs())
def test_every_item_is_stored_and_no_call_is_parted_from_its_reasoning_or_its_output(items: list[Item]) -> None:
    async def replayed() -> None:
        memory, tracker = Memory(InMemoryStore(), ExtractiveSummarizer()), ConversationTracker(3_000, "o200k_base")
        compacted = await tracker.compact(memory, "", Responses(), {"input": items}, MemoryOptions(True, "m"))
        stored = compacted.conversation
        turns = [await memory.turn(stored.conversation_id, turn_id) for turn_id in stored.turn_ids]
        assert [turn.content for turn in turns] == words_of(items)
        if compacted.body is None:
            return
        head, *rest = compacted.body["input"]
        assert RECALL_START in json.dumps(head, ensure_ascii=False)
        assert rest == items[-len(rest) :] if rest else True
        calls = {item["call_id"] for item in rest if item["type"] == "function_call"}
        assert {item["call_id"] for item in rest if item["type"] == "function_call_output"} <= calls
        assert not rest or rest[0]["type"] != "function_call"

    asyncio.run(replayed())
