"""Asking somebody else's model, against a real server that misbehaves in every way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ctxmem_mcp.errors import ModelMisconfigured, ModelSilent, ModelUnavailable
from ctxmem_mcp.llm_client import Answer, Limits, Model
from tests.llm_endpoint import (
    Answers,
    Connection,
    Deed,
    Endpoint,
    Reply,
    Request,
    breaks_off,
    completion,
    resets,
    served,
)

pytestmark = pytest.mark.anyio
LIMITS = Limits(try_seconds=5, total_seconds=10, pause_seconds=0.01)


@asynccontextmanager
async def asking(endpoint: Endpoint, limits: Limits = LIMITS, key: str | None = None) -> AsyncIterator[Model]:
    model = Model(endpoint.url, "some-model", key, limits)
    try:
        yield model
    finally:
        await model.close()


async def asked(answers: Answers, limits: Limits = LIMITS) -> tuple[Answer, Endpoint]:
    with served(answers) as endpoint:
        async with asking(endpoint, limits) as model:
            return await model.ask("Be brief.", "What?", 50), endpoint


def in_turn(*replies: Reply) -> Answers:
    left: Iterator[Reply] = iter(replies)
    return lambda request: next(left)


async def test_a_question_goes_out_as_configured_and_the_answer_comes_back_with_its_cost() -> None:
    with served(lambda request: completion("This.")) as endpoint:
        async with asking(endpoint, key="sk-abc") as model:
            answer = await model.ask("Be brief.", "What?", 50)
    assert answer == Answer("This.", "stop", "", 100, 20)
    (request,) = endpoint.requests
    assert request["model"] == "some-model"
    assert request["max_tokens"] == 50
    assert [message["content"] for message in request["messages"]] == ["Be brief.", "What?"]
    assert endpoint.paths == ["/v1/chat/completions"]
    assert endpoint.headers[0]["authorization"] == "Bearer sk-abc"


async def test_without_a_key_none_is_sent() -> None:
    _, endpoint = await asked(lambda request: completion("This."))
    assert "authorization" not in endpoint.headers[0]


@pytest.mark.parametrize(
    "usage",
    [{}, [], "many", {"prompt_tokens": -5}, {"prompt_tokens": "9"}, {"prompt_tokens": True}, {"prompt_tokens": 0}],
)
async def test_a_cost_that_cannot_be_is_not_believed(usage: object) -> None:
    answer, _ = await asked(lambda request: completion("This.", usage=usage))
    assert (answer.tokens_in, answer.tokens_out) == (None, None)


async def test_a_truncated_and_a_refused_answer_say_so() -> None:
    answer, _ = await asked(lambda request: completion("Thi", finish="length"))
    assert answer.finish_reason == "length"
    answer, _ = await asked(lambda request: completion(None, refusal="I can't help with that."))
    assert (answer.text, answer.refusal) == ("", "I can't help with that.")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_what_costs_nothing_is_tried_again(status: int) -> None:
    answer, endpoint = await asked(in_turn(Reply(status), Reply(status), completion("At last.")))
    assert answer.text == "At last."
    assert len(endpoint.requests) == 3


async def test_tries_end() -> None:
    with served(lambda request: Reply(503, "busy")) as endpoint:
        async with asking(endpoint) as model:
            with pytest.raises(ModelUnavailable, match="503: busy"):
                await model.ask("", "", 9)
    assert len(endpoint.requests) == LIMITS.tries


async def test_a_retry_waits_as_long_as_the_endpoint_asks() -> None:
    start = time.monotonic()
    await asked(in_turn(Reply(429, headers=(("Retry-After", "0.3"),)), completion("Now.")))
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("dated", [False, True])
async def test_a_wait_beyond_the_limit_is_left_to_the_caller(dated: bool) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True) if dated else "3600"
    with served(lambda request: Reply(429, headers=(("Retry-After", later),))) as endpoint:
        async with asking(endpoint) as model:
            with pytest.raises(ModelUnavailable) as said:
                await model.ask("", "", 9)
    assert said.value.retry_after == pytest.approx(3600, abs=60)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("later", ["soon", "", "nan", "Sat, 99 Nov", "-5"])
async def test_a_wait_that_is_none_is_passed_over(later: str) -> None:
    answer, _ = await asked(in_turn(Reply(429, headers=(("Retry-After", later),)), completion("Now.")))
    assert answer.text == "Now."


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
async def test_a_refused_key_model_or_address_is_not_tried_again_and_no_redirect_is_followed(status: int) -> None:
    with served(lambda request: Reply(status, "no such thing", (("Location", "/v1/elsewhere"),))) as endpoint:
        async with asking(endpoint, key="sk-secret") as model:
            with pytest.raises(ModelMisconfigured, match=f"{status}: no such thing") as said:
                await model.ask("", "", 9)
    assert len(endpoint.requests) == 1
    assert "sk-secret" not in str(said.value)


async def test_parameters_that_an_endpoint_refuses_are_done_without_from_then_on() -> None:
    def picky(request: Request) -> Reply:
        for name in ("max_tokens", "temperature", "response_format"):
            if name in request:
                return Reply(400, f'{{"error": {{"message": "Unsupported parameter: \'{name}\'"}}}}')
        return completion("Well then.")

    with served(picky) as endpoint:
        async with asking(endpoint) as model:
            assert (await model.ask("", "", 9)).text == "Well then."
            assert (await model.ask("", "", 9)).text == "Well then."
    assert len(endpoint.requests) == 5
    assert endpoint.requests[-1]["max_completion_tokens"] == 9


BODIES = ["", "{", "<html><body>Welcome</body></html>", "[]", "null", '{"choices": []}', '{"choices": [{}]}',
          '{"choices": [null]}', '{"choices": {"0": 1}}', '{"choices": [{"message": "hi"}]}', "[" * 99_999]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:20])
async def test_what_is_no_chat_completion_is_no_answer(body: str) -> None:
    with pytest.raises(match="no chat completion"):
        await asked(lambda request: Reply(200, body, (("Content-Type", "text/html"),)))


async def test_a_wrong_content_type_does_no_harm() -> None:
    answer, _ = await asked(lambda request: replace(completion("This."), headers=(("Content-Type", "text/plain"),)))
    assert answer.text == "This."


async def test_an_endless_answer_is_cut_off() -> None:
    with pytest.raises(match="over 1000 bytes"):
        await asked(lambda request: completion("x" * 5000), replace(LIMITS, answer_bytes=1000))


@pytest.mark.parametrize("deed", [resets, breaks_off])
async def test_a_connection_that_breaks_may_have_cost_something_and_is_not_tried_again(deed: Deed) -> None:
    with served(lambda request: deed) as endpoint:
        async with asking(endpoint) as model:
            with pytest.raises(ModelSilent, match="broke off"):
                await model.ask("", "", 9)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("deed", [Endpoint.hangs, Endpoint.drips])
async def test_silence_and_a_slow_drip_end_with_the_time_for_a_try(
    deed: Callable[[Endpoint, Connection], None],
) -> None:
    with served(lambda request: lambda connection: deed(endpoint, connection)) as endpoint:
        async with asking(endpoint, replace(LIMITS, try_seconds=0.3)) as model:
            start = time.monotonic()
            with pytest.raises(ModelSilent, match="no whole answer"):
                await model.ask("", "", 9)
            assert time.monotonic() - start < 3
    assert len(endpoint.requests) == 1


async def test_nobody_there_is_unavailable() -> None:
    with served(lambda request: completion("")) as endpoint:
        pass
    async with asking(endpoint) as model:
        with pytest.raises(ModelUnavailable, match="No connection"):
            await model.ask("", "", 9)


async def test_the_time_for_all_tries_is_a_limit_too() -> None:
    with served(lambda request: Reply(500)) as endpoint:
        async with asking(endpoint, replace(LIMITS, total_seconds=0.4, pause_seconds=0.3, tries=50)) as model:
            start = time.monotonic()
            with pytest.raises(ModelUnavailable):
                await model.ask("", "", 9)
            assert time.monotonic() - start < 2
    assert len(endpoint.requests) < 5
