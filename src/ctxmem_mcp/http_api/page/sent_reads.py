"""The routes by which the page reads the requests that the gateway sent, and the view of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from ctxmem_mcp import sent_requests
from ctxmem_mcp.errors import BudgetTooSmall, NotFound
from ctxmem_mcp.http_api.page.paths import API
from ctxmem_mcp.models import iso
from ctxmem_mcp.team.records import Right

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.sent_requests import SentRequest, SentView


def routes(deps: Deps) -> list[Route]:
    """Returns the routes that read what was sent."""
    reads = SentReads(deps)
    one = f"{API}/conversations/{{conversation_id}}/sent"
    return [Route(one, reads.requests), Route(f"{one}/{{number:int}}/view", reads.view)]


class SentReads:
    """The route handlers."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def requests(self, request: Request) -> Response:
        await self._memory(request)
        return JSONResponse({"requests": [_request_json(one) for one in await self._sent(request)]})

    async def view(self, request: Request) -> Response:
        """Returns the view of a request, computed again; `is_same` says whether it is what was sent."""
        memory, sent, number = await self._memory(request), await self._sent(request), request.path_params["number"]
        if number >= len(sent) or not sent[number].view.digest:
            raise HTTPException(404)
        text = await _view_text(memory, sent[number].conversation_id, sent[number].view)
        return JSONResponse({"text": text, "is_same": sent[number].view.matches(text)})

    async def _memory(self, request: Request) -> Memory:
        """Returns the memory. Raises UnknownConversation if it has not this one."""
        memory = await self._deps.memory(request)
        await memory.info(_id(request))
        return memory

    async def _sent(self, request: Request) -> Sequence[SentRequest]:
        return await self._deps.records(request, Right.READ).sent(_id(request))


async def _view_text(memory: Memory, conversation_id: str, view: SentView) -> str:
    query = (
        (await memory.turn(conversation_id, view.query)).content[: sent_requests.QUERY_CHARS_MAX]
        if view.query
        else None
    )
    try:
        found = await memory.view(
            conversation_id, query=query, token_budget=view.budget, turn_id=view.end, layout="stable"
        )
    except (BudgetTooSmall, NotFound):
        return ""
    return found.text


def _request_json(sent: SentRequest) -> dict[str, Any]:
    view = sent.view
    shown = {"end": view.end, "query": view.query, "budget": view.budget} if view.digest else None
    return {**asdict(sent), "at": iso(sent.at), "view": shown}


def _id(request: Request) -> str:
    return str(request.path_params["conversation_id"])
