"""The response envelope of Tensorheart's API, and its routes.

{"success": true, "data": ..., "meta": {"request_id": ..., "processing_time_ms": ...}}
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from ctxmem_mcp.errors import NotFound

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


class NoSuchRecord(NotFound):
    """No session or space has this id."""

    def __init__(self, kind: str, record_id: str) -> None:
        super().__init__(f"No {kind} {record_id!r}: it never existed, has expired or was deleted.")


Handler = Callable[["Request"], Awaitable["Response"]]


def method_route(path: str, **handlers: Handler) -> Route:
    """Returns one route for all methods of a path, so that a 405 response lists every allowed method."""

    async def dispatch(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, dispatch, methods=list(handlers))


def enveloped(request: Request, data: object, **fields: Any) -> JSONResponse:
    """Returns a successful response with `data`, and with `fields` beside it."""
    milliseconds = (time.perf_counter() - request.state.started) * 1_000
    meta = {"request_id": request.state.request_id, "processing_time_ms": round(milliseconds, 1)}
    return JSONResponse({"success": True, "data": data, **fields, "meta": meta})
