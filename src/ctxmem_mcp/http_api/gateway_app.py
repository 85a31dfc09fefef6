"""The gateway alone as an ASGI application, for one user on this machine: `ctxmem-mcp wrap` runs it beside an agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.http_api import gateway
from ctxmem_mcp.http_api.deps import DEFAULT_PRINCIPAL, Deps, RequestUsage, own_access
from ctxmem_mcp.http_api.errors import exception_handlers
from ctxmem_mcp.http_api.metrics import Metrics
from ctxmem_mcp.http_api.middleware import (
    HostOriginMiddleware,
    LimitsMiddleware,
    PathPrefixMiddleware,
    RequestLogMiddleware,
)
from ctxmem_mcp.http_api.net import LOOPBACK
from ctxmem_mcp.mcp_server.lazy_memory import LazyMemory
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.record_stores import open_record_store
from ctxmem_mcp.settings import Settings


def build_gateway_app(settings: Settings, on_usage: Callable[[RequestUsage], None], run: str = "") -> Starlette:
    """Returns the application of a server on a loopback address. There is one principal, and no authentication.

    Args:
        settings: the server's settings.
        on_usage: called with the usage of each request that was stored.
        run: the id of the run of `ctxmem-mcp wrap`; empty if there is none.
    """
    memory, metrics = LazyMemory(lambda: open_memory(settings), idle_seconds=0), Metrics()

    async def memory_for(_: str) -> Memory:
        return await memory.get()

    records = open_record_store(settings, DEFAULT_PRINCIPAL)
    deps = Deps(
        settings, memory_for, own_access, lambda _: records, lambda _: settings.data_dir, on_usage=on_usage, run=run
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with memory:
            try:
                yield
            finally:
                await deps.shut_down()
                await records.close()

    return Starlette(
        routes=gateway.build_routes(deps),
        middleware=[
            Middleware(PathPrefixMiddleware),
            Middleware(RequestLogMiddleware, metrics),
            Middleware(HostOriginMiddleware, LOOPBACK, metrics),
            Middleware(LimitsMiddleware, settings.http_body_bytes, settings.http_seconds),
        ],
        exception_handlers=exception_handlers(),
        lifespan=lifespan,
    )
