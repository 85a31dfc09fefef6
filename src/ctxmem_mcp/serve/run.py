"""Runs the MCP server over stdio, for the host that starts the process, or over streamable HTTP.

Over stdio, standard output carries the protocol and nothing else may be written there; logs always go to stderr.
"""

from __future__ import annotations

import functools
import gc
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.serve.logs import log_to_stderr
from ctxmem_mcp.settings import Settings, environment_name

if TYPE_CHECKING:
    from mcp.server import Server
    from starlette.applications import Starlette

    from ctxmem_mcp.mcp_server.lazy_memory import LazyMemory

Transport = Literal["stdio", "http"]

_log = logging.getLogger(__name__)


def serve(
    settings: Settings,
    transport: Transport = "stdio",
    host: str | None = None,
    port: int | None = None,
    insecure: bool = False,
) -> None:
    """Serves until stdin ends (stdio) or the process is stopped by a signal (http).

    Args:
        host, port: default: those of the settings.
        insecure: allow a host that other machines can reach without authentication or allowed hosts.

    Raises:
        InvalidArgument: the transport is unknown, or the host is reachable and `insecure` is not set.
    """
    if transport == "stdio":
        log_to_stderr(settings)
        _serve_stdio(settings)
    elif transport == "http":
        host_name = settings.spelling("http_host") if host is None else "host"
        host = settings.http_host if host is None else host
        _check_host(settings, host, host_name, insecure)
        log_to_stderr(settings)
        _serve_http(settings, host, settings.http_port if port is None else port)
    else:
        raise InvalidArgument(
            "transport", f"must be one of stdio, http; got {transport!r}", "Leave it out to serve over stdio."
        )


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


# ---------------------------------------------------------------- stdio


def _serve_stdio(settings: Settings) -> None:
    with _without_gc():
        import anyio

        import ctxmem_mcp.mcp_server.server

    # SIGINT may kill the process at once: what was acknowledged is on disk, and a thread blocked on stdin would keep
    # the process alive until its host closes stdin.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        opener = functools.partial(open_memory, settings)
        anyio.run(_run_stdio, ctxmem_mcp.mcp_server.server.build_server(opener, folder=_working_directory()))
    except* ConnectionError:  # includes a broken pipe
        _log.info("The host has closed the connection; exiting.")
    finally:
        # Until the process ends, anything printed goes to stderr rather than after our last message.
        os.dup2(2, 1)


def _working_directory() -> str | None:
    """The folder of the agent that started the process; None if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


async def _run_stdio(server: Server[LazyMemory]) -> None:
    from mcp.server import NotificationOptions

    from ctxmem_mcp.mcp_server.stdio import connect_stdio

    options = server.create_initialization_options(NotificationOptions(resources_changed=True))
    async with connect_stdio() as (incoming, outgoing):
        try:
            await server.run(incoming, outgoing, options)
        finally:
            # While serving, file descriptor 1 is stderr; text that was printed and not yet flushed goes there.
            sys.stdout.flush()


# ---------------------------------------------------------------- http


def _serve_http(settings: Settings, host: str, port: int) -> None:
    from ctxmem_mcp.http_api.net import is_loopback
    from ctxmem_mcp.serve.http import serve_http

    if not is_loopback(host) and not authenticates(settings):
        _log.warning(
            "Serving on %s without authentication: anyone who reaches it can read and forget everything.", host
        )
    serve_http(http_app(settings, host), settings, host, port)


def authenticates(settings: Settings) -> bool:
    return bool(settings.tokens or settings.tokens_file or settings.oauth_issuer)


def _check_host(settings: Settings, host: str, name: str, insecure: bool) -> None:
    from ctxmem_mcp.http_api.net import is_loopback

    if insecure or is_loopback(host):
        return
    otherwise = "serve on 127.0.0.1, or add --insecure if you trust the network."
    if not authenticates(settings):
        raise InvalidArgument(
            name,
            f"{host!r} is reachable from other machines, which requires authentication",
            f"Set {environment_name('tokens_file')} or {environment_name('oauth_issuer')}, {otherwise}",
        )
    if not settings.allowed_hosts:
        raise InvalidArgument(
            name,
            f"{host!r} is reachable from other machines, which requires allowed hosts",
            f"Set {environment_name('allowed_hosts')} to the names that clients use, {otherwise}",
        )


def http_app(settings: Settings, host: str) -> Starlette:
    """The ASGI application of a server bound to `host`: MCP, the HTTP APIs, the gateway, health and metrics."""
    from ctxmem_mcp.http_api.app import build_app

    return build_app(settings, host)
