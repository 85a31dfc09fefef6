"""What the page reads: conversations, their tree and turns, views, briefs, hits and usage, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from ctxmem_mcp import redaction, usage_ledger
from ctxmem_mcp.http_api.page.paths import API
from ctxmem_mcp.http_api.page.view_json import budget_of, view_json
from ctxmem_mcp.http_api.request_fields import query_integer
from ctxmem_mcp.models import Highlight, Turn
from ctxmem_mcp.results import ConversationInfo, OutlineNode
from ctxmem_mcp.team.records import Right

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ctxmem_mcp.http_api.deps import Deps

PAGE_LIMIT, PAGE_LIMIT_MAX = 100, 500
TURNS_MAX = 200
# A list of turns has this much of each; the turn alone has all of it.
EXCERPT_CHARS = 6_000
HITS, HITS_MAX = 20, 100
_DAY_CHARS = len("2026-01-01")


def routes(deps: Deps) -> list[Route]:
    """Returns the routes that read."""
    reads = PageReads(deps)
    one = f"{API}/conversations/{{conversation_id}}"
    return [
        Route(f"{API}/conversations", reads.conversations),
        Route(one, reads.conversation),
        Route(f"{one}/outline", reads.outline),
        Route(f"{one}/turns", reads.turns),
        Route(f"{one}/turns/{{turn_id}}", reads.turn),
        Route(f"{one}/turns/{{turn_id}}/copies", reads.copies),
        Route(f"{one}/view", reads.view),
        Route(f"{one}/brief", reads.brief),
        Route(f"{API}/search", reads.search),
        Route(f"{API}/usage", reads.usage),
    ]


class PageReads:
    """The route handlers. Each uses only the memory and the records that `deps` returns, which check the rights."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def conversations(self, request: Request) -> Response:
        memory = await self._deps.memory(request)
        limit = query_integer(request, "limit", PAGE_LIMIT, 1, PAGE_LIMIT_MAX)
        query = request.query_params
        page = await memory.conversations(space=query.get("space") or None, limit=limit, cursor=query.get("cursor"))
        return JSONResponse(asdict(page))

    async def conversation(self, request: Request) -> Response:
        memory, conversation_id = await self._deps.memory(request), _id(request)
        info = await memory.info(conversation_id)
        head = await memory.head(conversation_id)
        branches = [
            {"turn_id": turn.id, "turns": turn.index + 1, "parts_at": parts_at, "said_at": turn.said_at}
            for turn, parts_at in await memory.branches_with_parting(conversation_id)
        ]
        return JSONResponse({**asdict(info), "head": head.id, "branches": branches})

    async def outline(self, request: Request) -> Response:
        memory, turn_id = await self._deps.memory(request), request.query_params.get("turn")
        nodes = await memory.outline(_id(request), turn_id=turn_id)
        return JSONResponse({"nodes": [_node_json(node) for node in nodes]})

    async def turns(self, request: Request) -> Response:
        memory, query = await self._deps.memory(request), request.query_params
        first = query_integer(request, "first", 0, 0, 10**9)
        last = query_integer(request, "last", first + TURNS_MAX - 1, first, first + TURNS_MAX - 1)
        turns = await memory.turns(_id(request), first=first, last=last, turn_id=query.get("turn"))
        return JSONResponse({"turns": [_turn_json(turn, EXCERPT_CHARS) for turn in turns]})

    async def turn(self, request: Request) -> Response:
        memory = await self._deps.memory(request)
        return JSONResponse(_turn_json(await memory.turn(_id(request), request.path_params["turn_id"])))

    async def copies(self, request: Request) -> Response:
        """Returns what redacting a turn would remove, and which turns quote it."""
        memory = await self._deps.memory(request)
        found, quoting = await redaction.find_copies(memory, _id(request), request.path_params["turn_id"])
        copies = [{"conversation_id": one.conversation_id, "turn_id": one.turn.id} for one in found]
        return JSONResponse({"copies": copies, "quoted_in": quoting})

    async def view(self, request: Request) -> Response:
        memory, query = await self._deps.memory(request), request.query_params
        view = await memory.view(
            _id(request),
            query=query.get("query") or None,
            token_budget=budget_of(request),
            turn_id=query.get("turn"),
            layout=query.get("layout") or "tree",
            explain=query.get("layout") != "stable",
        )
        return JSONResponse(view_json(view))

    async def brief(self, request: Request) -> Response:
        memory = await self._deps.memory(request)
        return JSONResponse(view_json(await memory.hand_off(_id(request), token_budget=budget_of(request))))

    async def search(self, request: Request) -> Response:
        memory, query = await self._deps.memory(request), request.query_params
        found = await memory.search(
            query.get("query", ""),
            conversation_id=query.get("conversation") or None,
            limit=query_integer(request, "limit", HITS, 1, HITS_MAX),
            role=query.get("role") or None,
            since=query.get("since") or None,
            until=query.get("until") or None,
        )
        return JSONResponse(asdict(found))

    async def usage(self, request: Request) -> Response:
        memory = await self._deps.memory(request)
        entries = await self._deps.records(request, Right.READ).usage()
        report = usage_ledger.usage_report(entries, self._deps.settings)
        stored = await memory.all_conversations()
        known = {info.conversation_id: (info.agent, info.space) for info in stored}
        for row in report["data"]:
            row["agent"], row["project"] = known.get(row["conversation_id"], (None, None))
        return JSONResponse({**report, "stored": [_stored_json(info) for info in stored]})


def _stored_json(info: ConversationInfo) -> dict[str, Any]:
    return {
        "date": info.last_activity[:_DAY_CHARS], "conversation_id": info.conversation_id, "agent": info.agent,
        "project": info.space, "turns": info.turns, "tokens": info.tokens, "bytes": info.bytes,
    }  # fmt: skip


def _id(request: Request) -> str:
    return str(request.path_params["conversation_id"])


def _node_json(node: OutlineNode) -> dict[str, Any]:
    return {
        "id": node.id, "level": node.level, "first": node.first, "last": node.last, "tokens": node.tokens,
        "title": node.summary.title, "author": node.summary.author,
        # The lines of inner nodes repeat those of their leaves.
        "lines": [] if node.children else _lines_json(node.summary.highlights),
        "children": [_node_json(child) for child in node.children],
    }  # fmt: skip


def _lines_json(lines: Sequence[Highlight]) -> list[dict[str, Any]]:
    return [{"kind": line.kind, "index": line.index, "role": line.role, "text": line.text} for line in lines]


def _turn_json(turn: Turn, chars: int | None = None) -> dict[str, Any]:
    shown = turn.content if chars is None else turn.content[:chars]
    return {
        "id": turn.id, "index": turn.index, "role": turn.role, "name": turn.name, "said_at": turn.said_at,
        "call_id": turn.call_id, "tokens": turn.tokens, "content": shown, "chars": len(turn.content),
    }  # fmt: skip
