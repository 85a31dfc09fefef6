"""The official OpenAI client through the gateway, to an upstream that answers well, badly, late or not at all."""

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

from ctxmem_mcp import usage_ledger
from ctxmem_mcp.mcp_server import resources
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.transcripts.base import RECALL_START
from ctxmem_mcp.transcripts.openai import turns_from_messages
from tests.gateway.harness import House, Upstream, gateway, long_history, openai_events, says, upstream

Message = dict[str, Any]
SMALL: dict[str, Any] = {"gateway_tokens": 4_000}
PICTURE = {"type": "image_url", "image_url": {"url": "data:,x"}}


@pytest.fixture
def known() -> Iterator[Upstream]:
    with upstream(says("It is fixed.")) as found:
        yield found


@pytest.fixture
def house(tmp_path: Path, known: Upstream) -> Iterator[House]:
    with gateway(tmp_path, known, **SMALL) as found:
        yield found


def client(house: House, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{house.url}/v1", api_key="sk-own", max_retries=0, timeout=30, **more)


def ask(house: House, messages: Any, model: str = "m:memory", **more: Any) -> Any:
    """The raw response: parse() gives the completion, headers what was done."""
    with client(house) as api:
        return api.chat.completions.with_raw_response.create(model=model, messages=messages, **more)


def streamed(house: House, messages: Any) -> str:
    with client(house) as api:
        chunks: Any = api.chat.completions.create(model="m:memory", messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def kept(house: House, conversation_id: str) -> list[tuple[str, str, str | None, str | None]]:
    return [(turn.role, turn.content, turn.name, turn.call_id) for turn in house.turns(conversation_id)]


def as_turns(messages: list[Message]) -> list[tuple[str, str, str | None, str | None]]:
    return [(turn.role, turn.content, turn.name, turn.call_id) for turn in turns_from_messages(messages)]


# ---------------------------------------------------------------- what is kept


def test_every_message_is_kept_byte_for_byte_and_so_is_the_answer(house: House) -> None:
    messages: list[Message] = [
        {"role": "system", "content": "Be brief.\r\n\n"},
        {"role": "user", "content": [{"type": "text", "text": " Look:\t"}, PICTURE]},
        *long_history(2)[1:],
        {"role": "assistant", "content": "é 漢字 \u0000 🙂"},
        {"role": "user", "content": "<|endoftext|>[t0-000 user]\n"},
    ]
    done = ask(house, messages)
    answer = {"role": "assistant", "content": "It is fixed."}
    assert kept(house, done.headers["x-ctxmem-conversation"]) == as_turns([*messages, answer])


def test_half_a_surrogate_pair_is_kept_as_a_sign_for_it_and_goes_on_as_it_came(house: House, known: Upstream) -> None:
    content = b'{"model":"m:memory","messages":[{"role":"user","content":"cut \\ud83d here"}]}'
    answer = httpx2.post(f"{house.url}/v1/chat/completions", content=content)
    assert answer.headers["x-ctxmem-memory"] == "whole"
    assert known.raw == [content.replace(b":memory", b"")]
    assert kept(house, answer.headers["x-ctxmem-conversation"])[0][1] == "cut \ufffd here"


def test_a_streamed_answer_is_kept_when_it_is_whole(house: House) -> None:
    messages = long_history(1)
    assert streamed(house, messages) == "It is fixed."
    (conversation,) = house.conversations()
    assert kept(house, conversation) == as_turns([*messages, {"role": "assistant", "content": "It is fixed."}])


CALL = {"id": "call_9", "type": "function", "function": {"name": "run", "arguments": '{ "x":  "é\\n" }'}}


@pytest.mark.parametrize("stream", [False, True])
def test_calls_in_an_answer_are_kept_with_their_arguments_as_they_were_said(
    tmp_path: Path, known: Upstream, stream: bool
) -> None:
    known.answers = says(None, tool_calls=[CALL])
    with gateway(tmp_path, known) as house:
        messages = long_history(1)
        if stream:
            streamed(house, messages)
        else:
            ask(house, messages)
        (conversation,) = house.conversations()
        said = {"role": "assistant", "content": None, "tool_calls": [CALL]}
        assert kept(house, conversation) == as_turns([*messages, said])
        # What the client sends next is known already.
        result = {"role": "tool", "tool_call_id": "call_9", "content": "ok"}
        ask(house, [*messages, said, result])
        assert house.conversations() == [conversation]
        assert house.turns(conversation)[len(as_turns([*messages, said, result])) - 1].content == "ok"


def test_the_conversation_is_found_by_its_messages_whatever_the_model_and_edits_branch(house: House) -> None:
    messages = long_history(3)
    first = ask(house, messages).headers["x-ctxmem-conversation"]
    answered = [*messages, {"role": "assistant", "content": "It is fixed."}, {"role": "user", "content": "Thanks."}]
    assert ask(house, answered, "another:memory").headers["x-ctxmem-conversation"] == first
    edited = [*messages[:-1], {"role": "user", "content": "No, wait."}]
    assert ask(house, edited).headers["x-ctxmem-conversation"] == first
    assert len(house.do(house.memory.branches(first))) == 2
    assert house.do(house.memory.verify(first)) == []


def test_a_side_request_does_not_disturb_the_conversation(house: House) -> None:
    messages = long_history(3)
    main = ask(house, messages).headers["x-ctxmem-conversation"]
    before = kept(house, main)
    side = [{"role": "system", "content": "Give this talk a title."}, messages[1]]
    other = ask(house, side).headers["x-ctxmem-conversation"]
    assert other != main
    assert kept(house, main) == before
    probe = ask(house, side, max_tokens=20)
    assert probe.headers["x-ctxmem-memory"] == "aside"
    assert len(house.conversations()) == 2


def test_a_system_prompt_that_tells_the_time_is_the_same_conversation(house: House, known: Upstream) -> None:
    said = long_history(2)[1:]
    one, two = ({"role": "system", "content": f"It is {when}."} for when in ("Mon 3 May 10:02", "Tue 4 May 09:00"))
    first = ask(house, [one, *said]).headers["x-ctxmem-conversation"]
    second = ask(house, [two, *said, {"role": "assistant", "content": "Done."}, {"role": "user", "content": "?"}])
    assert second.headers["x-ctxmem-conversation"] == first
    assert known.bodies[-1]["messages"][0] == two


# ---------------------------------------------------------------- what goes upstream


def test_a_conversation_that_fits_goes_as_it_came(house: House, known: Upstream) -> None:
    messages = long_history(2)
    done = ask(house, messages, "m:online:memory-90", temperature=0.5, extra_body={"model_context_limit": "128000"})
    assert known.bodies[-1] == {"model": "m:online", "messages": messages, "temperature": 0.5}
    assert known.headers[-1]["authorization"] == "Bearer sk-own"
    assert done.headers["x-ctxmem-memory"] == "whole"
    assert done.headers["x-ctxmem-retention-days"] == "90"
    assert house.do(house.memory.info(done.headers["x-ctxmem-conversation"])).retention_days == 90


def test_a_long_conversation_goes_as_a_view_and_the_newest_messages_as_they_came(house: House, known: Upstream) -> None:
    messages = long_history(30)
    done = ask(house, messages)
    sent = known.bodies[-1]["messages"]
    assert sent[0] == messages[0]
    assert sent[1]["role"] == "user"
    assert sent[1]["content"].startswith(RECALL_START)
    rest = sent[2:]
    pinned = rest[0] not in messages[-len(rest) :]
    assert rest[pinned:] == messages[-len(rest) + pinned :]
    assert not pinned or (rest[0]["role"], rest[1]["role"]) == ("user", "assistant")
    assert 0 < len(rest) < len(messages) // 2
    assert done.headers["x-ctxmem-memory"] == "folded"
    told = {name: int(done.headers[f"x-ctxmem-tokens-{name}"]) for name in ("in", "sent", "saved")}
    assert told["in"] - told["sent"] == told["saved"] > 0
    assert told["sent"] <= 4_000
    usage = json.loads(done.text)["usage"]
    assert usage["prompt_tokens"] == 120
    assert usage["raw_prompt_tokens"] == 120 + told["saved"]


def test_between_two_folds_every_request_begins_with_the_one_before(house: House, known: Upstream) -> None:
    messages = long_history(40, words=20)
    with httpx2.Client(base_url=house.url, timeout=30) as api:
        for end in (i for i in range(2, len(messages)) if messages[i]["role"] == "assistant"):
            api.post("/v1/chat/completions", json={"model": "m:memory", "messages": messages[:end]})
    sent = [body["messages"] for body in known.bodies]
    grew = [after[: len(before)] == before for before, after in pairwise(sent)]
    assert 0 < grew.count(False) <= len(grew) / 5
    assert grew.count(True) > 60


def test_after_a_restart_the_same_request_gives_the_same_bytes(tmp_path: Path, known: Upstream) -> None:
    for _ in range(2):
        with gateway(tmp_path, known, **SMALL) as house:
            assert ask(house, long_history(30)).headers["x-ctxmem-memory"] == "folded"
    assert known.raw[0] == known.raw[1]


def test_pictures_and_parts_among_the_newest_go_unharmed(house: House, known: Upstream) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 2_000}}
    last = {"role": "user", "content": [{"type": "text", "text": "And this?"}, picture]}
    done = ask(house, [*long_history(30), {"role": "assistant", "content": "Well."}, last])
    assert done.headers["x-ctxmem-memory"] == "folded"
    assert known.bodies[-1]["messages"][-1] == last


