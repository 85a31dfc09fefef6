"""Streamed answers as upstreams and clients really end, cut and number them: what goes by, and what is kept of it."""

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
from tests.gateway.harness import Answers, House, Upstream, anthropic_events, gateway, openai_events, says, upstream

ASKED = [{"role": "user", "content": "What fails?"}]


@pytest.fixture
def known() -> Iterator[Upstream]:
    with upstream(says()) as found:
        yield found


@pytest.fixture
def house(tmp_path: Path, known: Upstream) -> Iterator[House]:
    with gateway(tmp_path, known) as found:
        yield found


def streams(*chunks: bytes, lingers: bool = False, left: threading.Event | None = None) -> Answers:
    """lingers: the connection is not ended after the last chunk. left: set when the client hung up."""

    async def sent() -> AsyncIterator[bytes]:
        try:
            for chunk in chunks:
                yield chunk
            if lingers:
                await asyncio.Event().wait()
        finally:
            if left is not None:
                left.set()

    async def answers(_: Request, __: Any) -> Response:
        return StreamingResponse(sent(), media_type="text/event-stream")

    return answers


def deltas(*given: dict[str, Any]) -> bytes:
    """An answer of these deltas, to its end."""
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": one, "finish_reason": None}]} for one in given]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def asked(house: House) -> bytes:
    """The answer as the client got it."""
    body = {"model": "m:memory", "stream": True, "messages": ASKED}
    answer = httpx2.post(f"{house.url}/v1/chat/completions", json=body, timeout=30)
    assert answer.status_code == 200
    return answer.content


def answered(house: House) -> list[tuple[str, str | None, str | None]]:
    """What is kept after the question."""
    (conversation,) = house.conversations()
    return [(turn.content, turn.name, turn.call_id) for turn in house.turns(conversation)[1:]]


def in_time(house: House, answers: int) -> int:
    """The requests that were counted, once so many answers are kept: a client that hung up is not told when."""
    for _ in range(500):
        told = httpx2.get(f"{house.url}/v1/usage").json()["total"]
        if told["requests"] and len(answered(house)) == answers:
            return int(told["requests"])
        time.sleep(0.02)
    raise AssertionError(f"{answered(house)} is kept")


def test_an_answer_is_kept_whose_client_hangs_up_at_the_last_event(house: House, known: Upstream) -> None:
    left = threading.Event()
    known.answers = streams(*openai_events("It is fixed."), lingers=True, left=left)
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key="k", max_retries=0, timeout=30) as api:
        messages: Any = ASKED
        with api.chat.completions.create(model="m:memory", messages=messages, stream=True) as chunks:
            heard = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert heard == "It is fixed."
    assert left.wait(10)
    assert in_time(house, 1) == 1
    assert answered(house) == [("It is fixed.", None, None)]


def test_anthropics_answer_is_kept_whose_client_hangs_up_at_the_last_event(house: House, known: Upstream) -> None:
    left = threading.Event()
    known.answers = streams(*anthropic_events("It is fixed."), lingers=True, left=left)
    body = {"model": "m:memory", "stream": True, "max_tokens": 500, "messages": ASKED}
    with httpx2.stream("POST", f"{house.url}/v1/messages", json=body, timeout=30) as answer:
        assert any("message_stop" in line for line in answer.iter_lines())
    assert left.wait(10)
    assert in_time(house, 1) == 1
    assert answered(house) == [("It is fixed.", None, None)]


def test_what_an_answer_cost_that_the_client_left_in_the_middle_is_counted(house: House, known: Upstream) -> None:
    left = threading.Event()
    known.answers = streams(openai_events("Half", finish=False)[0], lingers=True, left=left)
    body = {"model": "m:memory", "stream": True, "messages": ASKED}
    with httpx2.stream("POST", f"{house.url}/v1/chat/completions", json=body, timeout=30) as answer:
        next(answer.iter_raw())
    assert left.wait(10)
    assert in_time(house, 0) == 1
    assert httpx2.get(f"{house.url}/v1/usage").json()["total"]["tokens_in"] > 0


@pytest.mark.parametrize(
    "odd",
    [
        {"tool_calls": [{"index": [1], "id": "a", "function": {"name": "f", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "id": {"a": 1}, "function": {"name": {}, "arguments": "{}"}}]},
    ],
)
def test_an_event_that_nobody_understands_breaks_no_stream(house: House, known: Upstream, odd: dict[str, Any]) -> None:
    said = deltas(odd, {"content": "after"})
    known.answers = streams(said)
    assert asked(house) == said


def test_calls_that_an_upstream_does_not_number_are_kept_apart(house: House, known: Upstream) -> None:
    def call(index: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"tool_calls": [{**index, **more}]}

    for index in ({}, {"index": None}):
        known.answers = streams(
            deltas(
                call(index, id="c1", function={"name": "read", "arguments": '{"a"'}),
                call(index, function={"arguments": ":1}"}),
                call(index, id="c2", function={"name": "write", "arguments": '{"b":2}'}),
            )
        )
        asked(house)
        assert answered(house) == [('{"a":1}', "read", "c1"), ('{"b":2}', "write", "c2")]


def test_an_answer_too_long_to_be_heard_goes_by_and_is_not_kept_with_a_hole(
    house: House, known: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "_LINE_BYTES_MAX", 1_000)
    said = deltas({"content": "x" * 2_000}, {"content": "the end"})
    known.answers = streams(*(said[i : i + 100] for i in range(0, len(said), 100)))
    assert asked(house) == said
    assert answered(house) == []


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 1_000])
def test_events_are_read_whatever_ends_their_lines_and_wherever_they_are_cut(ending: str, size: int) -> None:
    lines = [": kept alive", "", "event: x", 'data: {"a":', 'data:"b"}', "", "", "data: no json", "", 'data: ["last"]']
    sent = ending.join(lines).encode()
    events = EventParser()
    found = [event for i in range(0, len(sent), size) for event in events.feed(sent[i : i + size])]
    assert [*found, *events.finish()] == [{"a": "b"}, ["last"]]
