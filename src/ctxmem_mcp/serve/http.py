"""Runs the HTTP service's application on a socket, with limits for connections that send no request."""

from __future__ import annotations

import functools
import logging
import math
import sys
from collections.abc import Callable
from socket import IPPROTO_TCP, socket
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from ctxmem_mcp.http_api.connections import BACKLOG, LimitedProtocol, WaitingConnections
from ctxmem_mcp.serve.logs import report_omitted

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from ctxmem_mcp.settings import Settings

# How many connections the kernel queues until they are accepted.
QUEUED = 2_048
# How many files a process may have open if the system does not say.
_FILES_MAX = 1_024

_log = logging.getLogger(__name__)


def serve_http(
    app: Starlette, settings: Settings, host: str, port: int, on_listen: Callable[[str], None] | None = None
) -> None:
    """Serves until the process is stopped by a signal.

    Args:
        app: The application.
        settings: The server's settings.
        host: The address to listen on.
        port: The port to listen on; 0 for a free one.
        on_listen: Called with the service's URL as soon as connections are accepted. Default: logs it.
    """
    waiting = WaitingConnections(
        settings.http_connections_per_address, _open_files_max() // 2, settings.http_head_seconds
    )
    server = _Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=cast("Any", functools.partial(LimitedProtocol, waiting)),
            ws="none",
            backlog=BACKLOG,
            log_config=None,
            access_log=False,
            server_header=False,
            # The limit above closes idle connections. After uvicorn's own, 5 seconds, many clients give an idle one up
            # too: a request that is sent at that moment is lost.
            timeout_keep_alive=math.ceil(settings.http_head_seconds) + 1,
            timeout_graceful_shutdown=settings.http_shutdown_seconds,
        )
    )
    listening = as_tcp(server.config.bind_socket())
    listening.listen(QUEUED)  # clients that connect from now on wait until the service has started
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    (on_listen or _log_url)(url)
    server.run(sockets=[listening])


def as_tcp(bound: socket) -> socket:
    """Returns a bound socket as one that is known to be TCP.

    asyncio sets TCP_NODELAY only then. Without it, the kernel holds back the body of each response on a kept connection
    until the client acknowledges its head, which takes 40 ms. uvicorn leaves the protocol open.
    """
    return socket(bound.family, bound.type, IPPROTO_TCP, bound.detach())


def _log_url(url: str) -> None:
    _log.info("Serving MCP at %s/mcp", url)


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        # asyncio uses the backlog for two things: how many it accepts at a time, and how many the kernel queues.
        for listening in sockets or ():
            listening.listen(QUEUED)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        await super().shutdown(sockets)
        report_omitted()  # uvicorn then ends the process by the signal that stopped it


def _open_files_max() -> int:
    if sys.platform == "win32":
        return _FILES_MAX
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _FILES_MAX if soft == resource.RLIM_INFINITY else soft