# ---------------------------------------------------------------- without memory


def test_without_memory_bytes_go_through_as_they_are_both_ways(house: House, known: Upstream) -> None:
    content = b'{"model" : "m:online",  "messages":[{"role":"user","content":"\\u00e9"}], "stream":true}'
    headers = {"Content-Type": "application/json", "Authorization": "Bearer k", "Cookie": "a=b", "X-Custom": "1"}
    answer = httpx2.post(f"{house.url}/v1/chat/completions", content=content, headers=headers)
    assert known.raw[-1] == content
    assert answer.content == b"".join(openai_events("It is fixed."))
    assert answer.headers["x-ctxmem-memory"] == "off"
    assert known.headers[-1]["x-custom"] == "1"
    assert "cookie" not in known.headers[-1]
    assert house.conversations() == []


def test_with_memory_a_stream_comes_byte_for_byte(house: House) -> None:
    body = {"model": "m:memory", "stream": True, "messages": long_history(30)}
    answer = httpx2.post(f"{house.url}/v1/chat/completions", json=body)
    assert answer.content == b"".join(openai_events("It is fixed."))
    assert answer.headers["x-ctxmem-memory"] == "folded"


def test_memory_false_wins_over_the_suffix(house: House, known: Upstream) -> None:
    ask(house, long_history(1), "m:memory", extra_body={"memory": False})
    assert known.bodies[-1] == {"model": "m", "messages": long_history(1)}
    assert house.conversations() == []


