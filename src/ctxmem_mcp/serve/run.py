"""Runs the MCP server over stdio, for the host that starts the process, or over streamable HTTP.

Over stdio, standard output carries the protocol and nothing else may be written there; logs always go to stderr.
"""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING, Literal

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.serve.logs import log_to_stderr
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.settings.setting import environment_name

if TYPE_CHECKING:
    from starlette.applications import Starlette

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
        from ctxmem_mcp.serve.stdio import serve_stdio

        serve_stdio(settings)
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


# ---------------------------------------------------------------- http


def _serve_http(settings: Settings, host: str, port: int) -> None:
    from ctxmem_mcp.http_api.net import is_loopback
    from ctxmem_mcp.serve.http import serve_http

    if not is_loopback(host) and not authenticates(settings):
        _log.warning(
            "Serving on %s without authentication: anyone who reaches it can read and forget everything.", host
        )
    app = http_app(settings, host)
    gc.freeze()  # what was imported stays: a full collection that scanned it took 60 ms, in the middle of a view
    serve_http(app, settings, host, port)


def authenticates(settings: Settings) -> bool:
    from ctxmem_mcp.team.stores import is_configured

    return bool(settings.tokens or settings.tokens_file or settings.oauth_issuer) or is_configured(settings)


def _check_host(settings: Settings, host: str, name: str, insecure: bool) -> None:
    from ctxmem_mcp.http_api.net import is_loopback

    if insecure or is_loopback(host):
        return
    otherwise = "serve on 127.0.0.1, or add --insecure if you trust the network."
    if not authenticates(settings):
        raise InvalidArgument(
            name,
            f"{host!r} is reachable from other machines, which requires authentication",
            f"Run `ctxmem-mcp principals add NAME`, or set {environment_name('tokens_file')} or "
            f"{environment_name('oauth_issuer')}, {otherwise}",
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
