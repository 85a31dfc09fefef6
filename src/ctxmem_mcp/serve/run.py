"""Runs the MCP server on a transport: stdio for a host that starts us, streamable HTTP for those that connect.

Under stdio, standard output is the wire and nothing else may write there; logging goes to stderr, always.
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
from ctxmem_mcp.settings import Settings, environment_name

if TYPE_CHECKING:
    from mcp.server import Server
    from starlette.applications import Starlette

    from ctxmem_mcp.mcp_server.lazy_memory import Opened

Transport = Literal["stdio", "http"]

_log = logging.getLogger(__name__)


def serve(
    settings: Settings,
    transport: Transport = "stdio",
    host: str | None = None,
    port: int | None = None,
    insecure: bool = False,
) -> None:
    """Serves until stdin ends (stdio) or the process is told to stop (http). host and port: those of the settings.

    Raises InvalidArgument for a bind that others could reach, unless insecure.
    """
    if transport == "stdio":
        log_to_stderr(settings)
        _serve_stdio(settings)
    elif transport == "http":
        host = settings.http_host if host is None else host
        _check_bind(settings, host, insecure)
        log_to_stderr(settings)
        _serve_http(settings, host, settings.http_port if port is None else port)
    else:
        raise InvalidArgument("transport", f"is {transport!r}; takes stdio or http", "Leave it out for stdio.")


def log_to_stderr(settings: Settings) -> None:
    """Our own messages at the level asked for; what libraries say only where it matters, or when debugging."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    level = settings.log_level.upper()
    logging.basicConfig(
        level=level if level == "DEBUG" else "WARNING",
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    logging.getLogger("ctxmem_mcp").setLevel(level)


@contextmanager
def _importing() -> Iterator[None]:
    """Imports without the garbage collector, which would go through the SDK's many models again and again: a fifth
    of a start. What is there afterwards stays to the end, so later collections need not look at it either."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


# ---------------------------------------------------------------- stdio


def _serve_stdio(settings: Settings) -> None:
    with _importing():
        import anyio

        import ctxmem_mcp.mcp_server.server

    # A stop asked for by signal needs no goodbye: what was acknowledged is on disk, and a reader that waits on
    # stdin would keep the process until its host closes it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        opener = functools.partial(open_memory, settings)
        anyio.run(_stdio, ctxmem_mcp.mcp_server.server.build_server(opener, folder=_folder()))
    except* ConnectionError:  # a broken pipe is one
        _log.info("Nobody reads what is answered any more; this ends.")
    finally:
        _divert_stdout()


def _folder() -> str | None:
    """Where the agent that started us works."""
    try:
        return os.getcwd()
    except OSError:  # removed meanwhile
        return None


async def _stdio(server: Server[Opened]) -> None:
    from mcp.server import NotificationOptions
    from mcp.server.stdio import stdio_server

    from ctxmem_mcp.mcp_server.stdio import wire
    from ctxmem_mcp.mcp_server.stdio_finishing import Unanswered
    from ctxmem_mcp.mcp_server.stdio_unreadable import Answered

    options = server.create_initialization_options(NotificationOptions(resources_changed=True))
    with wire() as files:
        async with stdio_server(*files) as (incoming, outgoing):
            try:
                asked = Unanswered(Answered(incoming, outgoing), outgoing)
                await server.run(asked.incoming, asked.outgoing, options)
            finally:
                # While serving, descriptor 1 leads to stderr; what was printed and not yet written goes there.
                sys.stdout.flush()


def _divert_stdout() -> None:
    """From here to the end of the process, what anybody prints goes to stderr and not after our last message."""
    os.dup2(2, 1)


# ---------------------------------------------------------------- http


def _serve_http(settings: Settings, host: str, port: int) -> None:
    import uvicorn

    from ctxmem_mcp.http_api.net import is_loopback

    if not is_loopback(host) and not authenticates(settings):
        _log.warning("Serving on %s without authentication: whoever reaches it reads and forgets everything.", host)
    server = uvicorn.Server(
        uvicorn.Config(
            http_app(settings, host),
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=settings.http_shutdown_seconds,
        )
    )
    listening = server.config.bind_socket()
    bound = listening.getsockname()[1]
    _log.info("Serving MCP at http://%s:%d/mcp", f"[{host}]" if ":" in host else host, bound)
    server.run(sockets=[listening])


def authenticates(settings: Settings) -> bool:
    return bool(settings.tokens or settings.tokens_file or settings.oauth_issuer)


def _check_bind(settings: Settings, host: str, insecure: bool) -> None:
    from ctxmem_mcp.http_api.net import is_loopback

    if insecure or is_loopback(host):
        return
    local = f"serve on 127.0.0.1 (--host, {environment_name('http_host')}), or say --insecure if the network is yours."
    reached = f"{host!r} can be reached from other machines, and"
    if not authenticates(settings):
        remedy = f"Set {environment_name('tokens_file')} or {environment_name('oauth_issuer')}; {local}"
        raise InvalidArgument("host", f"{reached} there is no authentication", remedy)
    if not settings.allowed_hosts:
        remedy = f"Set {environment_name('allowed_hosts')} to the names it is reached by; {local}"
        raise InvalidArgument("host", f"{reached} no allowed hosts are named", remedy)


def http_app(settings: Settings, host: str) -> Starlette:
    """The ASGI application: MCP, the seed systems' APIs and what an operator needs, for a server bound to `host`."""
    from ctxmem_mcp.http_api.app import build_app

    return build_app(settings, host)
