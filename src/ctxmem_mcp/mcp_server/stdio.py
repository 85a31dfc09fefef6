"""Standard input and output as the wire of an MCP server, read and written from the event loop itself.

The SDK's stdio transport takes files in place of its own. Its own cross to a worker thread three times a message (read,
write, flush), which together takes longer than storing a turn. Pipes and sockets, by which hosts connect us, can be
asked whether they are ready instead; for anything else, and on Windows, the SDK's own files stay.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

import anyio

if TYPE_CHECKING:
    File = anyio.AsyncFile[str]

READ_BYTES = 1 << 16
# What is said to be ready takes this much at once without waiting for whoever reads.
WRITE_BYTES = getattr(select, "PIPE_BUF", 512)


@contextmanager
def wire() -> Iterator[tuple[File, File] | tuple[None, None]]:
    """The two files for the SDK's transport; (None, None) where its own have to do.

    Meanwhile descriptor 0 is at its end and descriptor 1 leads to stderr, so that nothing else reads or writes here.
    """
    if sys.platform == "win32" or not (_can_wait(0) and _can_wait(1)):
        yield None, None
        return
    incoming, outgoing, nothing = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    try:
        # The SDK iterates over the one and calls write and flush of the other.
        yield cast("File", Lines(incoming)), cast("File", Output(outgoing))
    finally:
        for kept, fd in ((incoming, 0), (outgoing, 1)):
            os.dup2(kept, fd)
            os.close(kept)


def _can_wait(fd: int) -> bool:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class Lines:
    """The lines that come in, as text."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._whole: list[bytes] = []  # the next one last
        self._begun: list[bytes] = []
        self._ended = False

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> str:
        while not self._whole:
            if self._ended:
                raise StopAsyncIteration
            await anyio.wait_readable(self._fd)
            with suppress(BlockingIOError):
                self._take(self._read())
        return self._whole.pop().decode("utf-8", "replace")

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, READ_BYTES)
        except ConnectionError:  # the host is gone
            return b""

    def _take(self, read: bytes) -> None:
        *whole, rest = read.split(b"\n")
        self._ended = not read
        if whole or self._ended:
            whole = [b"".join([*self._begun, *whole[:1]]), *whole[1:]]
            self._whole = [line for line in reversed(whole) if line]
            self._begun.clear()
        self._begun.append(rest)


class Output:
    """Where messages go out."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def write(self, text: str) -> None:
        left = memoryview(text.encode())
        while left:
            if not select.select((), (self._fd,), (), 0)[1]:
                await anyio.wait_writable(self._fd)
            with suppress(BlockingIOError):
                left = left[os.write(self._fd, left[:WRITE_BYTES]) :]

    async def flush(self) -> None:
        """Nothing is held back."""
