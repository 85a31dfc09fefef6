"""The routes of shared spaces: which ones a principal has, and who has a right in one.

    GET    /spaces                            the principal's spaces, with its right in each
    GET    /spaces/NAME/members
    PUT    /spaces/NAME/members/PRINCIPAL     {"right": "read" | "continue" | "manage"}
    DELETE /spaces/NAME/members/PRINCIPAL

The middleware has checked that the principal has a right in the space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from ctxmem_mcp.errors import NotFound
from ctxmem_mcp.http_api.auth.access import MEMBERS, SPACES
from ctxmem_mcp.http_api.envelope import method_route
from ctxmem_mcp.http_api.request_fields import json_object, reject_unknown_fields
from ctxmem_mcp.team.names import parse_right, principal_key, principal_name
from ctxmem_mcp.team.records import Right

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.team.access import Access
    from ctxmem_mcp.team.base import TeamStore


def routes(deps: Deps, team: TeamStore) -> list[Route]:
    """Returns the routes."""
    shared, members = SharedSpaces(deps, team), f"{SPACES}/{{space}}/{MEMBERS}"
    return [
        method_route(SPACES, GET=shared.list),
        method_route(members, GET=shared.members),
        method_route(f"{members}/{{principal:path}}", PUT=shared.share, DELETE=shared.unshare),
    ]


class SharedSpaces:
    """The route handlers."""

    def __init__(self, deps: Deps, team: TeamStore) -> None:
        self._deps, self._team = deps, team

    async def list(self, request: Request) -> Response:
        found = await self._team.spaces_of(self._deps.access_of(request).principal)
        return JSONResponse({"spaces": [{"name": space.name, "right": right.word} for space, right in found]})

    async def members(self, request: Request) -> Response:
        _, space = self._space(request, Right.READ)
        found = await self._team.members(space)
        return JSONResponse({"members": [_member(who, right) for who, right in found.items()]})

    async def share(self, request: Request) -> Response:
        access, space = self._space(request, Right.MANAGE)
        body = await json_object(request)
        reject_unknown_fields(body, "right")
        who, right = _principal(request), parse_right(body.get("right"), "right")
        await self._team.set_right(space, who, right)
        await access.record("share", target=f"{principal_name(who)} {right.word}")
        return JSONResponse(_member(who, right))

    async def unshare(self, request: Request) -> Response:
        who = _principal(request)
        own = self._deps.access_of(request).principal == who
        # Everybody may leave.
        access, space = self._space(request, Right.READ if own else Right.MANAGE)
        if not await self._team.set_right(space, who, None):
            raise NotFound(f"{principal_name(who)!r} has no right in the space {space!r}.")
        await access.record("unshare", target=principal_name(who))
        return JSONResponse({"principal": principal_name(who), "right": None})

    def _space(self, request: Request, right: Right) -> tuple[Access, str]:
        """Returns the access, and the space that the path names."""
        access = self._deps.access_of(request)
        assert access.space is not None
        access.require(right)
        return access, access.space


def _principal(request: Request) -> str:
    return principal_key(str(request.path_params["principal"]), "principal")


def _member(who: str, right: Right) -> dict[str, Any]:
    return {"principal": principal_name(who), "right": right.word}
