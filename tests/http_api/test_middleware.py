"""The middleware: limits of size, time and rate, hosts and origins, metrics, the log, and errors."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message

from ctxmem_mcp import __version__
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.http_api.app import allowed_hosts_of
from ctxmem_mcp.http_api.auth.static_tokens import new_token, read_tokens
from ctxmem_mcp.http_api.middleware import LimitsMiddleware
from ctxmem_mcp.http_api.rate_limit import RateLimiter
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.record_files import RecordFiles
from ctxmem_mcp.serve.run import http_app, serve
from ctxmem_mcp.settings import Settings
from tests.http_api.conftest import ALICE, BOB, TOKENS, running

pytestmark = pytest.mark.anyio

# ---------------------------------------------------------------- sizes and times


async def test_a_body_over_the_limit_is_rejected_with_or_without_content_length(serve: Any) -> None:
    http = await serve(http_body_bytes=1000)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b" " * 400

    for path in ("/v1/memory", "/v1/chat/sessions", "/mcp", "/v1/chat/completions", "/v1/messages"):
        assert (await http.post(path, content=b" " * 1001)).status_code == 413, path
    for path in ("/v1/memory", "/v1/chat/sessions", "/mcp"):
        assert (await http.post(path, content=chunks())).status_code == 413, path
    assert (await http.post("/v1/chat/sessions", content=b"{}" + b" " * 998)).status_code == 200


async def test_the_time_limit_applies_until_the_response_begins() -> None:
    async def slow(_: Request) -> Response:
        await asyncio.sleep(30)
        raise AssertionError

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await asyncio.sleep(0.05)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body"})

    class Streaming:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await streams(scope, receive, send)

    app = LimitsMiddleware(Starlette(routes=[Route("/slow", slow), Route("/stream", Streaming())]), 1000, 0.08)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as http:
        response = await http.get("/slow")
        assert response.status_code == 504
        assert "Acknowledged data is kept" in response.json()["error"]["message"]
        assert (await http.get("/stream")).text == "xxx"


async def test_a_body_that_does_not_arrive_times_out() -> None:
    async def reads(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    app = LimitsMiddleware(Starlette(routes=[Route("/v1/messages", reads, methods=["POST"])]), 1000, 0.05)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.sleep(30)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/messages", "headers": [], "query_string": b""}
    await asyncio.wait_for(app(scope, never, send), 25)
    assert sent[0]["status"] == 408


# ---------------------------------------------------------------- rate limit


@given(st.integers(1, 500), st.lists(st.floats(0, 90), min_size=1, max_size=60))
@example(1, [70.2, 15.0])
def test_no_minute_exceeds_twice_the_rate_and_retry_after_is_enough(rate: int, pauses: list[float]) -> None:
    now, admitted = 0.0, []
    limiter = RateLimiter(rate, lambda: now)
    for pause in pauses:
        now += pause
        wait = limiter.acquire("p")
        if wait:
            now += wait
            assert limiter.acquire("p") == 0
        admitted.append(now)
    for at in admitted:
        assert sum(at <= other < at + 60 for other in admitted) <= 2 * rate


async def test_each_principal_has_its_own_rate_limit(serve: Any) -> None:
    http = await serve(tokens=TOKENS, http_requests_per_minute=2)
    codes = {
        token: [(await http.get("/v1/spaces", headers={"x-api-key": token})).status_code for _ in range(3)]
        for token in (ALICE, BOB)
    }
    assert codes == {ALICE: [200, 200, 429], BOB: [200, 200, 429]}


async def test_without_tokens_and_setting_there_is_no_rate_limit(http: httpx2.AsyncClient) -> None:
    assert {(await http.get("/v1/spaces")).status_code for _ in range(700)} == {200}


# ---------------------------------------------------------------- hosts and origins


@pytest.mark.parametrize("path", ["/v1/memory", "/v1/chat/sessions", "/mcp", "/metrics", "/openapi.json"])
async def test_foreign_hosts_and_origins_are_rejected_on_every_path(http: httpx2.AsyncClient, path: str) -> None:
    for headers, status in (
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
    ):
        response = await http.post(path, json={}, headers=headers)
        assert response.status_code == status, headers
        assert "CTXMEM_ALLOWED_HOSTS" in response.text, "the remedy"


async def test_only_allowed_hosts_pass(serve: Any) -> None:
    http = await serve(allowed_hosts="memory.example.com, other.example.com")
    for host in ("memory.example.com", "OTHER.example.com:8443", "localhost"):
        assert (await http.get("/v1/spaces", headers={"Host": host})).status_code == 200
    assert (await http.get("/v1/spaces", headers={"Host": "example.com"})).status_code == 421


async def test_probes_accept_any_host(http: httpx2.AsyncClient) -> None:
    for path in ("/health", "/ready"):
        assert (await http.get(path, headers={"Host": "10.1.2.3:8377"})).status_code == 200


@pytest.mark.parametrize("hosts", ["*", "a.example.com:80", "https://a.example.com"])
def test_an_allowed_host_that_can_never_match_is_rejected(tmp_path: Path, hosts: str) -> None:
    with pytest.raises(InvalidArgument):
        allowed_hosts_of(Settings(data_dir=tmp_path, allowed_hosts=hosts), "0.0.0.0")


# ---------------------------------------------------------------- bind address


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "requires authentication"),
        ({"tokens": TOKENS}, "allowed hosts"),
        ({"allowed_hosts": "a.example.com"}, "requires authentication"),
        ({"oauth_issuer": "https://a"}, "allowed hosts"),
    ],
)
def test_a_public_bind_needs_tokens_and_allowed_hosts(tmp_path: Path, changed: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        serve(Settings(data_dir=tmp_path, **changed), "http", "0.0.0.0", 0)


# ---------------------------------------------------------------- stored tokens


def test_only_the_hash_of_a_new_token_is_stored(tmp_path: Path) -> None:
    token, line = new_token("alice")
    path = tmp_path / "tokens"
    path.write_text(f"# tokens\n\n{line}  # laptop\n{new_token('bob')[1]}\n", encoding="utf-8")
    known = read_tokens(None, path)
    assert known.name_of(token) == "alice"
    assert known.name_of(token + "x") is None
    assert known.name_of(line.split()[1]) is None
    assert token not in path.read_text(encoding="utf-8")
    assert len(token) > 40


@pytest.mark.parametrize(
    "line", ["alice", "alice secret-secret-secret", "alice sha256:abc", "a b c", "al/ice sha256:" + "0" * 64, ""]
)
def test_an_invalid_token_file_is_rejected_without_repeating_a_token(tmp_path: Path, line: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(InvalidArgument) as refused:
        read_tokens(None, path)
    assert "secret-secret" not in str(refused.value)


@pytest.mark.parametrize("listed", ["justatokenwithoutaname", "alice:short", "al ice:0123456789012345678901"])
def test_an_invalid_token_list_is_rejected_without_repeating_a_token(listed: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read_tokens(listed, None)
    assert listed.partition(":")[2] or listed not in str(refused.value)


def test_the_repr_of_settings_has_no_tokens(tmp_path: Path) -> None:
    assert ALICE not in repr(Settings(data_dir=tmp_path, tokens=TOKENS))


# ---------------------------------------------------------------- metrics and log


async def test_metrics_are_prometheus_text_and_add_up(http: httpx2.AsyncClient) -> None:
    for path in ("/v1/chat/sessions", "/v1/chat/sessions/QUAGGA", "/v1/chat/sessions/OKAPI", "/QUAGGA/nowhere"):
        await http.get(path)
    response = await http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = response.text
    assert f'ctxmem_build_info{{version="{__version__}"}} 1' in text
    wanted = 'ctxmem_http_requests_total{method="GET",route="/v1/chat/sessions/{session_id}",status="404"} 2'
    assert wanted in text
    assert 'route="none",status="404"} 1' in text
    assert 'ctxmem_http_request_duration_seconds_count{route="/v1/chat/sessions"} 1' in text
    assert "ctxmem_http_requests_in_progress 1\n" in text
    assert not re.search("QUAGGA|OKAPI", text)
    line = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+|# (HELP|TYPE) [a-z_]+ .+')
    assert [found for found in text.splitlines() if not line.fullmatch(found)] == []
    buckets = [int(n) for n in re.findall(r'bucket\{route="/v1/chat/sessions",le="[^"]+"\} (\d+)', text)]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 1


async def test_the_log_has_requests_but_no_content(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ctxmem_mcp")
    http = await serve(token=ALICE, tokens=TOKENS)
    session = (await http.post("/v1/chat/sessions", json={"name": "QUAGGA"})).json()["data"]["id"]
    await http.post(f"/v1/chat/sessions/{session}/messages", json={"role": "user", "content": "QUAGGA"})
    await http.get(f"/v1/chat/sessions/{session}/context", params={"query": "QUAGGA"})
    await http.post("/v1/memory", json={"messages": [{"role": "user", "content": "QUAGGA"}]})
    await http.post("/v1/memory", json={"messages": [{"role": "QUAGGA", "content": "QUAGGA"}]})
    await http.get("/v1/QUAGGA")
    response = await http.get("/v1/spaces", headers={"x-request-id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    log = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("ctxmem_mcp"))
    assert "id=mine-1 method=GET route=/v1/spaces status=200" in log
    assert log.count("route=/v1/chat/sessions/{session_id}/messages status=200") == 1
    assert not re.search(f"QUAGGA|{session}|{ALICE}", log)


async def test_a_request_id_that_could_forge_a_log_line_is_replaced(http: httpx2.AsyncClient) -> None:
    response = await http.get("/health", headers={"x-request-id": "a status=200 b"})
    assert re.fullmatch(r"req_[0-9a-f]{16}", response.headers["x-request-id"])


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/v1/chat/sessions", {"success": False}), ("/v1/memory", {}), ("/v1/spaces", {"success": False})],
)
async def test_an_unexpected_error_has_the_apis_format_and_is_counted(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str, expected: dict[str, Any]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("QUAGGA")

    monkeypatch.setattr(RecordFiles, "put", fail)
    monkeypatch.setattr(Memory, "sync", fail)
    body = {"name": "a", "messages": [{"role": "user", "content": "a"}]}
    sent = body if path == "/v1/memory" else {"name": "a"}
    response = await http.post(path, json=sent, headers={"x-request-id": "mine"})
    assert response.status_code == 500
    assert expected.items() <= response.json().items()
    assert "request mine" in str(response.json()["error"])
    assert response.headers.get_list("x-request-id") == ["mine"]
    assert "QUAGGA" not in response.text
    metrics = (await http.get("/metrics")).text
    assert f'ctxmem_http_requests_total{{method="POST",route="{path}",status="500"}} 1' in metrics


async def test_a_client_that_disconnects_while_sending_causes_no_error(settings: Settings) -> None:
    app = http_app(settings, "127.0.0.1")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/v1/memory", "raw_path": b"/v1/memory", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"127.0.0.1")], "client": None, "server": ("127.0.0.1", 8377),
    }  # fmt: skip
    incoming: list[Message] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b'{"messages"', "more_body": True},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    async with running(app):
        await app(scope, receive, send)
    assert sent == []


async def test_ready_fails_if_the_folder_is_not_writable(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    http = await serve(data_dir=tmp_path / "file" / "data")
    assert (await http.get("/ready")).status_code == 503
    assert (await http.get("/health")).status_code == 200
    assert (await http.get("/v1/chat/sessions/session_0123456789abcdef")).status_code in (404, 503)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/memory", {"error": "Method Not Allowed"}),
        ("/v1/chat/sessions", {"success": False}),
        ("/nothing", {}),
        ("/v1/messages", {"type": "error"}),
    ],
)
async def test_each_api_has_its_own_error_format(http: httpx2.AsyncClient, path: str, expected: dict[str, Any]) -> None:
    body = (await http.request("PATCH", path)).json()
    assert expected.items() <= body.items()
    assert "error" in body


async def test_every_path_is_also_served_below_api(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/api/v1/spaces")).json()["data"] == (await http.get("/v1/spaces")).json()["data"]
    assert (await http.get("/api/v1/memory")).status_code == 405
    assert (await http.get("/api/health")).status_code == 404
