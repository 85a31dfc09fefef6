"""The routes by which the page reads a project: its view, its brief, and the text that a new session there gets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.routing import Route

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.hooks.session_context import context_of_new_session
from ctxmem_mcp.http_api.page.paths import API
from ctxmem_mcp.http_api.page.view_json import budget_of, view_json
from ctxmem_mcp.projects import find_project

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.projects import Project

# The agent whose session starts; those with a smaller limit of their own get less.
_AGENT = "claude-code"


def routes(deps: Deps) -> list[Route]:
    """Returns the routes that read a project."""
    reads = ProjectReads(deps)
    return [
        Route(f"{API}/project/view", reads.view),
        Route(f"{API}/project/brief", reads.brief),
        Route(f"{API}/project/start", reads.start),
    ]


class ProjectReads:
    """The route handlers. `folder` names the project: a folder that agents worked in, or a space."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def view(self, request: Request) -> Response:
        memory, project = await self._deps.memory(request), await _project(request)
        query = request.query_params.get("query") or None
        # The page's links lead to whole ids.
        view = await memory.project_view(project, query=query, token_budget=budget_of(request), short_ids=False)
        return JSONResponse(view_json(view))

    async def brief(self, request: Request) -> Response:
        memory, project = await self._deps.memory(request), await _project(request)
        brief = await memory.project_hand_off(project, token_budget=budget_of(request), short_ids=False)
        return JSONResponse(view_json(brief))

    async def start(self, request: Request) -> Response:
        memory, folder = await self._deps.memory(request), _folder(request)
        text = await context_of_new_session(memory, self._deps.settings, folder, _AGENT)
        return JSONResponse({"text": text, "token_budget": self._deps.settings.inject_tokens})


def _folder(request: Request) -> str:
    folder = request.query_params.get("folder")
    if not folder:
        raise InvalidArgument("folder", "is required", "Name a folder that agents worked in, or a space.")
    return folder


async def _project(request: Request) -> Project:
    return await asyncio.to_thread(find_project, _folder(request))
