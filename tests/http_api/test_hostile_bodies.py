"""Invalid bodies: each request gets an error response, never that of a failed server, and the service goes on."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings

from tests.mcp_server.test_jsonrpc import _LINES, CASES

pytestmark = pytest.mark.anyio

DEEP = b"[" * 100_000
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
ERAS = ("2025-11-25", "2026-07-28")


def deep(levels: int, wrap: bytes) -> bytes:
    return wrap % (b"[" * levels + b"1" + b"]" * levels)


ROUTES = {
    "/v1/memory": b'{"messages": %s}',
    "/v1/chat/sessions": b'{"name": %s}',
    "/v1/spaces": b'{"name": %s}',
}


@pytest.mark.parametrize("levels", [300, 900, 5_000, 200_000])
@pytest.mark.parametrize("path", ROUTES)
async def test_a_deeply_nested_body_is_a_bad_request(http: httpx2.AsyncClient, path: str, levels: int) -> None:
    for body in (deep(levels, ROUTES[path]), b'{"a":' * levels, b"[" * levels):
        response = await http.post(path, content=body)
        assert response.status_code == 400, response.text
        assert response.json()["error"]


@pytest.mark.parametrize("levels", [150, 300, 900, 5_000])
async def test_nested_content_of_messages_never_fails_inside_the_server(http: httpx2.AsyncClient, levels: int) -> None:
    session = (await http.post("/v1/chat/sessions", content=b"{}")).json()["data"]["id"]
    message = b'{"role": "user", "content": %s}'
    for path, body in (
        ("/v1/memory", b'{"messages": [%s]}' % message),
        (f"/v1/chat/sessions/{session}/messages", message),
        ("/v1/chat/completions", b'{"model": "m:memory", "messages": [%s]}' % message),
        ("/v1/messages", b'{"model": "m:memory", "max_tokens": 9, "messages": [%s]}' % message),
    ):
        response = await http.post(path, content=deep(levels, body))
        # The gateway has no upstream here, and says so.
        assert response.status_code in ((400,) if "completions" not in path and path != "/v1/messages" else (400, 503))


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("case", CASES)
async def test_an_invalid_message_gets_a_json_rpc_error_over_http(
    http: httpx2.AsyncClient, case: str, era: str
) -> None:
    line, request_id, code = CASES[case]
    response = await http.post("/mcp", content=line, headers={**ACCEPT, "MCP-Protocol-Version": era})
    assert response.status_code < 500
    answer = _json_rpc(response)
    if case != "an unknown method":
        assert response.status_code == 400
        assert (answer["id"], answer["error"]["code"]) == (request_id, code)
    assert answer["error"]["message"]


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf"])
async def test_a_byte_order_mark_before_a_message_is_skipped(http: httpx2.AsyncClient, mark: bytes) -> None:
    body = mark + b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}'
    response = await http.post("/mcp", content=body, headers={**ACCEPT, "MCP-Protocol-Version": ERAS[0]})
    assert len(_json_rpc(response)["result"]["tools"]) == 10


@pytest.mark.parametrize("era", ERAS)
async def test_every_message_with_an_id_gets_one_response_over_http(http: httpx2.AsyncClient, era: str) -> None:
    examples: list[bytes] = []

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(_LINES)
    def collect(line: bytes) -> None:
        examples.append(line)

    collect()
    for line in examples:
        response = await http.post("/mcp", content=line, headers={**ACCEPT, "MCP-Protocol-Version": era})
        assert response.status_code < 500, (line, response.text)
        if response.status_code != 202:
            assert _json_rpc(response), line
    assert (await http.get("/health")).status_code == 200


def _json_rpc(response: httpx2.Response) -> Any:
    """The message in a JSON or an SSE response."""
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        (text,) = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    return json.loads(text)
