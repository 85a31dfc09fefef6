"""Gemini's API through the gateway: complete, streamed as events and as an array, and the laws for any contents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ctxmem_mcp.http_api.gateway.compaction import ConversationTracker
from ctxmem_mcp.http_api.gateway.gemini import Gemini
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.host_text import RECALL_START
from tests.gateway.harness import RunningGateway, UpstreamStub, gateway, upstream_stub

Json = dict[str, Any]
SIGNATURE = "c2lnbmF0dXJl"
USAGE = {
    "promptTokenCount": 100, "candidatesTokenCount": 5, "thoughtsTokenCount": 2, "cachedContentTokenCount": 80,
    "totalTokenCount": 107,
}  # fmt: skip
# The answer in the pieces of a stream.
PIECES: list[list[Json]] = [
    [{"text": "I look", "thought": True}],
    [{"text": "It is "}],
    [{"text": "fixed."}],
    [{"functionCall": {"name": "shell", "args": {"command": "ls"}}, "thoughtSignature": SIGNATURE}],
]
ANSWER = ["I look", "It is fixed.", '{"command":"ls"}']
GENERATE, STREAM = "models/gemini-3-pro:generateContent", "models/gemini-3-pro:streamGenerateContent"


def chunk(parts: list[Json], is_last: bool) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    return {"candidates": [candidate | ({"finishReason": "STOP"} if is_last else {})], "usageMetadata": USAGE}


CHUNKS = [chunk(parts, at == len(PIECES) - 1) for at, parts in enumerate(PIECES)]


def answers(wrap: Any = lambda response: response) -> Any:
    """A responder with the answer, whose responses are inside `wrap`."""

    async def respond(request: Request, body: Any) -> Response:
        if request.url.path.endswith(":countTokens"):
            return JSONResponse({"totalTokens": len(json.dumps(body["contents"]))})
        if request.method == "GET":
            return JSONResponse({"models": []})
        if request.url.path.endswith(":generateContent"):
            return JSONResponse(wrap(chunk([part for parts in PIECES for part in parts], True)))
        sent = _streamed([wrap(one) for one in CHUNKS], request.query_params.get("alt") == "sse")

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(sent), 23):
                yield sent[at : at + 23]

        kind = "text/event-stream" if request.query_params.get("alt") == "sse" else "application/json"
        return StreamingResponse(chunks(), media_type=kind)

    return respond


def _streamed(chunks: list[Json], as_events: bool) -> bytes:
    if as_events:
        return b"".join(b"data: " + json.dumps(one).encode() + b"\r\n\r\n" for one in chunks)
    return b"[" + b",\r\n".join(json.dumps(one, indent=2).encode() for one in chunks) + b"\n]\n"


@pytest.fixture
def stub() -> Iterator[UpstreamStub]:
    with upstream_stub(answers()) as found:
        yield found


def user(text: str) -> Json:
    return {"role": "user", "parts": [{"text": text}]}


def history(rounds: int) -> list[Json]:
    """Contents as Gemini CLI sends them: calls with signatures, results, answers."""
    contents = [user("Make the relay tests pass.")]
    for i in range(rounds):
        call = {"functionCall": {"name": "read", "args": {"n": i}}, "thoughtSignature": f"{SIGNATURE}{i}"}
        output = {"output": f"line {i}\n" + f"token{i} failed\n" * 120}
        contents += [
            {"role": "model", "parts": [{"text": f"Round {i}."}, call]},
            {"role": "user", "parts": [{"functionResponse": {"name": "read", "response": output}}]},
        ]
    return [*contents, {"role": "model", "parts": [{"text": "Done."}]}, user("And now?")]


SYSTEM = {"parts": [{"text": "You are a coding agent named Gemini."}]}


def post(running: RunningGateway, path: str, body: Json, **headers: str) -> httpx2.Response:
    sent = {"x-goog-api-key": "AIza-own", "memory": "true"} | headers
    return httpx2.post(f"{running.url}/v1beta/{path}", json=body, headers=sent, timeout=60)


def stored(running: RunningGateway) -> list[str]:
    (conversation,) = running.conversations()
    return [turn.content for turn in running.turns(conversation)]


def test_a_short_request_is_stored_and_sent_unchanged(running: RunningGateway, stub: UpstreamStub) -> None:
    body = {"contents": [user("Fix it.")], "systemInstruction": SYSTEM}
    got = post(running, GENERATE, body)
    assert got.headers["x-ctxmem-memory"] == "whole"
    assert got.json()["usageMetadata"] == USAGE
    assert stub.targets == [f"/v1beta/{GENERATE}"]
    assert stub.bodies == [body]
    assert stub.headers[0]["x-goog-api-key"] == "AIza-own"
    assert stored(running) == [SYSTEM["parts"][0]["text"], "Fix it.", *ANSWER]


def test_the_models_suffix_asks_for_memory_and_is_not_sent(running: RunningGateway, stub: UpstreamStub) -> None:
    path = "models/gemini-3-pro:memory-9:generateContent"
    got = post(running, path, {"contents": [user("Fix it.")]}, memory="")
    assert got.headers["x-ctxmem-retention-days"] == "9"
    assert stub.targets == [f"/v1beta/{GENERATE}"]


def test_a_long_request_is_compacted_and_signatures_stay_with_their_calls(
    running: RunningGateway, stub: UpstreamStub
) -> None:
    contents = history(14)
    got = post(running, GENERATE, {"contents": contents, "systemInstruction": SYSTEM})
    assert got.headers["x-ctxmem-memory"] == "folded"
    assert got.json()["usageMetadata"]["rawPromptTokenCount"] > 100
    sent = stub.bodies[0]
    assert sent["systemInstruction"] == SYSTEM
    head, *after = sent["contents"]
    texts = "\n".join(part["text"] for part in head["parts"])
    assert texts.startswith("Make the relay tests pass.")
    assert RECALL_START in texts
    assert "You are a coding agent" not in texts
    assert after == contents[-len(after) :]
    assert after[0]["role"] == "model"


@pytest.mark.parametrize("query", ["?alt=sse", "", "?alt=json"])
def test_a_stream_is_relayed_byte_for_byte_and_stored(running: RunningGateway, query: str) -> None:
    got = post(running, f"{STREAM}{query}", {"contents": history(14)})
    assert got.headers["x-ctxmem-memory"] == "folded"
    assert got.content == _streamed(CHUNKS, query == "?alt=sse")
    assert stored(running)[-3:] == ANSWER


def test_an_answer_in_pieces_or_joined_continues_the_conversation(running: RunningGateway) -> None:
    first = [user("Fix it.")]
    post(running, f"{STREAM}?alt=sse", {"contents": first})
    pieces = [{"role": "model", "parts": parts} for parts in PIECES]
    joined = {"role": "model", "parts": [{"text": "It is fixed."}, *PIECES[3]]}
    result = {"role": "user", "parts": [{"functionResponse": {"name": "shell", "response": {"output": "a.py"}}}]}
    for answer in (pieces, [joined]):
        post(running, GENERATE, {"contents": [*first, *answer, result]})
    assert stored(running) == ["Fix it.", *ANSWER, "a.py", *ANSWER]


def test_an_incomplete_stream_is_not_stored(running: RunningGateway, stub: UpstreamStub) -> None:
    async def respond(request: Request, body: Any) -> Response:
        return Response(_streamed(CHUNKS[:2], True), media_type="text/event-stream")

    stub.respond = respond
    post(running, f"{STREAM}?alt=sse", {"contents": [user("Fix it.")]})
    assert stored(running) == ["Fix it."]


@pytest.mark.parametrize("status", [400, 429, 503])
@pytest.mark.parametrize("path", [GENERATE, f"{STREAM}?alt=sse", STREAM])
def test_errors_pass_unchanged(running: RunningGateway, stub: UpstreamStub, status: int, path: str) -> None:
    error = {"error": {"code": status, "message": "No.", "status": "RESOURCE_EXHAUSTED"}}

    async def respond(request: Request, body: Any) -> Response:
        return JSONResponse(error, status, headers={"retry-after": "7"})

    stub.respond = respond
    got = post(running, path, {"contents": history(14)})
    assert (got.status_code, got.json(), got.headers["retry-after"]) == (status, error, "7")


def test_tokens_are_counted_of_what_would_be_sent(running: RunningGateway, stub: UpstreamStub) -> None:
    post(running, GENERATE, {"contents": history(14)})
    got = post(running, "models/gemini-3-pro:countTokens", {"contents": history(14)})
    assert got.json()["totalTokens"] == len(json.dumps(stub.bodies[0]["contents"]))


def test_other_paths_pass_through(running: RunningGateway, stub: UpstreamStub) -> None:
    for path in ("/v1beta/models?pageSize=50", "/v1beta/cachedContents/x", "/v1internal:loadCodeAssist"):
        assert httpx2.get(f"{running.url}{path}").status_code == 200
        assert stub.targets[-1] == path


def test_pictures_of_the_task_go_along(tmp_path: Path, stub: UpstreamStub) -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo" * 200}}
    contents = history(28)
    contents[0]["parts"].append(picture)
    with gateway(tmp_path, stub, gateway_tokens=8_000) as running:
        post(running, GENERATE, {"contents": contents})
    assert picture in stub.bodies[0]["contents"][0]["parts"]
    assert "iVBORw0KGgo" not in "".join(part.get("text", "") for part in stub.bodies[0]["contents"][0]["parts"])


def test_a_google_login_is_compacted_in_its_own_session(running: RunningGateway, stub: UpstreamStub) -> None:
    stub.respond = answers(lambda response: {"response": response, "traceId": "t"})
    tools = [{"functionDeclarations": [{"name": "read"}]}]
    request = {"contents": history(14), "session_id": "0ab5e2a6-session", "tools": tools}
    body = {"model": "gemini-3-pro", "project": "p", "request": request}
    sent = {"authorization": "Bearer ya29.own", "memory": "true"}
    got = httpx2.post(f"{running.url}/v1internal:streamGenerateContent?alt=sse", json=body, headers=sent, timeout=60)
    assert got.headers["x-ctxmem-memory"] == "folded"
    assert stub.headers[0]["authorization"] == "Bearer ya29.own"
    assert len(stub.bodies[0]["request"]["contents"]) < len(request["contents"])
    assert running.conversations() == ["0ab5e2a6-session"]
    assert stored(running)[-3:] == ANSWER


# ---------------------------------------------------------------- laws

OPTIONS = MemoryOptions(True, "m")


@st.composite
def any_contents(draw: st.DrawFn) -> list[Json]:
    contents = [user(draw(st.text(min_size=1, max_size=20)))]
    for i in range(draw(st.integers(1, 30))):
        size = draw(st.integers(1, 400))
        named = {"id": f"c{i}"} if draw(st.booleans()) else {}
        calls = draw(st.integers(0, 2))
        if calls:
            call = {"functionCall": {"name": "read", "args": {"n": i}, **named}, "thoughtSignature": "c2ln"}
            result = {"functionResponse": {"name": "read", "response": {"output": f"w{i} " * size}, **named}}
            contents += [{"role": "model", "parts": [call] * calls}, {"role": "user", "parts": [result] * calls}]
        else:
            contents += [{"role": "model", "parts": [{"text": f"a{i} " * size}]}, user(f"u{i} " * size)]
    return contents


@settings(max_examples=40, deadline=None)
@given(any_contents())
def test_a_compacted_request_has_valid_contents(contents: list[Json]) -> None:
    async def compacted() -> Any:
        memory, tracker = Memory(InMemoryStore(), ExtractiveSummarizer()), ConversationTracker(4_000, "o200k_base")
        return await tracker.compact(memory, "", Gemini(), {"contents": contents}, OPTIONS)

    done = asyncio.run(compacted())
    if done.body is None:
        return
    sent = done.body["contents"]
    assert sent[0]["role"] == "user"
    assert not any(a["role"] == b["role"] == "user" for a, b in pairwise(sent))
    assert sent[-1] == contents[-1] or sent[0]["parts"][-1] == contents[-1]["parts"][-1]
    assert all(content in contents for content in sent[1:])
    calls, results = (sum(name in part for content in sent for part in content["parts"]) for name in
                      ("functionCall", "functionResponse"))  # fmt: skip
    assert calls == results
