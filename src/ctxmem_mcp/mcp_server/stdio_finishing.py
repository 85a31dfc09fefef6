"""What was asked before the input ended is answered before the server ends. The SDK would cancel it.

So `ctxmem-mcp < requests` and a host that closes our input behind its last request get their answers.
"""

from __future__ import annotations

from typing import Any

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from ctxmem_mcp.mcp_server.stdio_streams import Stream

# A host that has closed our input may wait for us to end.
FINISH_SECONDS = 3.0
# Goes on until one side ends it.
_LISTEN = "subscriptions/listen"


class Unanswered:
    """The requests that wait for their answers, seen from both ends of the wire."""

    def __init__(self, incoming: Any, outgoing: Any) -> None:
        self._ids: set[str | int] = set()
        self._none_left = anyio.Event()
        self.incoming, self.outgoing = _Incoming(incoming, self), _Outgoing(outgoing, self)

    def came(self, item: SessionMessage | Exception) -> None:
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCRequest) and message.method != _LISTEN:
            self._ids.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            self._ids.discard((message.params or {}).get("requestId", ""))

    def went(self, item: SessionMessage) -> None:
        message = item.message
        if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._ids.discard(message.id)
            if not self._ids:
                self._none_left.set()

    async def finished(self) -> None:
        """Waits until all are answered, for a while."""
        if self._ids:
            self._none_left = anyio.Event()
            with anyio.move_on_after(FINISH_SECONDS):
                await self._none_left.wait()


class _Incoming(Stream):
    def __init__(self, stream: Any, unanswered: Unanswered) -> None:
        super().__init__(stream)
        self._unanswered = unanswered

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            item = await super().__anext__()
        except StopAsyncIteration:
            await self._unanswered.finished()
            raise
        self._unanswered.came(item)
        return item


class _Outgoing(Stream):
    def __init__(self, stream: Any, unanswered: Unanswered) -> None:
        super().__init__(stream)
        self._unanswered = unanswered

    async def send(self, item: SessionMessage) -> None:
        await super().send(item)
        self._unanswered.went(item)
