"""Relaying upstream responses to a client that may disconnect at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import Response, StreamingResponse

if TYPE_CHECKING:
    import httpx2
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

_T = TypeVar("_T")


class RelayedStream(StreamingResponse):
    """Streams an upstream's response. The upstream is closed in every case, even if streaming never began."""

    def __init__(self, content: AsyncGenerator[bytes, None], upstream: httpx2.Response) -> None:
        super().__init__(content, upstream.status_code)
        self._content, self._upstream = content, upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._upstream), aclosing(self._content):
            await super().__call__(scope, receive, send)


async def unless_disconnected(request: Request, coroutine: Coroutine[Any, Any, _T]) -> _T | None:
    """Awaits a coroutine. Returns None, and cancels the coroutine, if the client disconnects first."""
    working = asyncio.ensure_future(coroutine)
    watching = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and watching.exception() is None:
            return None
        return await working
    finally:
        for task in (working, watching):
            task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await working
        with suppress(asyncio.CancelledError, Exception):
            await watching


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def with_headers(response: Response, headers: list[tuple[str, str]]) -> Response:
    """Adds headers to a response, in place of its own headers of the same names."""
    names = {name for name, _ in headers}
    own = [(name, value) for name, value in response.raw_headers if name.decode("latin-1") not in names]
    response.raw_headers = [*own, *((n.encode("latin-1"), v.encode("latin-1", "replace")) for n, v in headers)]
    return response
