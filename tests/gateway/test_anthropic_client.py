"""The official Anthropic client through the gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ctxmem_mcp.text.host_text import RECALL_START
from ctxmem_mcp.transcripts.content_blocks import turns_from_blocks
from tests.gateway.harness import RunningGateway, UpstreamStub, answers_with, anthropic_events, gateway

Message = dict[str, Any]
SYSTEM: Any = [{"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}}]
USE = {"type": "tool_use", "id": "toolu_9", "name": "Bash", "input": {"command": "ls  -l", "n": 1.5, "é": None}}


def history(requests: int) -> Any:
    """Returns messages as Claude Code sends them: results in user messages, a cache mark on the last one."""
    messages: list[Message] = []
    for i in range(requests):
        use = {"type": "tool_use", "id": f"toolu_{i}", "name": "Read", "input": {"file": f"f{i}.py"}}
        result = {
            "type": "tool_result",
            "tool_use_id": f"toolu_{i}",
            "content": f"line {i}\n" + f"token{i} failed\n" * 120,
        }
        messages += [
            {"role": "user", "content": f"Please look at file number {i}."},
            {"role": "assistant", "content": [{"type": "text", "text": f"I read {i}."}, use]},
            {"role": "user", "content": [result]},
            {"role": "assistant", "content": [{"type": "text", "text": f"File {i} fails because of token{i}."}]},
        ]
    last = {"type": "text", "text": "And now?", "cache_control": {"type": "ephemeral"}}
    return [*messages, {"role": "user", "content": [last]}]


def client(running: RunningGateway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=running.url, api_key="sk-ant-own", max_retries=0, timeout=100)


def ask(running: RunningGateway, messages: Any, model: str = "m:memory", **more: Any) -> Any:
    with client(running) as api:
        return api.messages.with_raw_response.create(
            model=model, max_tokens=500, system=SYSTEM, messages=messages, **more
        )


def streamed(running: RunningGateway, messages: Any) -> Any:
    with (
        client(running) as api,
        api.messages.stream(model="m:memory", max_tokens=500, system=SYSTEM, messages=messages) as stream,
    ):
        return stream.get_final_message()


def stored(running: RunningGateway) -> list[tuple[str, str, str | None, str | None]]:
    (conversation,) = running.conversations()
    return [(turn.role, turn.content, turn.name, turn.call_id) for turn in running.turns(conversation)]


def as_turns(messages: list[Message]) -> list[tuple[str, str, str | None, str | None]]:
    conversation = [{"role": "system", "content": "You are Claude Code."}, *messages]
    turns = [turn for m in conversation for turn in turns_from_blocks(m["role"], m["content"])]
    return [(turn.role, turn.content, turn.name, turn.call_id) for turn in turns]


@pytest.mark.parametrize("stream", [False, True])
def test_every_message_and_the_answer_are_stored(tmp_path: Path, stub: UpstreamStub, stream: bool) -> None:
    stub.respond = answers_with("Let me see.", blocks=[USE])
    with gateway(tmp_path, stub) as running:
        message = streamed(running, history(2)) if stream else ask(running, history(2)).parse()
        assert [block.type for block in message.content] == ["text", "tool_use"]
        assert message.content[1].input == USE["input"]
        answer = {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}, USE]}
        assert stored(running) == as_turns([*history(2), answer])
        # The client's next request continues from there.
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_9", "content": "a"}]}
        ask(running, [*history(2), answer, result])
        assert stored(running)[: len(as_turns([*history(2), answer, result]))] == as_turns(
            [*history(2), answer, result]
        )


def test_a_conversation_that_fits_is_forwarded_unchanged(running: RunningGateway, stub: UpstreamStub) -> None:
    ask(running, history(1))
    assert stub.bodies[-1] == {"model": "m", "max_tokens": 500, "system": SYSTEM, "messages": history(1)}
    assert stub.headers[-1]["x-api-key"] == "sk-ant-own"
    assert stub.headers[-1]["anthropic-version"]


def test_a_compacted_request_has_a_cache_mark_after_the_view(running: RunningGateway, stub: UpstreamStub) -> None:
    messages = history(30)
    response = ask(running, messages)
    body = stub.bodies[-1]
    view = body["messages"][0]
    assert body["system"] == SYSTEM
    assert view["role"] == "user"
    assert view["content"][0]["text"] == "Please look at file number 0."
    assert view["content"][1]["text"].startswith(RECALL_START)
    assert view["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert all(message in messages for message in body["messages"][1:])
    assert body["messages"][-1] == messages[-1]
    assert response.headers["x-ctxmem-memory"] == "folded"
    called = {
        b["id"] for m in body["messages"] for b in m["content"] if isinstance(b, dict) and b["type"] == "tool_use"
    }
    results = [b for m in body["messages"] for b in m["content"] if isinstance(b, dict) and b["type"] == "tool_result"]
    assert {b["tool_use_id"] for b in results} <= called
    usage = json.loads(response.text)["usage"]
    assert usage["raw_input_tokens"] == 120 + int(response.headers["x-ctxmem-tokens-saved"])


@pytest.mark.parametrize(("marks", "expected"), [(1, {"type": "ephemeral", "ttl": "1h"}), (4, None)])
def test_cache_marks_stay_within_the_apis_limits_of_number_and_order(
    running: RunningGateway, stub: UpstreamStub, marks: int, expected: Any
) -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    parts = [{"type": "text", "text": f"part {i}", "cache_control": mark} for i in range(marks)]
    with client(running) as api:
        messages: Any = [*history(30)[:-1], {"role": "user", "content": parts}]
        api.messages.create(model="m:memory", max_tokens=500, system="s", messages=messages)
    assert stub.bodies[-1]["messages"][0]["content"][-1].get("cache_control") == expected


@pytest.mark.parametrize(
    ("parts", "ttl", "expected"),
    [(1, "1h", {"type": "ephemeral", "ttl": "1h"}), (3, "5m", None), (2, "5m", {"type": "ephemeral"})],
)
def test_a_mark_on_the_request_itself_counts_as_one_on_its_last_message(
    running: RunningGateway, stub: UpstreamStub, parts: int, ttl: str, expected: Any
) -> None:
    mark = {"type": "ephemeral", "ttl": ttl}
    system = [
        {"type": "text", "text": f"part {i}", "cache_control": {"type": "ephemeral", "ttl": "1h"}} for i in range(parts)
    ]
    body = {"model": "m:memory", "max_tokens": 500, "system": system, "cache_control": mark}
    httpx2.post(
        f"{running.url}/v1/messages", json={**body, "messages": [*history(30)[:-1], {"role": "user", "content": "?"}]}
    )
    assert stub.bodies[-1]["cache_control"] == mark
    assert stub.bodies[-1]["messages"][0]["content"][-1].get("cache_control") == expected


def test_a_malformed_response_is_relayed_unchanged(running: RunningGateway, stub: UpstreamStub) -> None:
    depth = 400
    nested = '{"content": [' * depth + "]}" * depth
    content = f'{{"role": "assistant", "content": [{nested}]}}'

    async def respond(_: Request, __: Any) -> Response:
        return Response(content, media_type="application/json")

    stub.respond = respond
    with_memory = {"model": "m:memory", "max_tokens": 500, "messages": [{"role": "user", "content": "?"}]}
    response = httpx2.post(f"{running.url}/v1/messages", json=with_memory)
    assert (response.status_code, response.text) == (200, content)


def test_count_tokens_counts_the_compacted_request(running: RunningGateway, stub: UpstreamStub) -> None:
    with client(running) as api:
        counted = [
            api.messages.count_tokens(model=model, system=SYSTEM, messages=history(30)).input_tokens
            for model in ("m", "m:memory")
        ]
    assert counted[1] < counted[0] / 2
    assert stub.paths[-1] == "/v1/messages/count_tokens"
    assert httpx2.get(f"{running.url}/v1/usage").json()["data"] == []


def test_events_are_relayed_byte_for_byte(running: RunningGateway) -> None:
    body = {"model": "m:memory", "stream": True, "max_tokens": 500, "messages": history(30)}
    response = httpx2.post(f"{running.url}/v1/messages", json=body)
    assert response.content == b"".join(anthropic_events("It is fixed."))


def test_a_moved_reminder_makes_no_branch(running: RunningGateway) -> None:
    parts = [{"type": "text", "text": text} for text in ("And now?", "<system-reminder>todo</system-reminder>")]
    reminded = [*history(1)[:-1], {"role": "user", "content": parts}]
    ask(running, reminded)
    answer = {"role": "assistant", "content": "It is fixed."}
    ask(running, [*history(1), answer, {"role": "user", "content": "Good."}])
    (conversation,) = running.conversations()
    assert len(running.do(running.memory.branches(conversation))) == 1
    assert any("todo" in turn.content for turn in running.turns(conversation))


def test_an_error_of_the_upstream_is_relayed(running: RunningGateway, stub: UpstreamStub) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

    async def refuse(_: Request, __: Any) -> Response:
        return JSONResponse(error, 529)

    stub.respond = refuse
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(running, history(1))
    assert caught.value.status_code == 529
    assert caught.value.body == error


def test_usage_counts_cached_tokens(running: RunningGateway) -> None:
    ask(running, history(1))
    (row,) = httpx2.get(f"{running.url}/v1/usage").json()["data"]
    assert (row["tokens_in"], row["tokens_cached"], row["tokens_out"]) == (120, 70, 9)
