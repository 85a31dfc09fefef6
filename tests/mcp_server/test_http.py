"""The server over streamable HTTP: a process with its own port, used by the official client and by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx2
import pytest
from mcp import Client

from ctxmem_mcp import __version__
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.http_api.net import is_loopback
from ctxmem_mcp.serve.run import serve
from ctxmem_mcp.settings import Settings
from tests.mcp_server.conftest import Caller

pytestmark = pytest.mark.anyio

SERVE = """
import sys
from ctxmem_mcp.serve.run import serve
from ctxmem_mcp.settings import Settings
serve(Settings.load({"data_dir": sys.argv[1], "log_level": "info"}, {}), "http", "127.0.0.1", 0)
"""
PING: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2025-11-25",
    "Content-Type": "application/json",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server. It is logged after the socket is bound, so that a connection waits."""
    data = tmp_path_factory.mktemp("data")
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(data)], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stderr is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert address is not None
        yield address[0]
        process.terminate()
        _, errors = process.communicate(timeout=100)
        assert "Traceback" not in errors


async def ready(base: str) -> None:
    with anyio.fail_after(100):
        async with httpx2.AsyncClient() as http:
            while True:
                try:
                    assert (await http.get(f"{base}/health")).status_code == 200
                    return
                except httpx2.TransportError:
                    await anyio.sleep(0.02)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_turns_are_stored_and_read_over_http(base: str, mode: Literal["auto", "legacy"]) -> None:
    await ready(base)
    async with Client(f"{base}/mcp", mode=mode) as client:
        call = Caller(client)
        huge = "größer 🧵\r\n" + "x" * 6_000_000
        done = await call.append(huge, mode)
        header, body = await call.text("expand_node", conversation_id=mode, node_id=done["turn_id"])
        assert header["next_cursor"]
        assert huge.startswith(body)
        assert "is not an argument" in await call.refusal("get_context", conversation_id=mode, budget=3)
        (content,) = (await client.read_resource(f"ctxmem://conversations/{mode}/usage")).contents
        assert content.mime_type == "application/json"


async def test_health_returns_the_running_version(base: str) -> None:
    await ready(base)
    async with httpx2.AsyncClient() as http:
        assert (await http.get(f"{base}/health")).json() == {"status": "ok", "version": __version__}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8377"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_foreign_origins_and_hosts_are_refused(base: str, headers: dict[str, str], status: int) -> None:
    await ready(base)
    async with httpx2.AsyncClient() as http:
        answer = await http.post(f"{base}/mcp", json=PING, headers=HEADERS | headers)
    assert answer.status_code == status


async def test_a_body_over_the_limit_is_refused_and_the_server_continues(base: str) -> None:
    await ready(base)
    async with httpx2.AsyncClient(timeout=100) as http:
        answer = await http.post(f"{base}/mcp", content=b" " * (64 * 1024 * 1024 + 1), headers=HEADERS)
        assert answer.status_code == 413
        assert (await http.post(f"{base}/mcp", json=PING, headers=HEADERS)).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "memory.example.com"])
def test_a_reachable_host_without_authentication_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        serve(Settings(data_dir=tmp_path), "http", host, 0)
    assert host in str(refused.value)
    assert "--insecure" in str(refused.value)


def test_every_spelling_of_loopback_is_recognised() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "::1", "[::1]"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "localhost.example.com", "10.0.0.1", ""))
