"""Tensorheart's envelope: {"success": true, "data": ..., "meta": {"request_id", "processing_time_ms"}}, and reading
what comes in it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from ctxmem_mcp.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

LISTED_DEFAULT, LISTED_MAX = 50, 200
OFFSET_MAX = 10**9


class NoSuchRecord(NotFound):
    def __init__(self, kind: str, record_id: str) -> None:
        super().__init__(f"No {kind} {record_id!r}: it never existed, has expired or was deleted.")


Does = Callable[["Request"], Awaitable["Response"]]


def at(path: str, **does: Does) -> Route:
    """One route for all that is done at a path, so that a refused method is told of every other."""

    async def by_method(request: Request) -> Response:
        return await does["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, by_method, methods=list(does))


def enveloped(request: Request, data: object, **more: Any) -> JSONResponse:
    took = (time.perf_counter() - request.state.begun) * 1_000
    meta = {"request_id": request.state.request_id, "processing_time_ms": round(took, 1)}
    return JSONResponse({"success": True, "data": data, **more, "meta": meta})


def text(body: dict[str, Any], name: str, most: int, *, least: int = 0) -> str | None:
    """A text field, None where it is absent or null. Raises InvalidArgument."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise InvalidArgument(name, f"takes text of {least} to {most} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(name, "holds half of a surrogate pair, which is not valid Unicode") from None
    return value


def required(body: dict[str, Any], name: str, most: int, *, least: int = 0) -> str:
    value = text(body, name, most, least=least)
    if value is None:
        raise InvalidArgument(name, "is required")
    return value


def whole(value: object, name: str, low: int, high: int) -> int:
    """A whole number, or its digits. Raises InvalidArgument."""
    number = value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12:
        number = int(value)
    if isinstance(value, float) and value.is_integer():
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise InvalidArgument(name, f"takes a whole number from {low} to {high}")
    return number


def only(body: dict[str, Any], *names: str) -> None:
    """Raises InvalidArgument for a field that means nothing here: a misspelt one must not be lost in silence."""
    for name in body:
        if name not in names:
            raise InvalidArgument(repr(name)[:80], "is no field of this", f"It takes {', '.join(names)}.")


def page(request: Request) -> tuple[int, int]:
    """limit and offset of a listing."""
    limit = whole(request.query_params.get("limit", LISTED_DEFAULT), "limit", 1, LISTED_MAX)
    return limit, whole(request.query_params.get("offset", 0), "offset", 0, OFFSET_MAX)
