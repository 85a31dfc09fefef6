"""Responses are sent at once: the sockets of the service's connections have TCP_NODELAY."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from ctxmem_mcp.serve.http import as_tcp, serve_http
from ctxmem_mcp.serve.run import http_app
from ctxmem_mcp.settings import Settings


@pytest.mark.anyio
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_connections_of_a_bound_socket_send_at_once(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.bind((address, 0))
    except OSError:
        bound.close()
        pytest.skip(f"this machine has no {address}")
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            connected = transport.get_extra_info("socket")
            accepted.set_result(connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    server = await asyncio.get_running_loop().create_server(Protocol, sock=as_tcp(bound))
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        assert await accepted
        writer.close()
        await writer.wait_closed()


def test_the_service_listens_on_such_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listening: list[socket.socket] = []

    def run(self: Any, sockets: list[socket.socket]) -> None:
        listening.extend(sockets)

    monkeypatch.setattr(uvicorn.Server, "run", run)
    settings = Settings(data_dir=tmp_path / "data")
    serve_http(http_app(settings, "127.0.0.1"), settings, "127.0.0.1", 0)
    (one,) = listening
    with one:
        assert one.proto == socket.IPPROTO_TCP
