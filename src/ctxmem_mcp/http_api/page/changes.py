"""The routes that set retention, move the head, forget and redact. Each request needs the page's token."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.routing import Route

from ctxmem_mcp import redaction
from ctxmem_mcp.http_api.page.paths import API
from ctxmem_mcp.http_api.request_fields import (
    integer,
    json_object,
    optional_text,
    reject_unknown_fields,
    required_text,
)
from ctxmem_mcp.team.records import Right

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.http_api.page.access import PageAccess

_ID_CHARS_MAX = 200
_DAYS_MAX = 365


def routes(deps: Deps, access: PageAccess) -> list[Route]:
    """Returns the routes that change something."""
    changes = PageChanges(deps, access)
    one = f"{API}/conversations/{{conversation_id}}"
    return [
        Route(f"{one}/retention", changes.set_retention, methods=["POST"]),
        Route(f"{one}/revert", changes.revert, methods=["POST"]),
        Route(f"{one}/forget", changes.forget, methods=["POST"]),
        Route(f"{one}/redact", changes.redact, methods=["POST"]),
    ]


class PageChanges:
    """The route handlers. Each checks that the request comes from the page before anything else."""

    def __init__(self, deps: Deps, access: PageAccess) -> None:
        self._deps, self._access = deps, access

    async def set_retention(self, request: Request) -> Response:
        self._access.check_change(request)
        body, memory = await json_object(request), await self._deps.memory(request)
        reject_unknown_fields(body, "days")
        days = integer(body.get("days"), "days", 1, _DAYS_MAX)
        return JSONResponse(asdict(await memory.set_retention(_id(request), days)))

    async def revert(self, request: Request) -> Response:
        self._access.check_change(request)
        body, memory = await json_object(request), await self._deps.memory(request)
        reject_unknown_fields(body, "turn_id")
        turn_id = required_text(body, "turn_id", _ID_CHARS_MAX)
        return JSONResponse(asdict(await memory.revert(_id(request), turn_id)))

    async def forget(self, request: Request) -> Response:
        self._access.check_change(request)
        body, memory = await json_object(request), await self._deps.memory(request)
        reject_unknown_fields(body, "confirm", "turn_id")
        confirm = required_text(body, "confirm", _ID_CHARS_MAX)
        turn_id = optional_text(body, "turn_id", _ID_CHARS_MAX)
        return JSONResponse(asdict(await memory.forget(_id(request), confirm, turn_id)))

    async def redact(self, request: Request) -> Response:
        self._access.check_change(request)
        access, body = self._deps.access_of(request), await json_object(request)
        folder = self._deps.folder(request, Right.MANAGE)
        reject_unknown_fields(body, "turn_id")
        turn_id = required_text(body, "turn_id", _ID_CHARS_MAX)
        # A redaction is of all that the folder holds, so it needs more than a guarded memory does.
        memory = await self._deps.memory_for(access.tenant)
        found = await memory.find_copies(_id(request), turn_id)
        orders = self._deps.records(request, Right.MANAGE).redactions
        receipt = await redaction.redact(memory, folder, found, orders=orders)
        await access.record("redact", _id(request))
        return JSONResponse(asdict(receipt))


def _id(request: Request) -> str:
    return str(request.path_params["conversation_id"])
