"""What agents send beside plain JSON: compressed bodies, a ChatGPT login, requests of their own; and refusals."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import zstandard
from starlette.requests import Request
from starlette.responses import Response

from tests.gateway.harness import RunningGateway, UpstreamStub, gateway, long_history

PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/responses"]


@pytest.fixture
def running(tmp_path: Path, stub: UpstreamStub) -> Iterator[RunningGateway]:
    chatgpt = f"{stub.url}/backend-api/codex"
    with gateway(tmp_path, stub, gateway_tokens=4_000, gateway_memory="always", upstream_chatgpt_url=chatgpt) as found:
        yield found


def post(running: RunningGateway, path: str, body: Any, **headers: str) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(running.url + path, content=content, headers=headers, timeout=60)


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
def test_a_compressed_body_is_compacted_and_sent_plain(
    running: RunningGateway, stub: UpstreamStub, encoding: str
) -> None:
    compress = zstandard.ZstdCompressor().compress if encoding == "zstd" else gzip.compress
    plain = json.dumps({"model": "m", "messages": long_history(30)}).encode()
    got = post(running, PATHS[0], compress(plain), **{"content-encoding": encoding})
    assert got.headers["x-ctxmem-memory"] == "folded"
    assert "content-encoding" not in stub.headers[-1]
    assert len(stub.bodies[-1]["messages"]) < len(long_history(30))
    short = compress(json.dumps({"model": "m", "messages": long_history(1)}).encode())
    post(running, PATHS[0], short, **{"content-encoding": encoding})
    assert stub.raw[-1] == short
    assert stub.headers[-1]["content-encoding"] == encoding


def test_a_chatgpt_login_has_its_own_endpoint(running: RunningGateway, stub: UpstreamStub) -> None:
    post(
        running,
        PATHS[2],
        {"model": "m", "input": "Fix it."},
        **{"chatgpt-account-id": "a", "authorization": "Bearer t"},
    )
    assert stub.paths[-1] == "/backend-api/codex/responses"
    assert stub.headers[-1]["authorization"] == "Bearer t"


def test_an_agents_own_request_for_json_is_not_stored(running: RunningGateway) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Name it."}],
        "response_format": {"type": "json_object"},
    }
    assert post(running, PATHS[0], body).headers["x-ctxmem-memory"] == "aside"
    assert post(running, PATHS[0], body | {"memory": True}).headers["x-ctxmem-memory"] == "whole"
    assert post(running, PATHS[0], body | {"memory": False}).headers["x-ctxmem-memory"] == "off"


@pytest.mark.parametrize("status", [429, 529])
@pytest.mark.parametrize("path", PATHS)
def test_refusals_pass_unchanged(running: RunningGateway, stub: UpstreamStub, path: str, status: int) -> None:
    error = b'{"error" : {"type": "overloaded_error"}}'

    async def respond(_: Request, __: Any) -> Response:
        headers = {"retry-after": "17", "x-ratelimit-remaining-tokens": "0", "content-type": "application/json"}
        return Response(error, status, headers)

    stub.respond = respond
    body = {"model": "m", "messages": long_history(30)[1:], "input": "Fix it.", "max_tokens": 500}
    got = post(running, path, body)
    assert (got.status_code, got.content) == (status, error)
    assert (got.headers["retry-after"], got.headers["x-ratelimit-remaining-tokens"]) == ("17", "0")
