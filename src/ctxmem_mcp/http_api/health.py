"""Operations routes: liveness, readiness, metrics, the OpenAPI document and OAuth's resource metadata."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ctxmem_mcp import __version__
from ctxmem_mcp.http_api.auth.oauth import METADATA_PATH
from ctxmem_mcp.http_api.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from starlette.requests import Request

    from ctxmem_mcp.http_api.auth.oauth import ResourceServer
    from ctxmem_mcp.http_api.metrics import Metrics
    from ctxmem_mcp.http_api.tenants import Tenants
    from ctxmem_mcp.settings import Settings


def routes(
    settings: Settings, tenants: Tenants, metrics: Metrics, resource_server: ResourceServer | None
) -> list[Route]:
    """Returns the routes; those of the resource metadata only if there is a `resource_server`."""

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    async def ready(_: Request) -> Response:
        if not tenants.serving:
            return JSONResponse({"status": "stopping"}, 503)
        writable = await asyncio.to_thread(_is_writable, settings.data_dir)
        return JSONResponse(
            {"status": "ready"} if writable else {"status": "data_dir is not writable"}, 200 if writable else 503
        )

    async def prometheus(_: Request) -> Response:
        return PlainTextResponse(metrics.render(__version__, tenants.open_count), media_type=CONTENT_TYPE)

    async def openapi(_: Request) -> Response:
        from ctxmem_mcp.http_api.openapi import DOCUMENT

        return JSONResponse(DOCUMENT)

    async def resource_metadata(_: Request) -> Response:
        assert resource_server is not None
        return JSONResponse(resource_server.metadata, headers={"Access-Control-Allow-Origin": "*"})

    found = [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", prometheus),
        Route("/openapi.json", openapi),
    ]
    if resource_server is not None:
        found += [
            Route(METADATA_PATH, resource_metadata),
            Route(f"{METADATA_PATH}/{{path:path}}", resource_metadata),
        ]
    return found


def _is_writable(folder: Path) -> bool:
    """Returns whether the folder, or the parent it will be created in, is writable."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
