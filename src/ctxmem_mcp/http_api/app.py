"""The app: every route there is, behind the guards, over the principals' rooms.

/mcp                                       the MCP server
/v1/memory  /v1/chat/sessions  /v1/spaces  the seed systems' APIs
/v1/chat/completions  /v1/messages ...     the gateway
/health  /ready  /metrics  /openapi.json   for whoever runs it
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route

from ctxmem_mcp.errors import CtxmemError, InvalidArgument
from ctxmem_mcp.http_api import gateway, health, memory_endpoint, sessions, spaces
from ctxmem_mcp.http_api.auth.principals import Principals
from ctxmem_mcp.http_api.deps import Deps
from ctxmem_mcp.http_api.errors import broken, failed, refused
from ctxmem_mcp.http_api.metrics import Metrics
from ctxmem_mcp.http_api.middleware import Addressed, Authenticated, Bounded, Watched
from ctxmem_mcp.http_api.net import is_loopback
from ctxmem_mcp.http_api.rate_limit import Rates
from ctxmem_mcp.http_api.tenants import Rooms

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ctxmem_mcp.settings import Settings

MCP_PATH = "/mcp"
# Of one principal, where principals are told apart and the settings say nothing else.
REQUESTS_PER_MINUTE = 600
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def app(settings: Settings, host: str) -> Starlette:
    """The ASGI application, bound to `host`. Raises InvalidArgument for tokens or OAuth that can't be understood."""
    principals, metrics = Principals.of(settings), Metrics()
    rooms = Rooms(settings, principals.open)
    deps = Deps(settings, rooms.memory_for, principal_of, rooms.folder_of)
    rate = settings.http_requests_per_minute or (None if principals.open else REQUESTS_PER_MINUTE)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with rooms:
            try:
                yield
            finally:
                await deps.ended()

    return Starlette(
        routes=[
            Route(MCP_PATH, _Mcp(rooms)),
            *memory_endpoint.routes(deps),
            *sessions.routes(deps),
            *spaces.routes(deps),
            *gateway.build_routes(deps),
            *health.routes(settings, rooms, metrics, principals.authority),
        ],
        middleware=[
            Middleware(Watched, metrics),
            Middleware(Addressed, hosts_of(settings, host), metrics),
            Middleware(Authenticated, principals, rooms, Rates(rate), metrics),
            Middleware(Bounded, settings.http_body_bytes, settings.http_seconds),
        ],
        exception_handlers={CtxmemError: failed, HTTPException: refused, Exception: broken},
        lifespan=lifespan,
    )


def principal_of(request: Request) -> str:
    """Whose request it is; put there by the guard, without which no route is reached."""
    principal = request.state.principal
    assert isinstance(principal, str)
    return principal


def hosts_of(settings: Settings, host: str) -> list[str]:
    """The names this server answers to; none: to any, which only an insecure bind does."""
    named = [name.strip().lower().strip("[]") for name in (settings.allowed_hosts or "").split(",")]
    if "*" in named or any(set(name) & set("/ \t:") and name.count(":") < 2 for name in named):
        raise InvalidArgument("CTXMEM_ALLOWED_HOSTS", "takes names without port, with commas between", "")
    named = [name for name in named if name]
    if is_loopback(host):
        return sorted({*named, *LOOPBACK, host.lower().strip("[]")})
    return named


class _Mcp:
    """Each principal's MCP server at one path. A class, so that Starlette takes it for an ASGI app: GET, POST and
    DELETE are the SDK's to answer."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        room = await self._rooms.room(principal_of(Request(scope)))
        await (await room.mcp()).handle_request(scope, receive, send)
