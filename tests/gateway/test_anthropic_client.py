"""The official Anthropic client through the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ctxmem_mcp.transcripts.base import RECALL_START
from ctxmem_mcp.transcripts.content_blocks import turns_from_blocks
from tests.gateway.harness import House, Upstream, anthropic_events, gateway, says, upstream

Message = dict[str, Any]
SYSTEM: Any = [{"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}}]
USE = {"type": "tool_use", "id": "toolu_9", "name": "Bash", "input": {"command": "ls  -l", "n": 1.5, "é": None}}


@pytest.fixture
def known() -> Iterator[Upstream]:
    with upstream(says("It is fixed.")) as found:
        yield found


@pytest.fixture
def house(tmp_path: Path, known: Upstream) -> Iterator[House]:
    with gateway(tmp_path, known, gateway_tokens=4_000) as found:
        yield found


def history(requests: int) -> Any:
    """As Claude Code sends it: results in the user's messages, a mark for the cache on the last one."""
    made: list[Message] = []
    for i in range(requests):
        use = {"type": "tool_use", "id": f"toolu_{i}", "name": "Read", "input": {"file": f"f{i}.py"}}
        result = {
            "type": "tool_result",
            "tool_use_id": f"toolu_{i}",
            "content": f"line {i}\n" + f"token{i} failed\n" * 120,
        }
        made += [
            {"role": "user", "content": f"Please look at file number {i}."},
            {"role": "assistant", "content": [{"type": "text", "text": f"I read {i}."}, use]},
            {"role": "user", "content": [result]},
            {"role": "assistant", "content": [{"type": "text", "text": f"File {i} fails because of token{i}."}]},
        ]
    last = {"type": "text", "text": "And now?", "cache_control": {"type": "ephemeral"}}
    return [*made, {"role": "user", "content": [last]}]


def client(house: House) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=house.url, api_key="sk-ant-own", max_retries=0, timeout=30)


def ask(house: House, messages: Any, model: str = "m:memory", **more: Any) -> Any:
    with client(house) as api:
        return api.messages.with_raw_response.create(
            model=model, max_tokens=500, system=SYSTEM, messages=messages, **more
        )


def streamed(house: House, messages: Any) -> Any:
    with (
        client(house) as api,
        api.messages.stream(model="m:memory", max_tokens=500, system=SYSTEM, messages=messages) as stream,
    ):
        return stream.get_final_message()


def kept(house: House) -> list[tuple[str, str, str | None, str | None]]:
    (conversation,) = house.conversations()
    return [(turn.role, turn.content, turn.name, turn.call_id) for turn in house.turns(conversation)]


def as_turns(messages: list[Message]) -> list[tuple[str, str, str | None, str | None]]:
    said = [{"role": "system", "content": "You are Claude Code."}, *messages]
    turns = [turn for m in said for turn in turns_from_blocks(m["role"], m["content"])]
    return [(turn.role, turn.content, turn.name, turn.call_id) for turn in turns]


@pytest.mark.parametrize("stream", [False, True])
def test_every_message_and_the_answer_are_kept(tmp_path: Path, known: Upstream, stream: bool) -> None:
    known.answers = says("Let me see.", blocks=[USE])
    with gateway(tmp_path, known) as house:
        message = streamed(house, history(2)) if stream else ask(house, history(2)).parse()
        assert [block.type for block in message.content] == ["text", "tool_use"]
        assert message.content[1].input == USE["input"]
        answer = {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}, USE]}
        assert kept(house) == as_turns([*history(2), answer])
        # The client's next request goes on from there.
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_9", "content": "a"}]}
        ask(house, [*history(2), answer, result])
        assert kept(house)[: len(as_turns([*history(2), answer, result]))] == as_turns([*history(2), answer, result])


def test_a_conversation_that_fits_goes_as_it_came(house: House, known: Upstream) -> None:
    ask(house, history(1))
    assert known.bodies[-1] == {"model": "m", "max_tokens": 500, "system": SYSTEM, "messages": history(1)}
    assert known.headers[-1]["x-api-key"] == "sk-ant-own"
    assert known.headers[-1]["anthropic-version"]