def test_the_seeds_own_example_works(house: House, known: Upstream) -> None:
    headers = {"Authorization": "Bearer YOUR_API_KEY", "memory": "true", "memory_expiration_days": "45"}
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
    answer = httpx2.post(f"{house.url}/v1/chat/completions", json=body, headers=headers)
    assert answer.json()["choices"][0]["message"]["content"] == "It is fixed."
    (conversation,) = house.conversations()
    assert house.do(house.memory.info(conversation)).retention_days == 45
    assert not {"memory", "memory_expiration_days"} & known.headers[-1].keys()


def test_models_pass_through(house: House, known: Upstream) -> None:
    with client(house) as api:
        assert [model.id for model in api.models.list()] == ["m"]
    assert known.paths[-1] == "/v1/models"


def test_a_configured_key_takes_the_place_of_the_clients(tmp_path: Path, known: Upstream) -> None:
    with gateway(tmp_path, known, upstream_api_key="sk-configured") as house:
        ask(house, long_history(1), "m")
    assert known.headers[-1]["authorization"] == "Bearer sk-configured"


def test_without_an_upstream_the_setting_is_named(tmp_path: Path, known: Upstream) -> None:
    with gateway(tmp_path, known, upstream_base_url=None) as house, pytest.raises(openai.InternalServerError) as told:
        ask(house, long_history(1))
    assert told.value.status_code == 503
    assert "CTXMEM_UPSTREAM_BASE_URL" in str(told.value)


