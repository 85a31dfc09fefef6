"""A few requests work at once; the others wait their turn, and those of operators never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ctxmem_mcp.http_api.request_queue import WORKING_MAX, QueueMiddleware, RequestQueue

pytestmark = pytest.mark.anyio


class Work:
    """Requests that work until they may end."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.working = 0

    async def handle(self, request: Request) -> Response:
        self.working += 1
        await self.may_end.wait()
        self.working -= 1
        return PlainTextResponse("done")

    async def stream(self, request: Request) -> Response:
        async def events() -> AsyncIterator[str]:
            yield "first"
            await self.may_end.wait()

        return StreamingResponse(events())


async def settle() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.mark.parametrize("stuck", [0, WORKING_MAX])
async def test_few_work_at_once_and_an_operators_request_passes(stuck: int) -> None:
    """Also after clients of waiting requests have gone."""
    work = Work()

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok")

    routes = [Route("/mcp", work.handle, methods=["GET", "POST"]), Route("/health", health)]
    app = Starlette(routes=routes, middleware=[Middleware(QueueMiddleware)])
    async with AsyncExitStack() as stack:
        transport = httpx2.ASGITransport(app=app)
        client = await stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url="http://x"))
        tasks = [asyncio.create_task(client.post("/mcp", json={"n": n})) for n in range(3 * WORKING_MAX)]
        await settle()
        for task in tasks[len(tasks) - stuck :]:
            task.cancel()
        await settle()
        assert work.working == WORKING_MAX
        assert (await client.get("/health")).text == "ok"
        work.may_end.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one.text for one in done if isinstance(one, httpx2.Response)] == ["done"] * (len(tasks) - stuck)


async def test_a_stream_that_has_begun_takes_no_place() -> None:
    work = Work()
    app = QueueMiddleware(Starlette(routes=[Route("/mcp", work.stream)]))
    begun = []

    async def listen() -> None:
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not messages:
                await asyncio.sleep(3600)
            return messages.pop()

        async def send(message: Any) -> None:
            if message.get("body"):
                begun.append(message)

        scope = {"type": "http", "method": "GET", "path": "/mcp", "headers": [], "query_string": b""}
        await app(scope, receive, send)

    listeners = [asyncio.create_task(listen()) for _ in range(3 * WORKING_MAX)]
    await settle()
    assert len(begun) == len(listeners)
    work.may_end.set()
    await asyncio.gather(*listeners)


async def test_a_place_is_given_on_in_order_and_once() -> None:
    queue = RequestQueue(working_max=1, seconds_max=3600)
    first = await queue.enter()
    order: list[int] = []

    async def take(number: int) -> None:
        place = await queue.enter()
        order.append(number)
        place.give_up()
        place.give_up()

    tasks = [asyncio.create_task(take(number)) for number in range(4)]
    await settle()
    tasks[1].cancel()
    first.give_up()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 2, 3]
    again = await queue.enter()
    waiting = asyncio.create_task(queue.enter())
    await settle()
    assert not waiting.done(), "a place was given up once only"
    again.give_up()
    (await waiting).give_up()


async def test_a_request_that_waits_for_something_else_gives_up_its_place() -> None:
    queue = RequestQueue(working_max=1, seconds_max=0.01)
    await queue.enter()
    async with asyncio.timeout(60):
        (await queue.enter()).give_up()
