"""For whoever runs the service: is it alive, can it serve, what does it do, what does it offer."""

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

    from ctxmem_mcp.http_api.auth.oauth import Authority
    from ctxmem_mcp.http_api.metrics import Metrics
    from ctxmem_mcp.http_api.tenants import Rooms
    from ctxmem_mcp.settings import Settings


def routes(settings: Settings, rooms: Rooms, metrics: Metrics, authority: Authority | None) -> list[Route]:
    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    async def ready(_: Request) -> Response:
        if not rooms.serving:
            return JSONResponse({"status": "stopping"}, 503)
        writable = await asyncio.to_thread(_writable, settings.data_dir)
        return JSONResponse(
            {"status": "ready"} if writable else {"status": "data_dir is not writable"}, 200 if writable else 503
        )

    async def figures(_: Request) -> Response:
        return PlainTextResponse(metrics.text(__version__, rooms.open_now), media_type=CONTENT_TYPE)

    async def document(_: Request) -> Response:
        from ctxmem_mcp.http_api.openapi import DOCUMENT

        return JSONResponse(DOCUMENT)

    async def resource(_: Request) -> Response:
        assert authority is not None
        return JSONResponse(authority.metadata, headers={"Access-Control-Allow-Origin": "*"})

    offered = [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", figures),
        Route("/openapi.json", document),
    ]
    if authority is not None:
        offered += [Route(METADATA_PATH, resource), Route(f"{METADATA_PATH}/{{path:path}}", resource)]
    return offered


def _writable(folder: Path) -> bool:
    """Whether the data folder, or the one it will be made in, can be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