# ---------------------------------------------------------------- when things go wrong


@pytest.mark.parametrize("status", [400, 401, 402, 404, 429, 500, 503])
def test_an_upstreams_refusal_comes_back_as_it_is(house: House, known: Upstream, status: int) -> None:
    refusal = {"error": {"message": "no", "type": "t", "param": None, "code": "c"}}

    async def refuses(_: Request, __: Any) -> Response:
        return JSONResponse(refusal, status, {"retry-after": "7", "x-request-id": "r1"})

    known.answers = refuses
    with pytest.raises(openai.APIStatusError) as told:
        ask(house, long_history(2))
    assert told.value.status_code == status
    assert told.value.response.json() == refusal
    assert told.value.response.headers["retry-after"] == "7"
    (conversation,) = house.conversations()
    assert kept(house, conversation) == as_turns(long_history(2))


def test_an_upstream_that_hangs_is_given_up(tmp_path: Path, known: Upstream) -> None:
    known.answers = known.hangs
    with gateway(tmp_path, known, upstream_seconds=1) as house, pytest.raises(openai.InternalServerError) as told:
        ask(house, long_history(1))
    assert told.value.status_code == 504
    assert known.gone.wait(10)


def test_an_upstream_that_is_not_there_is_a_502(tmp_path: Path, known: Upstream) -> None:
    with (
        gateway(tmp_path, known, upstream_base_url="http://127.0.0.1:9/v1") as house,
        pytest.raises(openai.InternalServerError) as told,
    ):
        ask(house, long_history(1))
    assert told.value.status_code == 502


def test_an_answer_that_breaks_off_breaks_off_and_is_not_kept(house: House, known: Upstream) -> None:
    async def dies(_: Request, __: Any) -> Response:
        async def events() -> Any:
            for chunk in openai_events("Half an ans", finish=False):
                yield chunk
            raise ConnectionResetError

        return StreamingResponse(events(), media_type="text/event-stream")

    known.answers = dies
    with pytest.raises(Exception, match="incomplete chunked read"):
        streamed(house, long_history(2))
    (conversation,) = house.conversations()
    assert kept(house, conversation) == as_turns(long_history(2))


@pytest.mark.parametrize("stream", [False, True])
def test_when_the_client_hangs_up_the_upstream_is_let_go_and_nothing_half_is_kept(
    house: House, known: Upstream, stream: bool
) -> None:
    async def drips(request: Request, body: Any) -> Response:
        if not stream:
            return await known.hangs(request, body)

        async def events() -> Any:
            try:
                yield openai_events("Half")[0]
                await asyncio.Event().wait()
            finally:
                known.gone.set()

        return StreamingResponse(events(), media_type="text/event-stream")

    known.answers = drips
    body = {"model": "m:memory", "stream": stream, "messages": long_history(2)}
    with httpx2.Client(timeout=30) as api:
        if stream:
            with api.stream("POST", f"{house.url}/v1/chat/completions", json=body) as answer:
                next(answer.iter_raw())
        else:
            with pytest.raises(httpx2.ReadTimeout):
                api.post(f"{house.url}/v1/chat/completions", json=body, timeout=httpx2.Timeout(30, read=2))
    assert known.gone.wait(10)
    (conversation,) = house.conversations()
    assert kept(house, conversation) == as_turns(long_history(2))


class _Odd:
    """A memory of which one verb does something else."""

    def __init__(self, memory: Memory, **verbs: Any) -> None:
        self._memory, self._verbs = memory, verbs

    def __getattr__(self, name: str) -> Any:
        return self._verbs.get(name) or getattr(self._memory, name)


@pytest.mark.parametrize("verb", ["sync", "view"])
def test_when_memory_breaks_the_request_goes_on_as_it_came(tmp_path: Path, known: Upstream, verb: str) -> None:
    async def breaks(*_: Any, **__: Any) -> None:
        raise OSError("the disk is gone")

    with gateway(tmp_path, known, lambda memory: _Odd(memory, **{verb: breaks}), **SMALL) as house:
        done = ask(house, long_history(30))
    assert done.headers["x-ctxmem-memory"] == "failed"
    assert known.bodies[-1] == {"model": "m", "messages": long_history(30)}


