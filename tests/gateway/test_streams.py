"""Streams as real upstreams and clients end, split and number them: what is relayed, and what is stored."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ctxmem_mcp.http_api.gateway import sse
from ctxmem_mcp.http_api.gateway.sse import EventParser
from tests.gateway.harness import (
    Responder,
    RunningGateway,
    UpstreamStub,
    answers_with,
    anthropic_events,
    gateway,
    openai_events,
    upstream_stub,
)

QUESTION = [{"role": "user", "content": "What fails?"}]


@pytest.fixture
def stub() -> Iterator[UpstreamStub]:
    with upstream_stub(answers_with()) as found:
        yield found


@pytest.fixture
def running(tmp_path: Path, stub: UpstreamStub) -> Iterator[RunningGateway]:
    with gateway(tmp_path, stub) as found:
        yield found


def stream_of(*chunks: bytes, stays_open: bool = False, closed: threading.Event | None = None) -> Responder:
    """Returns a responder that streams these chunks.

    stays_open: the stream does not end after the last chunk. closed: set when the client disconnects.
    """

    async def stream() -> AsyncIterator[bytes]:
        try:
            for chunk in chunks:
                yield chunk
            if stays_open:
                await asyncio.Event().wait()
        finally:
            if closed is not None:
                closed.set()

    async def respond(_: Request, __: Any) -> Response:
        return StreamingResponse(stream(), media_type="text/event-stream")

    return respond


def deltas(*given: dict[str, Any]) -> bytes:
    """Returns a complete stream with these deltas."""
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": one, "finish_reason": None}]} for one in given]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def ask(running: RunningGateway) -> bytes:
    """Sends the question; returns the response body."""
    body = {"model": "m:memory", "stream": True, "messages": QUESTION}
    response = httpx2.post(f"{running.url}/v1/chat/completions", json=body, timeout=100)
    assert response.status_code == 200
    return response.content


def stored_answers(running: RunningGateway) -> list[tuple[str, str | None, str | None]]:
    """Returns the turns stored after the question."""
    (conversation,) = running.conversations()
    return [(turn.content, turn.name, turn.call_id) for turn in running.turns(conversation)[1:]]


def requests_after(running: RunningGateway, answers: int) -> int:
    """Waits until this many answers are stored; returns the number of requests in the usage."""
    for _ in range(500):
        total = httpx2.get(f"{running.url}/v1/usage").json()["total"]
        if total["requests"] and len(stored_answers(running)) == answers:
            return int(total["requests"])
        time.sleep(0.02)
    raise AssertionError(f"stored: {stored_answers(running)}")


def test_an_answer_is_stored_if_the_client_disconnects_at_the_last_event(
    running: RunningGateway, stub: UpstreamStub
) -> None:
    closed = threading.Event()
    stub.respond = stream_of(*openai_events("It is fixed."), stays_open=True, closed=closed)
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="k", max_retries=0, timeout=100) as api:
        messages: Any = QUESTION
        with api.chat.completions.create(model="m:memory", messages=messages, stream=True) as chunks:
            content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert content == "It is fixed."
    assert closed.wait(100)
    assert requests_after(running, 1) == 1
    assert stored_answers(running) == [("It is fixed.", None, None)]


def test_anthropics_answer_is_stored_if_the_client_disconnects_at_the_last_event(
    running: RunningGateway, stub: UpstreamStub
) -> None:
    closed = threading.Event()
    stub.respond = stream_of(*anthropic_events("It is fixed."), stays_open=True, closed=closed)
    body = {"model": "m:memory", "stream": True, "max_tokens": 500, "messages": QUESTION}
    with httpx2.stream("POST", f"{running.url}/v1/messages", json=body, timeout=100) as response:
        assert any("message_stop" in line for line in response.iter_lines())
    assert closed.wait(100)
    assert requests_after(running, 1) == 1
    assert stored_answers(running) == [("It is fixed.", None, None)]


def test_the_cost_of_an_answer_is_counted_if_the_client_disconnects_halfway(
    running: RunningGateway, stub: UpstreamStub
) -> None:
    closed = threading.Event()
    stub.respond = stream_of(openai_events("Half", finish=False)[0], stays_open=True, closed=closed)
    body = {"model": "m:memory", "stream": True, "messages": QUESTION}
    with httpx2.stream("POST", f"{running.url}/v1/chat/completions", json=body, timeout=100) as response:
        next(response.iter_raw())
    assert closed.wait(100)
    assert requests_after(running, 0) == 1
    assert httpx2.get(f"{running.url}/v1/usage").json()["total"]["tokens_in"] > 0


@pytest.mark.parametrize(
    "odd",
    [
        {"tool_calls": [{"index": [1], "id": "a", "function": {"name": "f", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "id": {"a": 1}, "function": {"name": {}, "arguments": "{}"}}]},
    ],
)
def test_a_malformed_event_does_not_break_the_stream(
    running: RunningGateway, stub: UpstreamStub, odd: dict[str, Any]
) -> None:
    stream = deltas(odd, {"content": "after"})
    stub.respond = stream_of(stream)
    assert ask(running) == stream


def test_calls_without_an_index_are_told_apart(running: RunningGateway, stub: UpstreamStub) -> None:
    def call(index: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"tool_calls": [{**index, **more}]}

    for index in ({}, {"index": None}):
        stub.respond = stream_of(
            deltas(
                call(index, id="c1", function={"name": "read", "arguments": '{"a"'}),
                call(index, function={"arguments": ":1}"}),
                call(index, id="c2", function={"name": "write", "arguments": '{"b":2}'}),
            )
        )
        ask(running)
        assert stored_answers(running) == [('{"a":1}', "read", "c1"), ('{"b":2}', "write", "c2")]


def test_an_answer_with_a_too_long_line_is_relayed_but_not_stored(
    running: RunningGateway, stub: UpstreamStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "_LINE_BYTES_MAX", 1_000)
    stream = deltas({"content": "x" * 2_000}, {"content": "the end"})
    stub.respond = stream_of(*(stream[i : i + 100] for i in range(0, len(stream), 100)))
    assert ask(running) == stream
    assert stored_answers(running) == []


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 1_000])
def test_events_are_parsed_for_any_line_ending_and_chunk_size(ending: str, size: int) -> None:
    lines = [": keep-alive", "", "event: x", 'data: {"a":', 'data:"b"}', "", "", "data: not json", "", 'data: ["last"]']
    sent = ending.join(lines).encode()
    parser = EventParser()
    found = [event for i in range(0, len(sent), size) for event in parser.feed(sent[i : i + size])]
    assert [*found, *parser.finish()] == [{"a": "b"}, ["last"]]
