"""The ASGI application: all routes, behind the middleware.

/mcp                                       the MCP server
/v1/memory  /v1/chat/sessions  /v1/spaces  the APIs of NanoGPT and Tensorheart
/v1/chat/completions  /v1/responses ...    the gateway
/spaces                                    shared spaces; below /spaces/NAME, all of this in one
/ui/                                       the page that shows the memory in a browser
/health  /ready  /metrics  /openapi.json   for operators
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from ctxmem_mcp.composition import database_salt
from ctxmem_mcp.errors import CtxmemError, InvalidArgument
from ctxmem_mcp.http_api import gateway, health, memory_endpoint, page, sessions, shared_spaces, spaces
from ctxmem_mcp.http_api.auth.access import AccessControl
from ctxmem_mcp.http_api.auth.principals import Principals
from ctxmem_mcp.http_api.concurrency import ConcurrencyLimiter
from ctxmem_mcp.http_api.deps import DEFAULT_PRINCIPAL, Deps, access_of
from ctxmem_mcp.http_api.errors import exception_handlers
from ctxmem_mcp.http_api.mcp_endpoint import McpEndpoint
from ctxmem_mcp.http_api.metrics import Metrics
from ctxmem_mcp.http_api.middleware import (
    AuthenticationMiddleware,
    HostOriginMiddleware,
    LimitsMiddleware,
    PathPrefixMiddleware,
    RequestLogMiddleware,
)
from ctxmem_mcp.http_api.net import LOOPBACK, is_loopback
from ctxmem_mcp.http_api.page.access import PageAccess, PagePrincipals
from ctxmem_mcp.http_api.rate_limit import RateLimiter
from ctxmem_mcp.http_api.request_queue import QueueMiddleware
from ctxmem_mcp.http_api.tenants import Tenants
from ctxmem_mcp.http_api.warm_up import warm_up
from ctxmem_mcp.team.stores import open_team

if TYPE_CHECKING:
    from ctxmem_mcp.settings import Settings

_log = logging.getLogger(__name__)

MCP_PATH = "/mcp"
# Default rate limit per principal. Without authentication there is none.
REQUESTS_PER_MINUTE = 600


def build_app(settings: Settings, host: str, page_key: str | None = None) -> Starlette:
    """Returns the ASGI application of a server bound to `host`.

    Args:
        settings: The server's settings.
        host: The address that it is bound to.
        page_key: Only the page that is opened with this key may use the server. It works once.

    Raises:
        InvalidArgument: the tokens, the OAuth settings or the allowed hosts are invalid.
    """
    access, metrics = PageAccess(page_key), Metrics()
    principals = PagePrincipals(access, open_team(settings)) if page_key else Principals.from_settings(settings)
    control = AccessControl(principals.team, settings)
    tenants = Tenants(settings, principals.open_to_all)
    deps = Deps(settings, tenants.memory_for, access_of, tenants.records_of, tenants.folder_of)
    limiter = ConcurrencyLimiter(settings.http_concurrent_requests)
    rate = settings.http_requests_per_minute or (None if principals.open_to_all else REQUESTS_PER_MINUTE)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await warm_up(settings)
        if settings.store_url is not None:
            await _share_page_token(settings, access)
        async with tenants:
            try:
                yield
            finally:
                await deps.shut_down()
                await tenants.close_records()
                await principals.team.close()

    return Starlette(
        routes=[
            Route(MCP_PATH, McpEndpoint(tenants)),
            *memory_endpoint.routes(deps),
            *sessions.routes(deps),
            *spaces.routes(deps),
            *shared_spaces.routes(deps, principals.team),
            *page.build_routes(deps, access),
            *gateway.build_routes(deps),
            *health.routes(settings, tenants, metrics, principals.resource_server, MCP_PATH),
        ],
        middleware=[
            Middleware(PathPrefixMiddleware),
            Middleware(RequestLogMiddleware, metrics),
            Middleware(HostOriginMiddleware, allowed_hosts_of(settings, host), metrics),
            Middleware(AuthenticationMiddleware, principals, control, tenants, RateLimiter(rate), limiter, metrics),
            Middleware(LimitsMiddleware, settings.http_body_bytes, settings.http_seconds),
            Middleware(QueueMiddleware),
        ],
        exception_handlers=exception_handlers(),
        lifespan=lifespan,
    )


async def _share_page_token(settings: Settings, access: PageAccess) -> None:
    try:
        access.share(await database_salt(settings, DEFAULT_PRINCIPAL))
    except CtxmemError as error:  # requests report it
        _log.warning("The page's changes work on this server only: %s", error)


def allowed_hosts_of(settings: Settings, host: str) -> list[str]:
    """Returns the allowed Host names. An empty list allows all; only `--insecure` leads to one.

    Raises:
        InvalidArgument: CTXMEM_ALLOWED_HOSTS has a wildcard, a port or a URL.
    """
    names = [name.strip().lower().strip("[]") for name in (settings.allowed_hosts or "").split(",")]
    if "*" in names or any(set(name) & set("/ \t:") and name.count(":") < 2 for name in names):
        rule = "must be host names or addresses without port, separated by commas"
        raise InvalidArgument("CTXMEM_ALLOWED_HOSTS", rule, "For example: memory.example.com.")
    names = [name for name in names if name]
    if is_loopback(host):
        return sorted({*names, *LOOPBACK, host.lower().strip("[]")})
    return names
