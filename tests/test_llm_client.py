"""The model client, against a real server that misbehaves in every way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ctxmem_mcp.errors import ModelCallFailed, ModelMisconfigured, ModelUnavailable
from ctxmem_mcp.llm_client import Completion, LLMClient, RequestLimits
from tests.llm_endpoint import (
    Behaviour,
    Connection,
    Endpoint,
    Request,
    Responder,
    Response,
    breaks_off,
    completion,
    resets,
    serve_llm,
)

pytestmark = pytest.mark.anyio
LIMITS = RequestLimits(attempt_seconds=5, total_seconds=10, pause_seconds=0.01)


@asynccontextmanager
async def open_client(
    endpoint: Endpoint, limits: RequestLimits = LIMITS, api_key: str | None = None
) -> AsyncIterator[LLMClient]:
    client = LLMClient(endpoint.url, "some-model", api_key, limits)
    try:
        yield client
    finally:
        await client.close()


async def complete(respond: Responder, limits: RequestLimits = LIMITS) -> tuple[Completion, Endpoint]:
    with serve_llm(respond) as endpoint:
        async with open_client(endpoint, limits) as client:
            return await client.complete("Be brief.", "What?", 50), endpoint


def responses_in_turn(*responses: Response) -> Responder:
    remaining: Iterator[Response] = iter(responses)
    return lambda request: next(remaining)


async def test_a_request_is_sent_as_configured_and_the_completion_has_its_cost() -> None:
    with serve_llm(lambda request: completion("This.")) as endpoint:
        async with open_client(endpoint, api_key="sk-abc") as client:
            result = await client.complete("Be brief.", "What?", 50)
    assert result == Completion("This.", "stop", "", 100, 20)
    (request,) = endpoint.requests
    assert request["model"] == "some-model"
    assert request["max_tokens"] == 50
    assert [message["content"] for message in request["messages"]] == ["Be brief.", "What?"]
    assert endpoint.paths == ["/v1/chat/completions"]
    assert endpoint.headers[0]["authorization"] == "Bearer sk-abc"


async def test_without_a_key_none_is_sent() -> None:
    _, endpoint = await complete(lambda request: completion("This."))
    assert "authorization" not in endpoint.headers[0]


@pytest.mark.parametrize(
    "usage",
    [{}, [], "many", {"prompt_tokens": -5}, {"prompt_tokens": "9"}, {"prompt_tokens": True}, {"prompt_tokens": 0}],
)
async def test_an_impossible_token_count_is_ignored(usage: object) -> None:
    result, _ = await complete(lambda request: completion("This.", usage=usage))
    assert (result.tokens_in, result.tokens_out) == (None, None)


async def test_a_truncated_and_a_refused_completion_are_marked() -> None:
    result, _ = await complete(lambda request: completion("Thi", finish="length"))
    assert result.finish_reason == "length"
    result, _ = await complete(lambda request: completion(None, refusal="I can't help with that."))
    assert (result.text, result.refusal) == ("", "I can't help with that.")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_failure_that_costs_nothing_is_retried(status: int) -> None:
    result, endpoint = await complete(responses_in_turn(Response(status), Response(status), completion("At last.")))
    assert result.text == "At last."
    assert len(endpoint.requests) == 3


async def test_attempts_are_limited() -> None:
    with serve_llm(lambda request: Response(503, "busy")) as endpoint:
        async with open_client(endpoint) as client:
            with pytest.raises(ModelUnavailable, match="503: busy"):
                await client.complete("", "", 9)
    assert len(endpoint.requests) == LIMITS.attempts


async def test_a_retry_waits_as_long_as_the_endpoint_requests() -> None:
    start = time.monotonic()
    await complete(responses_in_turn(Response(429, headers=(("Retry-After", "0.3"),)), completion("Now.")))
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("dated", [False, True])
async def test_a_wait_beyond_the_limit_is_left_to_the_caller(dated: bool) -> None:
    retry_after = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True) if dated else "3600"
    with serve_llm(lambda request: Response(429, headers=(("Retry-After", retry_after),))) as endpoint:
        async with open_client(endpoint) as client:
            with pytest.raises(ModelUnavailable) as raised:
                await client.complete("", "", 9)
    assert raised.value.retry_after == pytest.approx(3600, abs=60)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("retry_after", ["soon", "", "nan", "Sat, 99 Nov", "-5"])
async def test_an_invalid_retry_after_is_ignored(retry_after: str) -> None:
    result, _ = await complete(
        responses_in_turn(Response(429, headers=(("Retry-After", retry_after),)), completion("Now."))
    )
    assert result.text == "Now."


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
async def test_a_rejected_key_model_or_address_is_not_retried_and_no_redirect_is_followed(status: int) -> None:
    with serve_llm(lambda request: Response(status, "no such thing", (("Location", "/v1/elsewhere"),))) as endpoint:
        async with open_client(endpoint, api_key="sk-secret") as client:
            with pytest.raises(ModelMisconfigured, match=f"{status}: no such thing") as raised:
                await client.complete("", "", 9)
    assert len(endpoint.requests) == 1
    assert "sk-secret" not in str(raised.value)


async def test_parameters_that_an_endpoint_refuses_are_omitted_from_then_on() -> None:
    def picky(request: Request) -> Response:
        for name in ("max_tokens", "temperature", "response_format"):
            if name in request:
                return Response(400, f'{{"error": {{"message": "Unsupported parameter: \'{name}\'"}}}}')
        return completion("Well then.")

    with serve_llm(picky) as endpoint:
        async with open_client(endpoint) as client:
            assert (await client.complete("", "", 9)).text == "Well then."
            assert (await client.complete("", "", 9)).text == "Well then."
    assert len(endpoint.requests) == 5
    assert endpoint.requests[-1]["max_completion_tokens"] == 9


BODIES = ["", "{", "<html><body>Welcome</body></html>", "[]", "null", '{"choices": []}', '{"choices": [{}]}',
          '{"choices": [null]}', '{"choices": {"0": 1}}', '{"choices": [{"message": "hi"}]}', "[" * 99_999]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:20])
async def test_a_body_that_is_not_a_chat_completion_is_an_error(body: str) -> None:
    with pytest.raises(match="did not respond with a chat completion"):
        await complete(lambda request: Response(200, body, (("Content-Type", "text/html"),)))


async def test_a_wrong_content_type_is_ignored() -> None:
    result, _ = await complete(lambda request: replace(completion("This."), headers=(("Content-Type", "text/plain"),)))
    assert result.text == "This."


async def test_an_endless_response_is_cut_off() -> None:
    with pytest.raises(match="more than 1000 bytes"):
        await complete(lambda request: completion("x" * 5000), replace(LIMITS, response_bytes=1000))


@pytest.mark.parametrize("behaviour", [resets, breaks_off])
async def test_a_broken_connection_may_have_been_billed_and_is_not_retried(behaviour: Behaviour) -> None:
    with serve_llm(lambda request: behaviour) as endpoint:
        async with open_client(endpoint) as client:
            with pytest.raises(ModelCallFailed, match="broke off the response"):
                await client.complete("", "", 9)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("behaviour", [Endpoint.hangs, Endpoint.drips])
async def test_silence_and_a_slow_drip_end_with_the_time_limit_of_an_attempt(
    behaviour: Callable[[Endpoint, Connection], None],
) -> None:
    with serve_llm(lambda request: lambda connection: behaviour(endpoint, connection)) as endpoint:
        async with open_client(endpoint, replace(LIMITS, attempt_seconds=0.3)) as client:
            start = time.monotonic()
            with pytest.raises(ModelCallFailed, match="did not respond completely"):
                await client.complete("", "", 9)
            assert time.monotonic() - start < 20  # the endpoint hangs for longer
    assert len(endpoint.requests) == 1


async def test_an_endpoint_that_does_not_listen_is_unavailable() -> None:
    with serve_llm(lambda request: completion("")) as endpoint:
        pass
    async with open_client(endpoint) as client:
        with pytest.raises(ModelUnavailable, match="can't be reached"):
            await client.complete("", "", 9)


async def test_all_attempts_together_have_a_time_limit() -> None:
    with serve_llm(lambda request: Response(500)) as endpoint:
        async with open_client(endpoint, replace(LIMITS, total_seconds=1.0, pause_seconds=0.6, attempts=50)) as client:
            start = time.monotonic()
            with pytest.raises(ModelUnavailable):
                await client.complete("", "", 9)
            assert time.monotonic() - start < 20  # all attempts would take longer
    assert len(endpoint.requests) < 5