def test_a_long_conversation_is_folded_with_a_mark_for_the_cache_at_the_views_end(
    house: House, known: Upstream
) -> None:
    messages = history(30)
    done = ask(house, messages)
    body = known.bodies[-1]
    view = body["messages"][0]
    assert body["system"] == SYSTEM
    assert view["role"] == "user"
    assert view["content"][0]["text"].startswith(RECALL_START)
    assert view["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert all(message in messages for message in body["messages"][1:])
    assert body["messages"][-1] == messages[-1]
    assert done.headers["x-ctxmem-memory"] == "folded"
    called = {
        b["id"] for m in body["messages"] for b in m["content"] if isinstance(b, dict) and b["type"] == "tool_use"
    }
    results = [b for m in body["messages"] for b in m["content"] if isinstance(b, dict) and b["type"] == "tool_result"]
    assert {b["tool_use_id"] for b in results} <= called
    usage = json.loads(done.text)["usage"]
    assert usage["raw_input_tokens"] == 120 + int(done.headers["x-ctxmem-tokens-saved"])


@pytest.mark.parametrize(("marks", "ours"), [(1, {"type": "ephemeral", "ttl": "1h"}), (4, None)])
def test_there_are_never_more_marks_than_the_api_takes_and_a_longer_one_comes_first(
    house: House, known: Upstream, marks: int, ours: Any
) -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    parts = [{"type": "text", "text": f"part {i}", "cache_control": mark} for i in range(marks)]
    with client(house) as api:
        messages: Any = [*history(30)[:-1], {"role": "user", "content": parts}]
        api.messages.create(model="m:memory", max_tokens=500, system="s", messages=messages)
    assert known.bodies[-1]["messages"][0]["content"][-1].get("cache_control") == ours


@pytest.mark.parametrize(
    ("parts", "ttl", "ours"),
    [(1, "1h", {"type": "ephemeral", "ttl": "1h"}), (3, "5m", None), (2, "5m", {"type": "ephemeral"})],
)
def test_a_mark_on_the_request_itself_counts_as_one_on_its_last_message(
    house: House, known: Upstream, parts: int, ttl: str, ours: Any
) -> None:
    mark = {"type": "ephemeral", "ttl": ttl}
    system = [
        {"type": "text", "text": f"part {i}", "cache_control": {"type": "ephemeral", "ttl": "1h"}} for i in range(parts)
    ]
    body = {"model": "m:memory", "max_tokens": 500, "system": system, "cache_control": mark}
    httpx2.post(
        f"{house.url}/v1/messages", json={**body, "messages": [*history(30)[:-1], {"role": "user", "content": "?"}]}
    )
    assert known.bodies[-1]["cache_control"] == mark
    assert known.bodies[-1]["messages"][0]["content"][-1].get("cache_control") == ours


def test_an_answer_that_nobody_understands_comes_back_as_it_is(house: House, known: Upstream) -> None:
    depth = 400
    nested = '{"content": [' * depth + "]}" * depth
    content = f'{{"role": "assistant", "content": [{nested}]}}'

    async def answers(_: Request, __: Any) -> Response:
        return Response(content, media_type="application/json")

    known.answers = answers
    with_memory = {"model": "m:memory", "max_tokens": 500, "messages": [{"role": "user", "content": "?"}]}
    answer = httpx2.post(f"{house.url}/v1/messages", json=with_memory)
    assert (answer.status_code, answer.text) == (200, content)


def test_tokens_are_counted_of_what_would_be_sent(house: House, known: Upstream) -> None:
    with client(house) as api:
        counted = [
            api.messages.count_tokens(model=model, system=SYSTEM, messages=history(30)).input_tokens
            for model in ("m", "m:memory")
        ]
    assert counted[1] < counted[0] / 2
    assert known.paths[-1] == "/v1/messages/count_tokens"
    assert httpx2.get(f"{house.url}/v1/usage").json()["data"] == []


def test_events_come_byte_for_byte(house: House) -> None:
    body = {"model": "m:memory", "stream": True, "max_tokens": 500, "messages": history(30)}
    answer = httpx2.post(f"{house.url}/v1/messages", json=body)
    assert answer.content == b"".join(anthropic_events("It is fixed."))


def test_a_reminder_that_moves_branches_and_changes_nothing_else(house: House) -> None:
    parts = [{"type": "text", "text": text} for text in ("And now?", "<system-reminder>todo</system-reminder>")]
    reminded = [*history(1)[:-1], {"role": "user", "content": parts}]
    ask(house, reminded)
    answer = {"role": "assistant", "content": "It is fixed."}
    ask(house, [*history(1), answer, {"role": "user", "content": "Good."}])
    (conversation,) = house.conversations()
    assert len(house.do(house.memory.branches(conversation))) == 2


def test_a_refusal_comes_back_as_it_is(house: House, known: Upstream) -> None:
    refusal = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

    async def refuses(_: Request, __: Any) -> Response:
        return JSONResponse(refusal, 529)

    known.answers = refuses
    with pytest.raises(anthropic.APIStatusError) as told:
        ask(house, history(1))
    assert told.value.status_code == 529
    assert told.value.body == refusal


def test_usage_counts_what_the_cache_served(house: House) -> None:
    ask(house, history(1))
    (row,) = httpx2.get(f"{house.url}/v1/usage").json()["data"]
    assert (row["tokens_in"], row["tokens_cached"], row["tokens_out"]) == (120, 70, 9)