def test_when_memory_is_late_the_request_goes_on_as_it_came_and_memory_comes_to_its_end(
    tmp_path: Path, known: Upstream
) -> None:
    release = threading.Event()

    def slow(memory: Memory) -> Any:
        async def sync(*given: Any, **more: Any) -> Any:
            await asyncio.to_thread(release.wait, 30)
            return await memory.sync(*given, **more)

        return _Odd(memory, sync=sync)

    with gateway(tmp_path, known, slow, gateway_seconds=1, **SMALL) as house:
        done = ask(house, long_history(30))
        assert done.headers["x-ctxmem-memory"] == "late"
        assert known.bodies[-1] == {"model": "m", "messages": long_history(30)}
        release.set()
        again = ask(house, long_history(30))
        assert again.headers["x-ctxmem-memory"] == "folded"
        assert len(house.conversations()) == 1


@pytest.mark.parametrize("content", [b"", b"no json", b"[1]", b'{"model":"m:memory","messages":"no"}'])
def test_what_is_no_request_goes_on_for_the_upstream_to_judge(house: House, known: Upstream, content: bytes) -> None:
    async def judges(_: Request, __: Any) -> Response:
        return JSONResponse({"error": {"message": "bad"}}, 400)

    known.answers = judges
    answer = httpx2.post(f"{house.url}/v1/chat/completions", content=content)
    assert answer.status_code == 400
    assert answer.json() == {"error": {"message": "bad"}}
    assert known.raw == [content.replace(b":memory", b"")]


# ---------------------------------------------------------------- usage


def test_usage_tells_what_was_sent_cached_and_saved_and_forgetting_takes_the_name_away(house: House) -> None:
    messages = long_history(30)
    done = ask(house, messages)
    streamed(house, [*messages, {"role": "assistant", "content": "It is fixed."}, {"role": "user", "content": "?"}])
    conversation = done.headers["x-ctxmem-conversation"]
    told = httpx2.get(f"{house.url}/v1/usage").json()
    (row,) = told["data"]
    assert row["conversation_id"] == conversation
    assert row["requests"] == 2
    assert row["tokens_cached"] == 64
    assert row["tokens_saved"] > int(done.headers["x-ctxmem-tokens-saved"])
    fresh = row["tokens_in"] - 64
    assert row["cost"] == pytest.approx((fresh * 5 + 64 * 2.5 + row["tokens_out"] * 10) / 1e6, abs=1e-6)
    assert told["prices_per_million_tokens"] == {"input": 5.0, "cached": 2.5, "output": 10.0}
    house.do(house.memory.forget(conversation, conversation))
    after = httpx2.get(f"{house.url}/v1/usage").json()
    assert after["data"] == [row | {"conversation_id": None}]
    assert conversation.encode() not in (house.folder / usage_ledger.FILE).read_bytes()


def test_the_usage_resource_gives_the_same_account_of_its_conversation(tmp_path: Path, known: Upstream) -> None:
    with gateway(tmp_path, known, price_in=3.0, price_out=15.0) as house:
        mine, other = long_history(2), long_history(3)[4:]
        conversation = ask(house, mine).headers["x-ctxmem-conversation"]
        assert ask(house, other).headers["x-ctxmem-conversation"] != conversation
        asked = httpx2.get(f"{house.url}/v1/usage", params={"conversation_id": conversation}).json()
        uri = f"ctxmem://conversations/{conversation}/usage"
        (content,) = house.do(resources.read_resource(house.memory, uri)).contents
        assert isinstance(content, TextResourceContents)
        usage = json.loads(content.text)
        assert usage["gateway"] == asked
        assert (usage["gateway"]["total"]["requests"], usage["gateway"]["prices_per_million_tokens"]["input"]) == (
            1,
            3.0,
        )
        (tmp_path / usage_ledger.FILE).write_bytes(b"no table at all" * 100)
        (content,) = house.do(resources.read_resource(house.memory, uri)).contents
        assert isinstance(content, TextResourceContents)
        assert json.loads(content.text) == {**usage, "gateway": None}
