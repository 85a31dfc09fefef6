"""The way to the upstream: connections are used again, and one that was closed meanwhile costs nobody an answer."""

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
from tests.gateway.harness import gateway, long_history, says
from tests.gateway.harness import upstream as stub

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: who=alice; Path=/\r\n\r\n{}"
CHAT = "/v1/chat/completions"


@dataclass
class Wire:
    """A server of bare sockets. requests: their heads, by connection. ended: the client hung up."""

    url: str = ""
    requests: list[list[bytes]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def asked(self) -> int:
        return sum(map(len, self.requests))

    async def left(self) -> None:
        await asyncio.wait_for(self.ended.wait(), 5)


Answers = Callable[[asyncio.StreamWriter, int], Awaitable[bool]]


@asynccontextmanager
async def wire(answers: Answers) -> AsyncIterator[Wire]:
    """answers: to the connection's n-th request; False: it hangs up then."""
    known = Wire()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine: list[bytes] = []
        known.requests.append(mine)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                mine.append(head)
                if not await answers(writer, len(mine)):
                    break
        except asyncio.IncompleteReadError:
            known.ended.set()
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        known.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield known


async def stays(writer: asyncio.StreamWriter, _: int) -> bool:
    writer.write(ANSWER)
    return True


async def answers_and_leaves(writer: asyncio.StreamWriter, _: int) -> bool:
    writer.write(ANSWER)
    await writer.drain()
    return False


async def leaves_at_the_second(writer: asyncio.StreamWriter, n: int) -> bool:
    if n == 1:
        writer.write(ANSWER)
    return n == 1


async def streams_on(writer: asyncio.StreamWriter, _: int) -> bool:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: {}\n\n")
    return True


async def asked(way: Upstream, known: Wire) -> int:
    response = await way.send("POST", f"{known.url}/v1/chat/completions", "", [], b"{}")
    await response.aread()
    await response.aclose()
    return response.status_code


@pytest.mark.anyio
async def test_requests_one_after_the_other_take_one_connection_and_closing_hangs_up() -> None:
    async with wire(stays) as known:
        way = Upstream(5)
        for _ in range(4):
            assert await asked(way, known) == 200
        assert [len(heads) for heads in known.requests] == [4]
        await way.close()
        await known.left()
        assert await asked(way, known) == 200, "it may be used again"
        await way.close()


@pytest.mark.anyio
async def test_a_connection_that_the_upstream_closed_while_idle_costs_no_answer() -> None:
    async with wire(answers_and_leaves) as known:
        way = Upstream(5)
        for _ in range(5):
            assert await asked(way, known) == 200
            await asyncio.sleep(0.02)
        await way.close()
    assert [len(heads) for heads in known.requests] == [1] * 5


@pytest.mark.anyio
async def test_a_request_that_was_sent_is_never_sent_again() -> None:
    async with wire(leaves_at_the_second) as known:
        way = Upstream(5)
        assert await asked(way, known) == 200
        with pytest.raises(httpx2.HTTPError):
            await asked(way, known)
        await way.close()
    assert known.asked == 2


@pytest.mark.anyio
async def test_no_cookie_is_kept_from_one_request_to_the_next() -> None:
    async with wire(stays) as known:
        way = Upstream(5)
        for _ in range(2):
            await asked(way, known)
        await way.close()
    assert not [head for heads in known.requests for head in heads if b"cookie" in head.lower()]


@pytest.mark.anyio
async def test_the_service_keeps_a_connection_for_as_long_as_it_runs(tmp_path: Path) -> None:
    async with wire(stays) as known:
        app = http_app(Settings(tmp_path, upstream_base_url=f"{known.url}/v1"), "127.0.0.1")
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client:
                for _ in range(3):
                    answer = await client.post(
                        CHAT, json={"model": "m", "messages": [{"role": "user", "content": "?"}]}
                    )
                    assert answer.status_code == 200
            assert (len(known.requests), known.asked, known.ended.is_set()) == (1, 3, False)
        await known.left()


@pytest.mark.anyio
async def test_a_stream_whose_client_went_before_it_began_lets_the_upstream_go(tmp_path: Path) -> None:
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
        "headers": [(b"host", b"127.0.0.1:8765")], "client": None, "server": ("127.0.0.1", 8765),
    }  # fmt: skip
    async with wire(streams_on) as known:
        app = http_app(Settings(tmp_path, upstream_base_url=f"{known.url}/v1"), "127.0.0.1")
        async with app.router.lifespan_context(app):
            with pytest.raises(ClientDisconnect):
                await app(scope, receive, send)
            await known.left()


def test_streams_and_whole_answers_take_turns_on_one_connection(tmp_path: Path) -> None:
    with stub(says("It is fixed.")) as known, gateway(tmp_path, known) as house:
        for streams in (True, False, True, False):
            body = {"model": "m:memory", "stream": streams, "messages": long_history(1)}
            assert httpx2.post(house.url + CHAT, json=body).status_code == 200
        httpx2.get(f"{house.url}/v1/models")
    assert len(known.peers) == 5
    assert len(set(known.peers)) == 1


@pytest.mark.anyio
async def test_a_stream_that_nobody_reads_to_its_end_gives_its_connection_up(tmp_path: Path) -> None:
    """What is left of it must not be taken for the next answer."""
    body = {"model": "m", "stream": True, "messages": long_history(1)}
    async with wire(streams_on) as known, httpx2.AsyncClient(timeout=10) as client:
        with gateway(tmp_path, known) as house:
            for _ in range(2):
                async with client.stream("POST", house.url + CHAT, json=body) as answer:
                    assert await anext(answer.aiter_bytes()) == b"data: {}\n\n"
                await known.left()
                known.ended.clear()
    assert [len(heads) for heads in known.requests] == [1, 1]
