"""Serves MCP over stdio in two steps, so that an agent that starts the server and never calls it pays little.

1. A loop without asyncio responds to the requests with which a client starts (see `static_responses`).
2. At the first other message, or after some seconds, the event loop starts. It opens the memory, which stores the
   events of agents' hooks and sweeps, and it still responds without the SDK, until the first other message. The SDK's
   server takes over there: it is sent what brings it into the state of the connection, then that message.
"""

from __future__ import annotations

import gc
import io
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ctxmem_mcp.mcp_server.static_responses import StaticResponder
from ctxmem_mcp.mcp_server.stdio_lines import LineBuffer, can_be_polled, read_available, write_available

if TYPE_CHECKING:
    from ctxmem_mcp.mcp_server.lazy_memory import LazyMemory
    from ctxmem_mcp.mcp_server.stdio_lines import LineReader, Output
    from ctxmem_mcp.settings import Settings

# A server that is never called opens its memory after this long, so that hooks' events are stored even then.
IDLE_SECONDS = 5.0
# How long the end may take: a host that has closed stdin may be waiting for it.
CATCH_UP_SECONDS = 8.0

_log = logging.getLogger(__name__)


def serve_stdio(settings: Settings) -> None:
    """Serves until stdin ends."""
    # SIGINT may kill the process at once: what was acknowledged is on disk, and a thread blocked on stdin would keep
    # the process alive until its host closes stdin.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    connection = _Connection(IDLE_SECONDS)
    try:
        if connection.respond():
            _serve_with_memory(settings, connection)
    except ConnectionError:  # includes a broken pipe
        _log.info("The host has closed the connection; exiting.")
    finally:
        # Until the process ends, anything printed goes to stderr rather than after our last message.
        os.dup2(2, 1)


class _Connection:
    """Stdin and stdout before the event loop runs."""

    def __init__(self, idle_seconds: float) -> None:
        """idle_seconds: after this long the memory is opened, whatever the client sends."""
        self.responder = StaticResponder()
        self.lines = LineBuffer()
        self.unwritten = b""
        self._until = time.monotonic() + idle_seconds

    @property
    def idle_seconds(self) -> float:
        """The rest of that time."""
        return max(0.0, self._until - time.monotonic())

    def respond(self) -> bool:
        """Responds until the memory is to be opened, a message is the SDK's to handle, or the host reads nothing.

        Returns:
            Whether the connection goes on: stdin has not ended, or there is a message to respond to.
        """
        if not (can_be_polled(0) and can_be_polled(1)):
            return True
        while not self.lines.ended:
            if not select.select((0,), (), (), self.idle_seconds)[0]:
                return True
            self.lines.feed(read_available(0))
            while (line := self.lines.pop()) is not None:
                response = self.responder.respond(line)
                if response is None:
                    self.lines.put_back([line])
                    return True
                self.unwritten += response
            self.unwritten = self.unwritten[write_available(1, self.unwritten) :]
            if self.unwritten:
                return True
        return False


def _serve_with_memory(settings: Settings, connection: _Connection) -> None:
    import anyio

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        anyio.run(_serve, settings, connection)
    except* ConnectionError as errors:
        raise ConnectionError from errors


async def _serve(settings: Settings, connection: _Connection) -> None:
    from ctxmem_mcp.composition import open_memory
    from ctxmem_mcp.mcp_server.lazy_memory import LazyMemory
    from ctxmem_mcp.mcp_server.stdio_lines import connect_lines

    responder = connection.responder
    async with connect_lines(connection.lines, connection.unwritten) as (lines, output):
        try:
            async with LazyMemory(lambda: open_memory(settings), connection.idle_seconds) as memory:
                if await _respond(responder, lines, connection.lines, output):
                    await _serve_with_sdk(memory, responder, lines, output)
                if memory.is_open:
                    await _catch_up(memory, settings)
        finally:
            # While serving, file descriptor 1 is stderr; text that was printed and not yet flushed goes there.
            sys.stdout.flush()


async def _respond(responder: StaticResponder, lines: LineReader, buffer: LineBuffer, output: Output) -> bool:
    """Responds until a message is the SDK's, which becomes the next line after the replayed ones; False at the end."""
    async for line in lines:
        response = responder.respond(line)
        if response is None:
            buffer.put_back([*responder.replay, line])
            return True
        await output.send(response)
    return False


async def _serve_with_sdk(memory: LazyMemory, responder: StaticResponder, lines: LineReader, output: Output) -> None:
    with _without_gc():
        from ctxmem_mcp.mcp_server import server, stdio
    incoming, outgoing = stdio.message_streams(lines, output, responder.replay_ids)
    await server.run_server(server.build_server(memory, folder=_working_directory()), incoming, outgoing)


async def _catch_up(memory: LazyMemory, settings: Settings) -> None:
    """Stores the last rows of the agent's transcript: it may have been killed, and then sends no event."""
    import anyio

    from ctxmem_mcp.capture.catch_up import catch_up

    try:
        with anyio.move_on_after(CATCH_UP_SECONDS):
            await catch_up(await memory.get(), settings.data_dir)
    except Exception as error:
        _log.warning("The last rows of transcripts could not be stored: %s", error)


@contextmanager
def _without_gc() -> Iterator[None]:
    """Imports without the garbage collector, which would scan the SDK's many models over and over: a fifth of a start.

    What was imported stays until the process ends, so it is frozen: later collections skip it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _working_directory() -> str | None:
    """The folder of the agent that started the process; None if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None
