"""The gateway behind the service's guards: whose conversation it is, and which key goes where."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ctxmem_mcp.serve.run import http_app
from ctxmem_mcp.settings import Settings
from tests.gateway.harness import Upstream, long_history, says, upstream

ALICE, BOB = (f"{name}-{secrets.token_hex(16)}" for name in ("alice", "bob"))


@pytest.fixture
def known() -> Iterator[Upstream]:
    with upstream(says("It is fixed.")) as found:
        yield found


@pytest.fixture
async def service(tmp_path: Path, known: Upstream) -> AsyncIterator[httpx2.AsyncClient]:
    settings = Settings(
        tmp_path,
        tokens=f"alice:{ALICE},bob:{BOB}",
        upstream_base_url=f"{known.url}/v1",
        upstream_anthropic_url=known.url,
        gateway_tokens=4_000,
    )
    app = http_app(settings, "127.0.0.1")
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765", timeout=30) as client:
            yield client


def body(path: str) -> dict[str, Any]:
    messages = long_history(30)
    return {"model": "m:memory", "max_tokens": 500, "messages": messages if "chat" in path else [messages[1]]}


PATHS = ["/v1/chat/completions", "/v1/messages"]


@pytest.mark.anyio
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_our_own_token_never_goes_upstream(
    service: httpx2.AsyncClient, known: Upstream, path: str, header: str
) -> None:
    token = f"Bearer {ALICE}" if header == "authorization" else ALICE
    answer = await service.post(path, json=body(path), headers={header: token})
    assert answer.status_code == 200
    assert answer.headers["x-ctxmem-memory"] in ("whole", "folded")
    assert not [value for value in known.headers[-1].values() if ALICE in value]


@pytest.mark.anyio
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("second", [ALICE, BOB], ids=["alice", "bob"])
async def test_no_token_of_ours_goes_upstream_though_several_headers_hold_one(
    service: httpx2.AsyncClient, known: Upstream, path: str, second: str
) -> None:
    headers = {"x-ctxmem-token": ALICE, "authorization": f"Bearer {second}", "x-api-key": second}
    assert (await service.post(path, json=body(path), headers=headers)).status_code == 200
    assert not [value for value in known.headers[-1].values() if ALICE in value or BOB in value]


@pytest.mark.anyio
async def test_the_upstreams_own_id_of_a_request_stays(service: httpx2.AsyncClient, known: Upstream) -> None:
    async def answers(_: Request, __: Any) -> Response:
        return JSONResponse({}, headers={"x-request-id": "theirs"})

    known.answers = answers
    headers = {"authorization": f"Bearer {ALICE}", "x-request-id": "ours"}
    answer = await service.post(PATHS[0], json={}, headers=headers)
    assert answer.headers.get_list("x-request-id") == ["theirs"]
    assert answer.headers["x-ctxmem-request-id"] == "ours"


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/models/..%2ffiles", "/v1/models/%2e%2e/files", "/v1/models/a/..%2f..%2ffiles"])
async def test_a_models_name_leads_nowhere_else(service: httpx2.AsyncClient, known: Upstream, path: str) -> None:
    answer = await service.get(path, headers={"authorization": f"Bearer {ALICE}"})
    assert answer.status_code == 404
    assert "error" in answer.json()
    assert known.paths == []


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["openai%2Fgpt-4o", "openai/gpt-4o", "a%3Fb=c", "a%23b", "gpt-4o:online", "%C3%A9"])
async def test_a_models_name_goes_on_as_it_came(service: httpx2.AsyncClient, known: Upstream, name: str) -> None:
    headers = {"authorization": f"Bearer {ALICE}"}
    assert (await service.get(f"/v1/models/{name}?limit=2", headers=headers)).status_code == 200
    assert known.targets[-1] == f"/v1/models/{name}?limit=2"


@pytest.mark.anyio
@pytest.mark.parametrize("path", PATHS)
async def test_beside_our_token_the_clients_own_key_goes_through(
    service: httpx2.AsyncClient, known: Upstream, path: str
) -> None:
    await service.post(
        path, json=body(path), headers={"x-ctxmem-token": ALICE, "authorization": "Bearer own", "x-api-key": "own"}
    )
    assert known.headers[-1]["authorization"] == "Bearer own"
    assert known.headers[-1]["x-api-key"] == "own"
    assert "x-ctxmem-token" not in known.headers[-1]


@pytest.mark.anyio
@pytest.mark.parametrize("path", [*PATHS, "/v1/messages/count_tokens"])
async def test_who_has_no_token_reaches_no_upstream(service: httpx2.AsyncClient, known: Upstream, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer somebody"}):
        assert (await service.post(path, json=body(path), headers=headers)).status_code == 401
    assert (await service.get("/v1/usage")).status_code == 401
    assert (await service.get("/v1/models")).status_code == 401
    assert known.paths == []


@pytest.mark.anyio
async def test_what_one_principal_says_is_unknown_to_another(service: httpx2.AsyncClient) -> None:
    """The same words are two conversations, and each sees what its own cost."""
    found = {}
    for token in (ALICE, BOB):
        headers = {"authorization": f"Bearer {token}"}
        answer = await service.post(PATHS[0], json=body(PATHS[0]), headers=headers)
        found[token] = answer.headers["x-ctxmem-conversation"]
        usage = (await service.get("/v1/usage", headers=headers)).json()
        assert [row["conversation_id"] for row in usage["data"]] == [found[token]]
    assert found[ALICE] != found[BOB]
