"""Lines of standard input and output as the message streams of an MCP server.

With `stdio_lines` they replace the SDK's stdio transport, which lacks four things:

* Files that are read and written from the event loop (see `stdio_lines`).
* The bytes as they were sent. The SDK replaces invalid UTF-8 with U+FFFD, which would then be stored.
* A response to messages that the SDK can't parse (see `jsonrpc`). It drops them, and their sender would wait forever.
* Time to respond to the requests received before stdin ended, which the SDK would cancel. So `ctxmem-mcp < requests`,
  and a host that closes stdin after its last request, get their responses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection
from types import TracebackType
from typing import Self

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from ctxmem_mcp.mcp_server.jsonrpc import Rejection, parse_message

# How long pending requests may take after stdin has ended: a host that closed it may be waiting for us to exit.
FINISH_SECONDS = 3.0
# This request stays open until one side ends it, so nobody waits for its response.
_LISTEN = "subscriptions/listen"


def message_streams(
    lines: AsyncIterator[bytes], output: MemoryObjectSendStream[bytes], silent: Collection[str | int] = ()
) -> tuple[IncomingMessages, OutgoingMessages]:
    """The incoming and the outgoing message stream over lines.

    Args:
        lines: The lines that the client sends.
        output: Takes the lines to send to the client.
        silent: The ids of requests whose responses are not sent.
    """
    pending = PendingRequests()
    return IncomingMessages(lines, output, pending), OutgoingMessages(output, pending, silent)


class PendingRequests:
    """The requests received and not yet responded to."""

    def __init__(self) -> None:
        # Two requests may have the same id, and both get a response.
        self._ids: Counter[str | int] = Counter()
        self._all_done = anyio.Event()

    def received(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCRequest) and message.method != _LISTEN:
            self._ids[message.id] += 1
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            cancelled = (message.params or {}).get("requestId")
            if isinstance(cancelled, str | int) and not isinstance(cancelled, bool):
                self._ids.pop(cancelled, None)

    def sent(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._ids -= Counter([message.id])  # keeps only positive counts
            if not self._ids:
                self._all_done.set()

    async def wait(self) -> None:
        """Waits until all have a response, for `FINISH_SECONDS` at most."""
        if self._ids:
            self._all_done = anyio.Event()
            with anyio.move_on_after(FINISH_SECONDS):
                await self._all_done.wait()


class _Stream:
    """What the two streams have in common: the SDK enters and closes both."""

    async def aclose(self) -> None:
        """Closes the stream."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class IncomingMessages(_Stream):
    """The valid messages among the lines; the others get their error response here. Ends after the pending requests."""

    def __init__(
        self, lines: AsyncIterator[bytes], output: MemoryObjectSendStream[bytes], pending: PendingRequests
    ) -> None:
        self._lines, self._output, self._pending = lines, output, pending

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        async for line in self._lines:
            parsed = parse_message(line)
            if isinstance(parsed, Rejection):
                await self._output.send(parsed.text.encode() + b"\n")
            elif parsed is not None:
                self._pending.received(parsed)
                return SessionMessage(parsed)
        await self._pending.wait()
        raise StopAsyncIteration

    async def receive(self) -> SessionMessage | Exception:
        return await anext(self)


class OutgoingMessages(_Stream):
    """Sends messages, a line each."""

    def __init__(
        self, output: MemoryObjectSendStream[bytes], pending: PendingRequests, silent: Collection[str | int]
    ) -> None:
        self._output, self._pending, self._silent = output, pending, silent

    async def send(self, item: SessionMessage) -> None:
        message = item.message
        if not (isinstance(message, JSONRPCResponse | JSONRPCError) and message.id in self._silent):
            await self._output.send(message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
        self._pending.sent(message)

    async def aclose(self) -> None:
        await self._output.aclose()
