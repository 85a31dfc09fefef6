"""Standard input and output as the streams of an MCP server.

`connect_stdio` gives the SDK's stdio transport three things it lacks:

* Files that are read and written from the event loop. The SDK's own cross to a worker thread three times per message
  (read, write, flush), which takes longer than storing a turn. Pipes and sockets, which hosts use, can be polled
  instead; for anything else, and on Windows, the SDK's files are used.
* A response to messages that the SDK can't parse. It drops them, and their sender would wait forever.
* Time to respond to the requests received before stdin ended, which the SDK would cancel. So `ctxmem-mcp < requests`,
  and a host that closes stdin after its last request, get their responses.
"""

from __future__ import annotations

import contextvars
import json
import os
import select
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import PARSE_ERROR, ErrorData, JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse
from pydantic import ValidationError

if TYPE_CHECKING:
    File = anyio.AsyncFile[str]

READ_BYTES = 1 << 16
# A descriptor that is ready for writing takes this many bytes without blocking.
WRITE_BYTES = getattr(select, "PIPE_BUF", 512)
# How long pending requests may take after stdin has ended: a host that closed it may be waiting for us to exit.
FINISH_SECONDS = 3.0
NOT_UNICODE = (
    "The message is JSON but not valid Unicode: it contains half of a surrogate pair, such as an emoji cut in two. "
    "Nothing was done. Replace it (with U+FFFD) and send the message again."
)
# This request stays open until one side ends it, so nobody waits for its response.
_LISTEN = "subscriptions/listen"


@asynccontextmanager
async def connect_stdio() -> AsyncIterator[tuple[Any, Any]]:
    """The incoming and the outgoing message stream of this process.

    Meanwhile file descriptor 0 is empty and 1 is stderr, so that nothing else reads or writes the protocol.
    """
    from mcp.server.stdio import stdio_server

    with _polled_files() as files:
        async with stdio_server(*files) as (incoming, outgoing):
            pending = PendingRequests()
            parsed = _ParsedMessages(incoming, outgoing)
            yield _TrackedRequests(parsed, pending), _TrackedResponses(outgoing, pending)


# ---------------------------------------------------------------- files


@contextmanager
def _polled_files() -> Iterator[tuple[File, File] | tuple[None, None]]:
    """Files for the SDK's transport; (None, None) if it must use its own."""
    if sys.platform == "win32" or not (_can_be_polled(0) and _can_be_polled(1)):
        yield None, None
        return
    incoming, outgoing, empty = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    os.close(empty)
    try:
        # The SDK only iterates over the first, and calls write and flush of the second.
        yield cast("File", LineReader(incoming)), cast("File", TextWriter(outgoing))
    finally:
        for saved, fd in ((incoming, 0), (outgoing, 1)):
            os.dup2(saved, fd)
            os.close(saved)


def _can_be_polled(fd: int) -> bool:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class LineReader:
    """The lines read from a file descriptor, without the empty ones."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._complete: list[bytes] = []  # the next one last
        self._partial: list[bytes] = []
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._complete:
            if self._ended:
                raise StopAsyncIteration
            await anyio.wait_readable(self._fd)
            with suppress(BlockingIOError):
                self._split(self._read())
        return self._complete.pop().decode("utf-8", "replace")

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, READ_BYTES)
        except ConnectionError:  # the host has exited
            return b""

    def _split(self, read: bytes) -> None:
        *complete, rest = read.split(b"\n")
        self._ended = not read
        if complete or self._ended:
            complete = [b"".join([*self._partial, *complete[:1]]), *complete[1:]]
            self._complete = [line for line in reversed(complete) if line]
            self._partial.clear()
        self._partial.append(rest)


class TextWriter:
    """Writes text to a file descriptor; nothing is buffered."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def write(self, text: str) -> None:
        remaining = memoryview(text.encode())
        while remaining:
            if not select.select((), (self._fd,), (), 0)[1]:
                await anyio.wait_writable(self._fd)
            with suppress(BlockingIOError):
                remaining = remaining[os.write(self._fd, remaining[:WRITE_BYTES]) :]

    async def flush(self) -> None:
        """Does nothing."""


# ---------------------------------------------------------------- message streams


class _Stream:
    """Passes an SDK message stream through. Subclasses override `__anext__` or `send` to observe the messages."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def last_context(self) -> contextvars.Context | None:
        found: contextvars.Context | None = getattr(self._stream, "last_context", None)
        return found

    async def receive(self) -> SessionMessage | Exception:
        return await anext(self)

    async def __anext__(self) -> SessionMessage | Exception:
        item: SessionMessage | Exception = await anext(self._stream)
        return item

    def __aiter__(self) -> Self:
        return self

    async def send(self, item: SessionMessage) -> None:
        await self._stream.send(item)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        done: bool | None = await self._stream.__aexit__(kind, error, trace)
        return done


class PendingRequests:
    """The requests received and not yet responded to."""

    def __init__(self) -> None:
        self._ids: set[str | int] = set()
        self._all_done = anyio.Event()

    def received(self, item: SessionMessage | Exception) -> None:
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCRequest) and message.method != _LISTEN:
            self._ids.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            self._ids.discard((message.params or {}).get("requestId", ""))

    def sent(self, item: SessionMessage) -> None:
        message = item.message
        if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._ids.discard(message.id)
            if not self._ids:
                self._all_done.set()

    async def wait(self) -> None:
        """Waits until all have a response, for `FINISH_SECONDS` at most."""
        if self._ids:
            self._all_done = anyio.Event()
            with anyio.move_on_after(FINISH_SECONDS):
                await self._all_done.wait()


class _TrackedRequests(_Stream):
    """Ends only after the pending requests."""

    def __init__(self, stream: Any, pending: PendingRequests) -> None:
        super().__init__(stream)
        self._pending = pending

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            item = await super().__anext__()
        except StopAsyncIteration:
            await self._pending.wait()
            raise
        self._pending.received(item)
        return item


class _TrackedResponses(_Stream):
    def __init__(self, stream: Any, pending: PendingRequests) -> None:
        super().__init__(stream)
        self._pending = pending

    async def send(self, item: SessionMessage) -> None:
        await super().send(item)
        self._pending.sent(item)


class _ParsedMessages(_Stream):
    """The incoming messages without those that are not valid Unicode, which get an error response here.

    The usual one contains half of a surrogate pair (a text cut inside an emoji), which JavaScript writes into JSON as
    an escape. Storing another character in its place would not be lossless, so it is refused.
    """

    def __init__(self, incoming: Any, outgoing: Any) -> None:
        super().__init__(incoming)
        self._outgoing = outgoing

    async def __anext__(self) -> SessionMessage | Exception:
        while True:
            item = await super().__anext__()
            response = _error_response(item) if isinstance(item, ValidationError) else None
            if response is None:
                return item
            await self._outgoing.send(SessionMessage(response))


def _error_response(error: ValidationError) -> JSONRPCError | None:
    """The response to a request that is JSON to every parser but the SDK's; None if something else is wrong."""
    fault = error.errors(include_url=False)[0]
    if fault["type"] != "json_invalid":
        return None
    try:
        message = json.loads(fault["input"])
    except ValueError:
        return None
    request_id = message.get("id") if isinstance(message, dict) else None
    if not isinstance(request_id, int | str) or isinstance(request_id, bool) or _is_unicode(message):
        return None
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=PARSE_ERROR, message=NOT_UNICODE))


def _is_unicode(message: object) -> bool:
    try:
        json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
