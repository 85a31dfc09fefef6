"""Standard input and output as lines of bytes. Loads neither the SDK nor pydantic.

Pipes and sockets, which hosts use, are read and written from the event loop. The SDK's own files cross to a worker
thread three times per message (read, write, flush), which takes longer than storing a turn. Only other files, and those
on Windows, are read and written in a thread.
"""

from __future__ import annotations

import math
import os
import select
import stat
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    Output = MemoryObjectSendStream[bytes]

READ_BYTES = 1 << 16
# A descriptor that is ready for writing takes this many bytes without blocking.
WRITE_BYTES = getattr(select, "PIPE_BUF", 512)

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"


def strip_bom(data: bytes) -> bytes:
    """The data without white space around it and byte order marks before it: PowerShell writes one, or two."""
    data = data.strip(_BLANK)
    while data.startswith(_BOM):
        data = data[len(_BOM) :].lstrip(_BLANK)
    return data


@asynccontextmanager
async def connect_lines(buffer: LineBuffer, unwritten: bytes) -> AsyncIterator[tuple[LineReader, Output]]:
    """The lines of this process's stdin, and a stream whose items are written to its stdout.

    Args:
        buffer: What was read from stdin before.
        unwritten: What is to be written first.
    """
    import anyio

    with private_descriptors() as (stdin, stdout):
        writer = LineWriter(stdout, polled=can_be_polled(stdout))
        # Unbounded: while the host reads nothing, requests are still read, so that it can't be blocked by us.
        output, queue = anyio.create_memory_object_stream[bytes](math.inf)
        output.send_nowait(unwritten)
        async with anyio.create_task_group() as tasks, output:
            # A task of its own: a request that is cancelled while its response is written must not leave half a line.
            tasks.start_soon(_write_all, writer, queue)
            yield LineReader(stdin, polled=can_be_polled(stdin), buffer=buffer), output


async def _write_all(writer: LineWriter, queue: MemoryObjectReceiveStream[bytes]) -> None:
    async with queue:
        async for data in queue:
            await writer.write(data)


# ---------------------------------------------------------------- files


@contextmanager
def private_descriptors() -> Iterator[tuple[int, int]]:
    """Duplicates of file descriptors 0 and 1.

    Inside the block file descriptor 0 is empty and 1 is stderr, so that nothing else reads or writes the protocol.
    """
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
            if can_be_polled(private):
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


def can_be_polled(fd: int) -> bool:
    """Whether it can be waited for until the descriptor is ready. False for a closed one."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return sys.platform != "win32" and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


def read_available(fd: int) -> bytes:
    """Reads what a ready descriptor has; b"" at its end, or if the host has exited."""
    try:
        return os.read(fd, READ_BYTES)
    except ConnectionError:
        return b""


class LineBuffer:
    """Splits bytes into lines, without the empty ones."""

    def __init__(self) -> None:
        self._complete: list[bytes] = []  # the next one last
        self._partial: list[bytes] = []
        self.ended = False

    def feed(self, read: bytes) -> None:
        """Adds what was read next; b"" ends the input."""
        *complete, rest = read.split(b"\n")
        self.ended = not read
        if complete or self.ended:
            complete = [b"".join([*self._partial, *complete[:1]]), *complete[1:]]
            self._complete[:0] = [line for line in reversed(complete) if line]
            self._partial.clear()
        self._partial.append(rest)

    def pop(self) -> bytes | None:
        """The next line; None if none is complete."""
        return self._complete.pop() if self._complete else None

    def put_back(self, lines: Iterable[bytes]) -> None:
        """Makes these the next lines."""
        self._complete.extend(reversed(list(lines)))


class LineReader:
    """The lines read from a file descriptor, without the empty ones."""

    def __init__(self, fd: int, *, polled: bool = True, buffer: LineBuffer | None = None) -> None:
        """Creates a reader.

        Args:
            fd: The file descriptor.
            polled: Read when the descriptor is ready, instead of in a thread.
            buffer: What was read from it before.
        """
        self._fd, self._polled = fd, polled
        self._buffer = buffer or LineBuffer()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while (line := self._buffer.pop()) is None:
            if self._buffer.ended:
                raise StopAsyncIteration
            with suppress(BlockingIOError):
                self._buffer.feed(await self._read())
        return line

    async def _read(self) -> bytes:
        import anyio
        import anyio.to_thread

        if not self._polled:
            return await anyio.to_thread.run_sync(read_available, self._fd, abandon_on_cancel=True)
        await anyio.wait_readable(self._fd)
        return read_available(self._fd)


class LineWriter:
    """Writes bytes to a file descriptor; nothing is buffered."""

    def __init__(self, fd: int, *, polled: bool = True) -> None:
        """polled: write when the descriptor is ready, instead of in a thread."""
        self._fd, self._polled = fd, polled

    async def write(self, data: bytes) -> None:
        import anyio
        import anyio.to_thread

        remaining = memoryview(data)
        while remaining:
            if not self._polled:
                remaining = remaining[await anyio.to_thread.run_sync(os.write, self._fd, remaining) :]
                continue
            remaining = remaining[write_available(self._fd, remaining) :]
            if remaining and not is_writable(self._fd):
                await anyio.wait_writable(self._fd)


def is_writable(fd: int) -> bool:
    return bool(select.select((), (fd,), (), 0)[1])


def write_available(fd: int, data: bytes | memoryview) -> int:
    """Writes as much as a descriptor accepts without blocking. Returns how many bytes that are."""
    written = 0
    with suppress(BlockingIOError):
        while written < len(data) and is_writable(fd):
            written += os.write(fd, data[written : written + WRITE_BYTES])
    return written
