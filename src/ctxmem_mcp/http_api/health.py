"""Operations routes: liveness, readiness, metrics, the OpenAPI document, OAuth's resource metadata, the card."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ctxmem_mcp import __version__
from ctxmem_mcp.composition import database_principals
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.http_api.auth.oauth import METADATA_PATH
from ctxmem_mcp.http_api.metrics import CONTENT_TYPE
from ctxmem_mcp.mcp_server.identity import CARD_PATH, server_card

if TYPE_CHECKING:
    from starlette.requests import Request

    from ctxmem_mcp.http_api.auth.oauth import ResourceServer
    from ctxmem_mcp.http_api.metrics import Metrics
    from ctxmem_mcp.http_api.tenants import Tenants
    from ctxmem_mcp.settings import Settings

_log = logging.getLogger(__name__)


def routes(
    settings: Settings, tenants: Tenants, metrics: Metrics, resource_server: ResourceServer | None, mcp_path: str
) -> list[Route]:
    """Returns the routes; those of the resource metadata only if there is a `resource_server`.

    mcp_path: the path of the MCP endpoint.
    """

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    async def ready(_: Request) -> Response:
        if not tenants.serving:
            return JSONResponse({"status": "stopping"}, 503)
        if settings.store_url is not None:
            return await _ready_database(settings)
        writable = await asyncio.to_thread(_is_writable, settings.data_dir)
        return JSONResponse(
            {"status": "ready"} if writable else {"status": "data_dir is not writable"}, 200 if writable else 503
        )

    async def prometheus(_: Request) -> Response:
        return PlainTextResponse(metrics.render(__version__, tenants.open_count), media_type=CONTENT_TYPE)

    async def openapi(_: Request) -> Response:
        from ctxmem_mcp.http_api.openapi import DOCUMENT

        return JSONResponse(DOCUMENT)

    async def card(_: Request) -> Response:
        return JSONResponse(server_card(mcp_path), headers={"Access-Control-Allow-Origin": "*"})

    async def resource_metadata(_: Request) -> Response:
        assert resource_server is not None
        return JSONResponse(resource_server.metadata, headers={"Access-Control-Allow-Origin": "*"})

    found = [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", prometheus),
        Route("/openapi.json", openapi),
        Route(CARD_PATH, card),
    ]
    if resource_server is not None:
        found += [
            Route(METADATA_PATH, resource_metadata),
            Route(f"{METADATA_PATH}/{{path:path}}", resource_metadata),
        ]
    return found


async def _ready_database(settings: Settings) -> Response:
    """Responds whether the database can be reached. It does not say why not: anybody may ask."""
    try:
        await database_principals(settings)
    except CtxmemError as error:
        _log.warning("Not ready: %s", error)
        return JSONResponse({"status": "the database can't be reached"}, 503)
    return JSONResponse({"status": "ready"})


def _is_writable(folder: Path) -> bool:
    """Returns whether the folder, or the parent it will be created in, is writable."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
