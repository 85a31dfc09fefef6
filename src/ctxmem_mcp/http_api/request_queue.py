"""Lets a few requests work at once, and queues the others.

The event loop executes all that is ready before it looks for new requests. With 64 requests in progress, each a slice
of work, a new one waited for all slices twice; on a busy machine, /health took over a second. With few in progress it
waits for a few.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from ctxmem_mcp.http_api.errors import is_proxied

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Enough to keep the disk and the database busy while one request computes. On a busy machine /health took 0.4 s (p99)
# with 3, and 1.2 s with 8 beside it; a tenth fewer calls were served.
WORKING_MAX = 4
_PASSING = ("/health", "/ready", "/metrics")
# A request that takes longer waits for something else: a lock, a worker process, a change to notify of.
SECONDS_MAX = 1.0


class RequestQueue:
    """The requests that work, and those that wait, first come, first served."""

    def __init__(self, working_max: int = WORKING_MAX, seconds_max: float = SECONDS_MAX) -> None:
        """seconds_max: after so long, a request no longer counts, though it goes on."""
        self._free, self._seconds = working_max, seconds_max
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> Place:
        """Waits for a place."""
        if self._free > 0:
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.leave()  # it was given a place in the same moment
                raise
        return Place(self, self._seconds)

    def leave(self) -> None:
        """Gives a place to the next request."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Place:
    """A request's place, which it gives up once."""

    def __init__(self, queue: RequestQueue, seconds: float) -> None:
        self._queue: RequestQueue | None = queue
        self._timer = asyncio.get_running_loop().call_later(seconds, self.give_up)

    def give_up(self) -> None:
        """Gives the place to the next request."""
        self._timer.cancel()
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.leave()


class QueueMiddleware:
    """Queues requests that work on the memory. Those of operators, and those that wait for an upstream, pass."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._queue = RequestQueue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _PASSING or is_proxied(scope["path"]):
            return await self._app(scope, receive, send)
        first: Message | None = await receive()  # until a body begins to arrive, its request takes no place
        place = await self._queue.enter()

        async def receive_again() -> Message:
            nonlocal first
            if first is None:
                return await receive()
            message, first = first, None
            return message

        async def send_and_leave(message: Message) -> None:
            await send(message)
            if message.get("body"):  # what follows is a stream's
                place.give_up()

        try:
            await self._app(scope, receive_again, send_and_leave)
        finally:
            place.give_up()
        return None
