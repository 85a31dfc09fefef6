"""The official OpenAI client through the gateway, to an upstream that responds well, badly, late or not at all."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from mcp.types import TextResourceContents
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ctxmem_mcp import progress, usage_ledger
from ctxmem_mcp.mcp_server import resources
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.text.host_text import RECALL_START
from ctxmem_mcp.transcripts.openai import turns_from_messages
from tests.gateway.harness import (
    RunningGateway,
    UpstreamStub,
    answers_with,
    gateway,
    long_history,
    openai_events,
)

Message = dict[str, Any]
SMALL: dict[str, Any] = {"gateway_tokens": 4_000}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,x"}}


@pytest.fixture
def running(tmp_path: Path, stub: UpstreamStub) -> Iterator[RunningGateway]:
    with gateway(tmp_path, stub, **SMALL) as found:
        yield found


def client(running: RunningGateway, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key="sk-own", max_retries=0, timeout=100, **more)


def ask(running: RunningGateway, messages: Any, model: str = "m:memory", **more: Any) -> Any:
    """Returns the raw response: parse() returns the completion, its headers report what memory did."""
    with client(running) as api:
        return api.chat.completions.with_raw_response.create(model=model, messages=messages, **more)


def streamed(running: RunningGateway, messages: Any) -> str:
    with client(running) as api:
        chunks: Any = api.chat.completions.create(model="m:memory", messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def stored(running: RunningGateway, conversation_id: str) -> list[tuple[str, str, str | None, str | None]]:
    return [(turn.role, turn.content, turn.name, turn.call_id) for turn in running.turns(conversation_id)]


def as_turns(messages: list[Message]) -> list[tuple[str, str, str | None, str | None]]:
    return [(turn.role, turn.content, turn.name, turn.call_id) for turn in turns_from_messages(messages)]


# ---------------------------------------------------------------- storage


def test_every_message_and_the_answer_are_stored_byte_for_byte(running: RunningGateway) -> None:
    messages: list[Message] = [
        {"role": "system", "content": "Be brief.\r\n\n"},
        {"role": "user", "content": [{"type": "text", "text": " Look:\t"}, IMAGE]},
        *long_history(2)[1:],
        {"role": "assistant", "content": "é 漢字 \u0000 🙂"},
        {"role": "user", "content": "<|endoftext|>[t0-000 user]\n"},
    ]
    response = ask(running, messages)
    answer = {"role": "assistant", "content": "It is fixed."}
    assert stored(running, response.headers["x-ctxmem-conversation"]) == as_turns([*messages, answer])


def test_a_lone_surrogate_is_stored_as_a_replacement_and_forwarded_unchanged(
    running: RunningGateway, stub: UpstreamStub
) -> None:
    content = b'{"model":"m:memory","messages":[{"role":"user","content":"cut \\ud83d here"}]}'
    response = httpx2.post(f"{running.url}/v1/chat/completions", content=content)
    assert response.headers["x-ctxmem-memory"] == "whole"
    assert stub.raw == [content.replace(b":memory", b"")]
    assert stored(running, response.headers["x-ctxmem-conversation"])[0][1] == "cut \ufffd here"


def test_a_complete_streamed_answer_is_stored(running: RunningGateway) -> None:
    messages = long_history(1)
    assert streamed(running, messages) == "It is fixed."
    (conversation,) = running.conversations()
    assert stored(running, conversation) == as_turns([*messages, {"role": "assistant", "content": "It is fixed."}])


CALL = {"id": "call_9", "type": "function", "function": {"name": "run", "arguments": '{ "x":  "é\\n" }'}}


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_of_an_answer_are_stored_with_their_exact_arguments(
    tmp_path: Path, stub: UpstreamStub, stream: bool
) -> None:
    stub.respond = answers_with(None, tool_calls=[CALL])
    with gateway(tmp_path, stub) as running:
        messages = long_history(1)
        if stream:
            streamed(running, messages)
        else:
            ask(running, messages)
        (conversation,) = running.conversations()
        answer = {"role": "assistant", "content": None, "tool_calls": [CALL]}
        assert stored(running, conversation) == as_turns([*messages, answer])
        # The client's next request contains stored messages.
        result = {"role": "tool", "tool_call_id": "call_9", "content": "ok"}
        ask(running, [*messages, answer, result])
        assert running.conversations() == [conversation]
        assert running.turns(conversation)[len(as_turns([*messages, answer, result])) - 1].content == "ok"


def test_the_conversation_is_found_by_its_messages_whatever_the_model_and_edits_branch(running: RunningGateway) -> None:
    messages = long_history(3)
    first = ask(running, messages).headers["x-ctxmem-conversation"]
    continued = [*messages, {"role": "assistant", "content": "It is fixed."}, {"role": "user", "content": "Thanks."}]
    assert ask(running, continued, "another:memory").headers["x-ctxmem-conversation"] == first
    edited = [*messages[:-1], {"role": "user", "content": "No, wait."}]
    assert ask(running, edited).headers["x-ctxmem-conversation"] == first
    assert len(running.do(running.memory.branches(first))) == 2
    assert running.do(running.memory.verify(first)) == []


def test_a_side_request_does_not_disturb_the_conversation(running: RunningGateway) -> None:
    messages = long_history(3)
    main = ask(running, messages).headers["x-ctxmem-conversation"]
    before = stored(running, main)
    side = [{"role": "system", "content": "Give this talk a title."}, messages[1]]
    other = ask(running, side).headers["x-ctxmem-conversation"]
    assert other != main
    assert stored(running, main) == before
    probe = ask(running, side, max_tokens=20)
    assert probe.headers["x-ctxmem-memory"] == "aside"
    assert len(running.conversations()) == 2


def test_a_system_prompt_with_the_time_is_the_same_conversation(running: RunningGateway, stub: UpstreamStub) -> None:
    rest = long_history(2)[1:]
    one, two = ({"role": "system", "content": f"It is {when}."} for when in ("Mon 3 May 10:02", "Tue 4 May 09:00"))
    first = ask(running, [one, *rest]).headers["x-ctxmem-conversation"]
    second = ask(running, [two, *rest, {"role": "assistant", "content": "Done."}, {"role": "user", "content": "?"}])
    assert second.headers["x-ctxmem-conversation"] == first
    assert stub.bodies[-1]["messages"][0] == two


# ---------------------------------------------------------------- what is forwarded


def test_a_conversation_that_fits_is_forwarded_unchanged(running: RunningGateway, stub: UpstreamStub) -> None:
    messages = long_history(2)
    response = ask(
        running, messages, "m:online:memory-90", temperature=0.5, extra_body={"model_context_limit": "128000"}
    )
    assert stub.bodies[-1] == {"model": "m:online", "messages": messages, "temperature": 0.5}
    assert stub.headers[-1]["authorization"] == "Bearer sk-own"
    assert response.headers["x-ctxmem-memory"] == "whole"
    assert response.headers["x-ctxmem-retention-days"] == "90"
    assert running.do(running.memory.info(response.headers["x-ctxmem-conversation"])).retention_days == 90


def test_a_long_conversation_is_forwarded_as_a_view_and_the_latest_messages(
    running: RunningGateway, stub: UpstreamStub
) -> None:
    messages = long_history(30)
    response = ask(running, messages)
    sent = stub.bodies[-1]["messages"]
    assert sent[0] == messages[0]
    assert sent[1]["role"] == "user"
    assert sent[1]["content"].startswith(f"{messages[1]['content']}\n\n{RECALL_START}")
    rest = sent[2:]
    assert rest == messages[-len(rest) :]
    assert rest[0]["role"] != "user"
    assert 0 < len(rest) < len(messages) // 2
    assert response.headers["x-ctxmem-memory"] == "folded"
    reported = {name: int(response.headers[f"x-ctxmem-tokens-{name}"]) for name in ("in", "sent", "saved")}
    assert reported["in"] - reported["sent"] == reported["saved"] > 0
    assert reported["sent"] <= 4_000
    usage = json.loads(response.text)["usage"]
    assert usage["prompt_tokens"] == 120
    assert usage["raw_prompt_tokens"] == 120 + reported["saved"]


def test_until_the_cut_moves_every_request_begins_with_the_previous_one(
    running: RunningGateway, stub: UpstreamStub
) -> None:
    messages = long_history(40, words=20)
    with httpx2.Client(base_url=running.url, timeout=100) as api:
        for end in (i for i in range(2, len(messages)) if messages[i]["role"] == "assistant"):
            api.post("/v1/chat/completions", json={"model": "m:memory", "messages": messages[:end]})
    sent = [body["messages"] for body in stub.bodies]
    grew = [after[: len(before)] == before for before, after in pairwise(sent)]
    assert 0 < grew.count(False) <= len(grew) / 5
    assert grew.count(True) > 60


def test_after_a_restart_the_same_request_gives_the_same_bytes(tmp_path: Path, stub: UpstreamStub) -> None:
    for _ in range(2):
        with gateway(tmp_path, stub, **SMALL) as running:
            assert ask(running, long_history(30)).headers["x-ctxmem-memory"] == "folded"
    assert stub.raw[0] == stub.raw[1]


def test_images_and_parts_of_the_latest_messages_are_unchanged(running: RunningGateway, stub: UpstreamStub) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 2_000}}
    last = {"role": "user", "content": [{"type": "text", "text": "And this?"}, image]}
    response = ask(running, [*long_history(30), {"role": "assistant", "content": "Well."}, last])
    assert response.headers["x-ctxmem-memory"] == "folded"
    assert stub.bodies[-1]["messages"][-1]["content"][-2:] == last["content"]


# ---------------------------------------------------------------- without memory


def test_without_memory_bytes_are_unchanged_in_both_directions(running: RunningGateway, stub: UpstreamStub) -> None:
    content = b'{"model" : "m:online",  "messages":[{"role":"user","content":"\\u00e9"}], "stream":true}'
    headers = {"Content-Type": "application/json", "Authorization": "Bearer k", "Cookie": "a=b", "X-Custom": "1"}
    response = httpx2.post(f"{running.url}/v1/chat/completions", content=content, headers=headers)
    assert stub.raw[-1] == content
    assert response.content == b"".join(openai_events("It is fixed."))
    assert response.headers["x-ctxmem-memory"] == "off"
    assert stub.headers[-1]["x-custom"] == "1"
    assert "cookie" not in stub.headers[-1]
    assert running.conversations() == []


def test_with_memory_a_stream_is_relayed_byte_for_byte(running: RunningGateway) -> None:
    body = {"model": "m:memory", "stream": True, "messages": long_history(30)}
    response = httpx2.post(f"{running.url}/v1/chat/completions", json=body)
    assert response.content == b"".join(openai_events("It is fixed."))
    assert response.headers["x-ctxmem-memory"] == "folded"


def test_memory_false_overrides_the_suffix(running: RunningGateway, stub: UpstreamStub) -> None:
    ask(running, long_history(1), "m:memory", extra_body={"memory": False})
    assert stub.bodies[-1] == {"model": "m", "messages": long_history(1)}
    assert running.conversations() == []


def test_the_seeds_own_example_works(running: RunningGateway, stub: UpstreamStub) -> None:
    headers = {"Authorization": "Bearer YOUR_API_KEY", "memory": "true", "memory_expiration_days": "45"}
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
    response = httpx2.post(f"{running.url}/v1/chat/completions", json=body, headers=headers)
    assert response.json()["choices"][0]["message"]["content"] == "It is fixed."
    (conversation,) = running.conversations()
    assert running.do(running.memory.info(conversation)).retention_days == 45
    assert not {"memory", "memory_expiration_days"} & stub.headers[-1].keys()


def test_models_pass_through(running: RunningGateway, stub: UpstreamStub) -> None:
    with client(running) as api:
        assert [model.id for model in api.models.list()] == ["m"]
    assert stub.paths[-1] == "/v1/models"


def test_a_configured_key_replaces_the_clients(tmp_path: Path, stub: UpstreamStub) -> None:
    with gateway(tmp_path, stub, upstream_api_key="sk-configured") as running:
        ask(running, long_history(1), "m")
    assert stub.headers[-1]["authorization"] == "Bearer sk-configured"


def test_without_an_upstream_the_error_names_the_setting(tmp_path: Path, stub: UpstreamStub) -> None:
    with (
        gateway(tmp_path, stub, upstream_base_url=None) as running,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        ask(running, long_history(1))
    assert caught.value.status_code == 503
    assert "CTXMEM_UPSTREAM_BASE_URL" in str(caught.value)


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("status", [400, 401, 402, 404, 429, 500, 503])
def test_an_upstreams_error_is_relayed(running: RunningGateway, stub: UpstreamStub, status: int) -> None:
    error = {"error": {"message": "no", "type": "t", "param": None, "code": "c"}}

    async def refuse(_: Request, __: Any) -> Response:
        return JSONResponse(error, status, {"retry-after": "7", "x-request-id": "r1"})

    stub.respond = refuse
    with pytest.raises(openai.APIStatusError) as caught:
        ask(running, long_history(2))
    assert caught.value.status_code == status
    assert caught.value.response.json() == error
    assert caught.value.response.headers["retry-after"] == "7"
    (conversation,) = running.conversations()
    assert stored(running, conversation) == as_turns(long_history(2))


def test_a_hanging_upstream_times_out(tmp_path: Path, stub: UpstreamStub) -> None:
    stub.respond = stub.hang
    with gateway(tmp_path, stub, upstream_seconds=1) as running, pytest.raises(openai.InternalServerError) as caught:
        ask(running, long_history(1))
    assert caught.value.status_code == 504
    assert stub.disconnected.wait(100)


def test_an_unreachable_upstream_is_a_502(tmp_path: Path, stub: UpstreamStub) -> None:
    with (
        gateway(tmp_path, stub, upstream_base_url="http://127.0.0.1:9/v1") as running,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        ask(running, long_history(1))
    assert caught.value.status_code == 502


def test_a_broken_off_stream_breaks_off_and_is_not_stored(running: RunningGateway, stub: UpstreamStub) -> None:
    async def break_off(_: Request, __: Any) -> Response:
        async def events() -> Any:
            for chunk in openai_events("Half an ans", finish=False):
                yield chunk
            raise ConnectionResetError

        return StreamingResponse(events(), media_type="text/event-stream")

    stub.respond = break_off
    with pytest.raises(Exception, match="incomplete chunked read"):
        streamed(running, long_history(2))
    (conversation,) = running.conversations()
    assert stored(running, conversation) == as_turns(long_history(2))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_disconnect_closes_the_upstream_and_stores_no_partial_answer(
    running: RunningGateway, stub: UpstreamStub, stream: bool
) -> None:
    async def drip(request: Request, body: Any) -> Response:
        if not stream:
            return await stub.hang(request, body)

        async def events() -> Any:
            try:
                yield openai_events("Half")[0]
                await asyncio.Event().wait()
            finally:
                stub.disconnected.set()

        return StreamingResponse(events(), media_type="text/event-stream")

    stub.respond = drip
    body = {"model": "m:memory", "stream": stream, "messages": long_history(2)}
    with httpx2.Client(timeout=100) as api:
        if stream:
            with api.stream("POST", f"{running.url}/v1/chat/completions", json=body) as response:
                next(response.iter_raw())
        else:
            with pytest.raises(httpx2.ReadTimeout):
                api.post(f"{running.url}/v1/chat/completions", json=body, timeout=httpx2.Timeout(30, read=2))
    assert stub.disconnected.wait(100)
    (conversation,) = running.conversations()
    assert stored(running, conversation) == as_turns(long_history(2))


class _PatchedMemory:
    """A memory with some methods replaced."""

    def __init__(self, memory: Memory, **methods: Any) -> None:
        self._memory, self._methods = memory, methods

    def __getattr__(self, name: str) -> Any:
        return self._methods.get(name) or getattr(self._memory, name)


@pytest.mark.parametrize("method", ["sync", "view"])
def test_a_request_is_forwarded_unchanged_if_memory_fails(tmp_path: Path, stub: UpstreamStub, method: str) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk is gone")

    with gateway(tmp_path, stub, lambda memory: _PatchedMemory(memory, **{method: fail}), **SMALL) as running:
        response = ask(running, long_history(30))
    assert response.headers["x-ctxmem-memory"] == "failed"
    assert stub.bodies[-1] == {"model": "m", "messages": long_history(30)}


def test_a_request_is_forwarded_unchanged_if_memory_is_late_and_memory_finishes(
    tmp_path: Path, stub: UpstreamStub
) -> None:
    release = threading.Event()

    def delayed(memory: Memory) -> Any:
        async def sync(*given: Any, **more: Any) -> Any:
            await asyncio.to_thread(release.wait, 30)
            return await memory.sync(*given, **more)

        return _PatchedMemory(memory, sync=sync)

    with gateway(tmp_path, stub, delayed, gateway_seconds=1, **SMALL) as running:
        response = ask(running, long_history(30))
        assert response.headers["x-ctxmem-memory"] == "late"
        assert stub.bodies[-1] == {"model": "m", "messages": long_history(30)}
        release.set()
        # On a busy machine the rest may take another time limit or two.
        outcomes = (ask(running, long_history(30)).headers["x-ctxmem-memory"] for _ in range(30))
        assert next(outcome for outcome in outcomes if not outcome.startswith("late")) == "folded"
        assert len(running.conversations()) == 1


def test_a_late_memory_reports_how_much_is_computed(tmp_path: Path, stub: UpstreamStub) -> None:
    release = threading.Event()

    def delayed(memory: Memory) -> Any:
        async def sync(*given: Any, **more: Any) -> Any:
            listener = progress.listener()
            assert listener is not None
            listener(0.4)
            await asyncio.to_thread(release.wait, 30)
            return await memory.sync(*given, **more)

        return _PatchedMemory(memory, sync=sync)

    with gateway(tmp_path, stub, delayed, gateway_seconds=1, **SMALL) as running:
        assert ask(running, long_history(30)).headers["x-ctxmem-memory"] == "late; 40%"
        release.set()


@pytest.mark.parametrize("content", [b"", b"no json", b"[1]", b'{"model":"m:memory","messages":"no"}'])
def test_a_malformed_request_is_forwarded(running: RunningGateway, stub: UpstreamStub, content: bytes) -> None:
    async def reject(_: Request, __: Any) -> Response:
        return JSONResponse({"error": {"message": "bad"}}, 400)

    stub.respond = reject
    response = httpx2.post(f"{running.url}/v1/chat/completions", content=content)
    assert response.status_code == 400
    assert response.json() == {"error": {"message": "bad"}}
    assert stub.raw == [content.replace(b":memory", b"")]


# ---------------------------------------------------------------- usage


def test_usage_reports_tokens_and_forgetting_removes_the_id(running: RunningGateway) -> None:
    messages = long_history(30)
    response = ask(running, messages)
    streamed(running, [*messages, {"role": "assistant", "content": "It is fixed."}, {"role": "user", "content": "?"}])
    conversation = response.headers["x-ctxmem-conversation"]
    report = httpx2.get(f"{running.url}/v1/usage").json()
    (row,) = report["data"]
    assert row["conversation_id"] == conversation
    assert row["requests"] == 2
    assert row["tokens_cached"] == 64
    assert row["tokens_saved"] > int(response.headers["x-ctxmem-tokens-saved"])
    fresh = row["tokens_in"] - 64
    assert row["cost"] == pytest.approx((fresh * 5 + 64 * 2.5 + row["tokens_out"] * 10) / 1e6, abs=1e-6)
    assert report["prices_per_million_tokens"] == {"input": 5.0, "cached": 2.5, "output": 10.0}
    running.do(running.memory.forget(conversation, conversation))
    after = httpx2.get(f"{running.url}/v1/usage").json()
    assert after["data"] == [row | {"conversation_id": None}]
    assert conversation.encode() not in (running.folder / usage_ledger.FILE).read_bytes()


def test_the_usage_resource_has_the_same_report(tmp_path: Path, stub: UpstreamStub) -> None:
    with gateway(tmp_path, stub, price_in=3.0, price_out=15.0) as running:
        mine, other = long_history(2), long_history(3)[4:]
        conversation = ask(running, mine).headers["x-ctxmem-conversation"]
        assert ask(running, other).headers["x-ctxmem-conversation"] != conversation
        report = httpx2.get(f"{running.url}/v1/usage", params={"conversation_id": conversation}).json()
        uri = f"ctxmem://conversations/{conversation}/usage"
        (content,) = running.do(resources.read_resource(running.memory, uri)).contents
        assert isinstance(content, TextResourceContents)
        usage = json.loads(content.text)
        assert usage["gateway"] == report
        assert (usage["gateway"]["total"]["requests"], usage["gateway"]["prices_per_million_tokens"]["input"]) == (
            1,
            3.0,
        )
        (tmp_path / usage_ledger.FILE).write_bytes(b"no table at all" * 100)
        (content,) = running.do(resources.read_resource(running.memory, uri)).contents
        assert isinstance(content, TextResourceContents)
        assert json.loads(content.text) == {**usage, "gateway": None}
