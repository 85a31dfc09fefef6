"""Connections to the upstream: they are reused, and one that was closed in between does no harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from ctxmem_mcp.http_api.gateway.upstream import Upstream
from ctxmem_mcp.serve.run import http_app
from ctxmem_mcp.settings import Settings
from tests.gateway.harness import answers_with, gateway, long_history, upstream_stub

RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: who=alice; Path=/\r\n\r\n{}"
CHAT = "/v1/chat/completions"


@dataclass
class RawServer:
    """A server of plain sockets. requests: their heads, by connection. disconnected: set when the client closes one."""

    url: str = ""
    requests: list[list[bytes]] = field(default_factory=list)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def received(self) -> int:
        return sum(map(len, self.requests))

    async def wait_for_disconnect(self) -> None:
        await asyncio.wait_for(self.disconnected.wait(), 100)


Respond = Callable[[asyncio.StreamWriter, int], Awaitable[bool]]


@asynccontextmanager
async def raw_server(respond: Respond) -> AsyncIterator[RawServer]:
    """respond: responds to a connection's n-th request, and returns False to close the connection."""
    server = RawServer()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads: list[bytes] = []
        server.requests.append(heads)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                heads.append(head)
                if not await respond(writer, len(heads)):
                    break
        except asyncio.IncompleteReadError:
            server.disconnected.set()
        finally:
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with listener:
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield server


async def keep_open(writer: asyncio.StreamWriter, _: int) -> bool:
    writer.write(RESPONSE)
    return True


async def respond_and_close(writer: asyncio.StreamWriter, _: int) -> bool:
    writer.write(RESPONSE)
    await writer.drain()
    return False


async def close_at_second(writer: asyncio.StreamWriter, n: int) -> bool:
    if n == 1:
        writer.write(RESPONSE)
    return n == 1


async def stream_forever(writer: asyncio.StreamWriter, _: int) -> bool:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: {}\n\n")
    return True


async def post(upstream: Upstream, server: RawServer) -> int:
    response = await upstream.send("POST", f"{server.url}/v1/chat/completions", "", [], b"{}")
    await response.aread()
    await response.aclose()
    return response.status_code


@pytest.mark.anyio
async def test_sequential_requests_share_a_connection_until_close() -> None:
    async with raw_server(keep_open) as server:
        upstream = Upstream(5)
        for _ in range(4):
            assert await post(upstream, server) == 200
        assert [len(heads) for heads in server.requests] == [4]
        await upstream.close()
        await server.wait_for_disconnect()
        assert await post(upstream, server) == 200, "it may be used again"
        await upstream.close()


@pytest.mark.anyio
async def test_a_connection_closed_while_idle_is_replaced() -> None:
    async with raw_server(respond_and_close) as server:
        upstream = Upstream(5)
        for _ in range(5):
            assert await post(upstream, server) == 200
            await asyncio.sleep(0.02)
        await upstream.close()
    assert [len(heads) for heads in server.requests] == [1] * 5


@pytest.mark.anyio
async def test_a_sent_request_is_never_sent_again() -> None:
    async with raw_server(close_at_second) as server:
        upstream = Upstream(5)
        assert await post(upstream, server) == 200
        with pytest.raises(httpx2.HTTPError):
            await post(upstream, server)
        await upstream.close()
    assert server.received == 2


@pytest.mark.anyio
async def test_cookies_are_not_kept_between_requests() -> None:
    async with raw_server(keep_open) as server:
        upstream = Upstream(5)
        for _ in range(2):
            await post(upstream, server)
        await upstream.close()
    assert not [head for heads in server.requests for head in heads if b"cookie" in head.lower()]


@pytest.mark.anyio
async def test_the_service_keeps_its_connection_while_it_runs(tmp_path: Path) -> None:
    async with raw_server(keep_open) as server:
        app = http_app(Settings(tmp_path, upstream_base_url=f"{server.url}/v1"), "127.0.0.1")
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8377") as client:
                for _ in range(3):
                    response = await client.post(
                        CHAT, json={"model": "m", "messages": [{"role": "user", "content": "?"}]}
                    )
                    assert response.status_code == 200
            assert (len(server.requests), server.received, server.disconnected.is_set()) == (1, 3, False)
        await server.wait_for_disconnect()


@pytest.mark.anyio
async def test_the_upstream_is_closed_if_the_client_disconnects_before_the_stream_begins(tmp_path: Path) -> None:
    body: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> Message:
        if not body:
            await asyncio.Event().wait()
        return body.pop()

    async def send(_: Message) -> None:
        raise OSError("gone")

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": CHAT, "raw_path": CHAT.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8377")], "client": None, "server": ("127.0.0.1", 8377),
    }  # fmt: skip
    async with raw_server(stream_forever) as server:
        app = http_app(Settings(tmp_path, upstream_base_url=f"{server.url}/v1"), "127.0.0.1")
        async with app.router.lifespan_context(app):
            with pytest.raises(ClientDisconnect):
                await app(scope, receive, send)
            await server.wait_for_disconnect()


def test_streams_and_complete_responses_share_a_connection(tmp_path: Path) -> None:
    with upstream_stub(answers_with("It is fixed.")) as stub, gateway(tmp_path, stub) as running:
        for stream in (True, False, True, False):
            body = {"model": "m:memory", "stream": stream, "messages": long_history(1)}
            assert httpx2.post(running.url + CHAT, json=body).status_code == 200
        httpx2.get(f"{running.url}/v1/models")
    assert len(stub.peers) == 5
    assert len(set(stub.peers)) == 1


@pytest.mark.anyio
async def test_a_stream_that_is_not_read_to_its_end_closes_its_connection(tmp_path: Path) -> None:
    """The unread rest must not be taken for the next response."""
    body = {"model": "m", "stream": True, "messages": long_history(1)}
    async with raw_server(stream_forever) as server, httpx2.AsyncClient(timeout=100) as client:
        with gateway(tmp_path, server) as running:
            for _ in range(2):
                async with client.stream("POST", running.url + CHAT, json=body) as response:
                    assert await anext(response.aiter_bytes()) == b"data: {}\n\n"
                await server.wait_for_disconnect()
                server.disconnected.clear()
    assert [len(heads) for heads in server.requests] == [1, 1]
