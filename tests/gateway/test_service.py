"""The gateway behind the service's middleware: principals, tokens, keys and paths."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ctxmem_mcp.serve.run import http_app
from ctxmem_mcp.settings import Settings
from tests.gateway.harness import UpstreamStub, long_history

ALICE, BOB = (f"{name}-{secrets.token_hex(16)}" for name in ("alice", "bob"))


@pytest.fixture
async def service(tmp_path: Path, stub: UpstreamStub) -> AsyncIterator[httpx2.AsyncClient]:
    settings = Settings(
        tmp_path,
        tokens=f"alice:{ALICE},bob:{BOB}",
        upstream_base_url=f"{stub.url}/v1",
        upstream_anthropic_url=stub.url,
        gateway_tokens=4_000,
        gateway_seconds=60,
    )
    app = http_app(settings, "127.0.0.1")
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8377", timeout=100) as client:
            yield client


def body(path: str) -> dict[str, Any]:
    messages = long_history(30)
    return {"model": "m:memory", "max_tokens": 500, "messages": messages if "chat" in path else [messages[1]]}


PATHS = ["/v1/chat/completions", "/v1/messages"]


@pytest.mark.anyio
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_this_servers_token_is_never_forwarded(
    service: httpx2.AsyncClient, stub: UpstreamStub, path: str, header: str
) -> None:
    token = f"Bearer {ALICE}" if header == "authorization" else ALICE
    response = await service.post(path, json=body(path), headers={header: token})
    assert response.status_code == 200
    assert response.headers["x-ctxmem-memory"] in ("whole", "folded")
    assert not [value for value in stub.headers[-1].values() if ALICE in value]


@pytest.mark.anyio
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("second", [ALICE, BOB], ids=["alice", "bob"])
async def test_none_of_several_tokens_is_forwarded(
    service: httpx2.AsyncClient, stub: UpstreamStub, path: str, second: str
) -> None:
    headers = {"x-ctxmem-token": ALICE, "authorization": f"Bearer {second}", "x-api-key": second}
    assert (await service.post(path, json=body(path), headers=headers)).status_code == 200
    assert not [value for value in stub.headers[-1].values() if ALICE in value or BOB in value]


@pytest.mark.anyio
async def test_the_upstreams_request_id_is_kept(service: httpx2.AsyncClient, stub: UpstreamStub) -> None:
    async def respond(_: Request, __: Any) -> Response:
        return JSONResponse({}, headers={"x-request-id": "theirs"})

    stub.respond = respond
    headers = {"authorization": f"Bearer {ALICE}", "x-request-id": "ours"}
    response = await service.post(PATHS[0], json={}, headers=headers)
    assert response.headers.get_list("x-request-id") == ["theirs"]
    assert response.headers["x-ctxmem-request-id"] == "ours"


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/models/..%2ffiles", "/v1/models/%2e%2e/files", "/v1/models/a/..%2f..%2ffiles"])
async def test_a_models_name_reaches_no_other_path(service: httpx2.AsyncClient, stub: UpstreamStub, path: str) -> None:
    response = await service.get(path, headers={"authorization": f"Bearer {ALICE}"})
    assert response.status_code == 404
    assert "error" in response.json()
    assert stub.paths == []


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["openai%2Fgpt-4o", "openai/gpt-4o", "a%3Fb=c", "a%23b", "gpt-4o:online", "%C3%A9"])
async def test_a_models_name_is_forwarded_unchanged(service: httpx2.AsyncClient, stub: UpstreamStub, name: str) -> None:
    headers = {"authorization": f"Bearer {ALICE}"}
    assert (await service.get(f"/v1/models/{name}?limit=2", headers=headers)).status_code == 200
    assert stub.targets[-1] == f"/v1/models/{name}?limit=2"


@pytest.mark.anyio
@pytest.mark.parametrize("path", PATHS)
async def test_the_clients_key_is_forwarded_beside_this_servers_token(
    service: httpx2.AsyncClient, stub: UpstreamStub, path: str
) -> None:
    await service.post(
        path, json=body(path), headers={"x-ctxmem-token": ALICE, "authorization": "Bearer own", "x-api-key": "own"}
    )
    assert stub.headers[-1]["authorization"] == "Bearer own"
    assert stub.headers[-1]["x-api-key"] == "own"
    assert "x-ctxmem-token" not in stub.headers[-1]


@pytest.mark.anyio
@pytest.mark.parametrize("path", [*PATHS, "/v1/messages/count_tokens"])
async def test_without_a_token_no_upstream_is_reached(
    service: httpx2.AsyncClient, stub: UpstreamStub, path: str
) -> None:
    for headers in ({}, {"authorization": "Bearer somebody"}):
        assert (await service.post(path, json=body(path), headers=headers)).status_code == 401
    assert (await service.get("/v1/usage")).status_code == 401
    assert (await service.get("/v1/models")).status_code == 401
    assert stub.paths == []


@pytest.mark.anyio
async def test_principals_have_separate_conversations_and_usage(service: httpx2.AsyncClient) -> None:
    """The same messages are two conversations, and each principal sees only its own usage."""
    found = {}
    for token in (ALICE, BOB):
        headers = {"authorization": f"Bearer {token}"}
        response = await service.post(PATHS[0], json=body(PATHS[0]), headers=headers)
        found[token] = response.headers["x-ctxmem-conversation"]
        usage = (await service.get("/v1/usage", headers=headers)).json()
        assert [row["conversation_id"] for row in usage["data"]] == [found[token]]
    assert found[ALICE] != found[BOB]
