"""Standard input and output as the streams of an MCP server.

`connect_stdio` replaces the SDK's stdio transport, which lacks four things:

* Files that are read and written from the event loop. The SDK's own cross to a worker thread three times per message
  (read, write, flush), which takes longer than storing a turn. Pipes and sockets, which hosts use, can be polled
  instead; only other files, and those on Windows, are read and written in a thread.
* The bytes as they were sent. The SDK replaces invalid UTF-8 with U+FFFD, which would then be stored.
* A response to messages that the SDK can't parse (see `jsonrpc`). It drops them, and their sender would wait forever.
* Time to respond to the requests received before stdin ended, which the SDK would cancel. So `ctxmem-mcp < requests`,
  and a host that closes stdin after its last request, get their responses.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from ctxmem_mcp.mcp_server.jsonrpc import Rejection, parse_message

READ_BYTES = 1 << 16
# A descriptor that is ready for writing takes this many bytes without blocking.
WRITE_BYTES = getattr(select, "PIPE_BUF", 512)
# How long pending requests may take after stdin has ended: a host that closed it may be waiting for us to exit.
FINISH_SECONDS = 3.0
# This request stays open until one side ends it, so nobody waits for its response.
_LISTEN = "subscriptions/listen"


@asynccontextmanager
async def connect_stdio() -> AsyncIterator[tuple[IncomingMessages, OutgoingMessages]]:
    """The incoming and the outgoing message stream of this process.

    Inside the block file descriptor 0 is empty and 1 is stderr, so that nothing else reads or writes the protocol.
    """
    with _private_descriptors() as (stdin, stdout):
        lines = LineReader(stdin, polled=_can_be_polled(stdin))
        writer = TextWriter(stdout, polled=_can_be_polled(stdout))
        output, queue = anyio.create_memory_object_stream[str](0)
        async with anyio.create_task_group() as tasks, output:
            # A task of its own: a request that is cancelled while its response is written must not leave half a line.
            tasks.start_soon(_write_all, writer, queue)
            pending = PendingRequests()
            yield IncomingMessages(lines, output, pending), OutgoingMessages(output, pending)


async def _write_all(writer: TextWriter, queue: MemoryObjectReceiveStream[str]) -> None:
    async with queue:
        async for text in queue:
            await writer.write(text + "\n")


# ---------------------------------------------------------------- files


@contextmanager
def _private_descriptors() -> Iterator[tuple[int, int]]:
    """Duplicates of file descriptors 0 and 1, which are replaced inside the block."""
    saved = (_duplicate(0, os.O_RDONLY), _duplicate(1, os.O_WRONLY))
    empty = os.open(os.devnull, os.O_RDONLY)
    _replace(0, empty)
    _replace(1, 2)
    os.close(empty)
    try:
        yield saved
    finally:
        for fd, private in enumerate(saved):
            _replace(fd, private)
            # A thread may still be reading one that can't be polled, whose number must not be used again.
            if _can_be_polled(private):
                os.close(private)


def _duplicate(fd: int, mode: int) -> int:
    try:
        return os.dup(fd)
    except OSError:  # the process was started without it
        return os.open(os.devnull, mode)


def _replace(fd: int, by: int) -> None:
    os.dup2(by, fd)
    if sys.platform == "win32":
        from mcp.os.win32.utilities import rebind_std_handle_to_fd

        with suppress(OSError):
            rebind_std_handle_to_fd(fd)


def _can_be_polled(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return sys.platform != "win32" and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


class LineReader:
    """The lines read from a file descriptor, without the empty ones."""

    def __init__(self, fd: int, *, polled: bool = True) -> None:
        """polled: read when the descriptor is ready, instead of in a thread."""
        self._fd, self._polled = fd, polled
        self._complete: list[bytes] = []  # the next one last
        self._partial: list[bytes] = []
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._complete:
            if self._ended:
                raise StopAsyncIteration
            with suppress(BlockingIOError):
                self._split(await self._read())
        return self._complete.pop()

    async def _read(self) -> bytes:
        try:
            if not self._polled:
                return await anyio.to_thread.run_sync(os.read, self._fd, READ_BYTES, abandon_on_cancel=True)
            await anyio.wait_readable(self._fd)
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

    def __init__(self, fd: int, *, polled: bool = True) -> None:
        """polled: write when the descriptor is ready, instead of in a thread."""
        self._fd, self._polled = fd, polled

    async def write(self, text: str) -> None:
        remaining = memoryview(text.encode())
        while remaining:
            if not self._polled:
                remaining = remaining[await anyio.to_thread.run_sync(os.write, self._fd, remaining) :]
                continue
            if not select.select((), (self._fd,), (), 0)[1]:
                await anyio.wait_writable(self._fd)
            with suppress(BlockingIOError):
                remaining = remaining[os.write(self._fd, remaining[:WRITE_BYTES]) :]


# ---------------------------------------------------------------- message streams


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

    def __init__(self, lines: LineReader, output: MemoryObjectSendStream[str], pending: PendingRequests) -> None:
        self._lines, self._output, self._pending = lines, output, pending

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        async for line in self._lines:
            parsed = parse_message(line)
            if isinstance(parsed, Rejection):
                await self._output.send(parsed.text)
            elif parsed is not None:
                self._pending.received(parsed)
                return SessionMessage(parsed)
        await self._pending.wait()
        raise StopAsyncIteration

    async def receive(self) -> SessionMessage | Exception:
        return await anext(self)


class OutgoingMessages(_Stream):
    """Sends messages, a line each."""

    def __init__(self, output: MemoryObjectSendStream[str], pending: PendingRequests) -> None:
        self._output, self._pending = output, pending

    async def send(self, item: SessionMessage) -> None:
        await self._output.send(item.message.model_dump_json(by_alias=True, exclude_unset=True))
        self._pending.sent(item.message)

    async def aclose(self) -> None:
        await self._output.aclose()
