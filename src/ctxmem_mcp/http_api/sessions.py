"""Tensorheart's sessions: a conversation with a name, a system prompt and a budget, and the context to send to a model.

    POST   /v1/chat/sessions                  GET  /v1/chat/sessions
    GET    /v1/chat/sessions/{id}             DELETE /v1/chat/sessions/{id}
    POST   /v1/chat/sessions/{id}/messages    GET  /v1/chat/sessions/{id}/messages
    GET    /v1/chat/sessions/{id}/context?query=&context_budget=

A session's id is the id of its conversation, so MCP tools accept it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.errors import InvalidArgument, UnknownConversation
from ctxmem_mcp.http_api.context_window import ContextRequest, build_context
from ctxmem_mcp.http_api.envelope import NoSuchRecord, enveloped, method_route
from ctxmem_mcp.http_api.request_fields import (
    integer,
    json_object,
    optional_text,
    page_of,
    reject_unknown_fields,
    required_text,
)
from ctxmem_mcp.http_api.spaces import default_space
from ctxmem_mcp.models import NewTurn, Turn, iso
from ctxmem_mcp.record_files import EXPIRES, SESSIONS, new_id
from ctxmem_mcp.team.records import Right

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.results import Conversation

BUDGET_DEFAULT, BUDGET_MIN, BUDGET_MAX = 8_000, 500, 200_000
NAME_CHARS_MAX, PROMPT_CHARS_MAX, SPACE_CHARS_MAX, QUERY_CHARS_MAX = 200, 200_000, 100, 10_000
CONTENT_CHARS_MAX = 100_000_000
ROLES = ("user", "assistant")
PATH = "/v1/chat/sessions"

_Record = dict[str, Any]


def routes(deps: Deps) -> list[Route]:
    sessions = Sessions(deps)
    session = f"{PATH}/{{session_id}}"
    return [
        method_route(PATH, POST=sessions.create, GET=sessions.list),
        method_route(session, GET=sessions.get, DELETE=sessions.delete),
        method_route(f"{session}/messages", POST=sessions.add_message, GET=sessions.messages),
        method_route(f"{session}/context", GET=sessions.context),
    ]


class Sessions:
    """The route handlers. Each uses only the records and the memory that `deps` returns, which check the rights."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def create(self, request: Request) -> Response:
        body = await json_object(request) if await request.body() else {}
        reject_unknown_fields(body, "name", "system_prompt", "context_budget", "space_id")
        budget = body.get("context_budget")
        created = time.time()
        record = {
            "name": optional_text(body, "name", NAME_CHARS_MAX),
            "system_prompt": optional_text(body, "system_prompt", PROMPT_CHARS_MAX),
            "context_budget": BUDGET_DEFAULT if budget is None else _budget(budget),
            "space_id": optional_text(body, "space_id", SPACE_CHARS_MAX, min_chars=1)
            or await default_space(self._deps.records(request, Right.READ)),
            "created": created,
            EXPIRES: created + self._deps.settings.retention_days * 86_400,
        }
        session_id = new_id("session")
        await self._deps.records(request, Right.CONTINUE).put(SESSIONS, session_id, record)
        return enveloped(request, _session_json(session_id, record, None))

    async def list(self, request: Request) -> Response:
        limit, offset = page_of(request)
        space = request.query_params.get("space_id")
        records = await self._deps.records(request, Right.READ).all(SESSIONS)
        records = [(session_id, record) for session_id, record in records if space in (None, record["space_id"])]
        records.sort(key=lambda item: (-item[1]["created"], item[0]))
        listed = []
        for session_id, record in records[offset : offset + limit]:
            state = await self._state(request, session_id)
            if state is not None or record[EXPIRES] > time.time():
                listed.append(_session_json(session_id, record, state))
        return enveloped(request, listed, total=len(records), limit=limit, offset=offset)

    async def get(self, request: Request) -> Response:
        session_id, record, state = await self._session(request)
        return enveloped(request, _session_json(session_id, record, state))

    async def delete(self, request: Request) -> Response:
        session_id, _, state = await self._session(request)
        if state is not None:
            await (await self._deps.memory(request)).forget(session_id, session_id)
        await self._deps.records(request, Right.MANAGE).remove(SESSIONS, session_id)
        return enveloped(request, {"id": session_id, "deleted": True})

    async def add_message(self, request: Request) -> Response:
        body = await json_object(request)
        session_id, record, _ = await self._session(request)
        reject_unknown_fields(body, "role", "content")
        content = required_text(body, "content", CONTENT_CHARS_MAX)
        role = body.get("role")
        if role not in ROLES:
            raise InvalidArgument("role", "must be one of user, assistant")
        memory = await self._deps.memory(request)
        receipt = await memory.append(NewTurn(role, content), conversation_id=session_id, space=record["space_id"])
        message = _message_json(await memory.turn(session_id, receipt.turn_id))
        return enveloped(request, {**message, "session_id": session_id, "message_count": receipt.index + 1})

    async def messages(self, request: Request) -> Response:
        session_id, _, state = await self._session(request)
        limit, offset = page_of(request)
        turns: list[Turn] = []
        if state is not None:
            memory = await self._deps.memory(request)
            turns = await memory.turns(session_id, first=offset, last=offset + limit - 1)
        total = _message_count(state)
        return enveloped(request, [_message_json(turn) for turn in turns], total=total, limit=limit, offset=offset)

    async def context(self, request: Request) -> Response:
        session_id, record, state = await self._session(request)
        query = optional_text(dict(request.query_params), "query", QUERY_CHARS_MAX)
        budget = _budget(request.query_params.get("context_budget", record["context_budget"]))
        wanted = ContextRequest(record["system_prompt"], query or None, budget)
        memory = await self._deps.memory(request)
        context = await build_context(memory, session_id if state else None, wanted, self._deps.settings.encoding)
        return enveloped(request, {"session_id": session_id, **context})

    async def _session(self, request: Request) -> tuple[str, _Record, Conversation | None]:
        """Returns the session of the path: id, record, and the state of its conversation if it has messages.

        Raises NoSuchRecord, also for a session that has expired but is not swept yet.
        """
        session_id = request.path_params["session_id"]
        record = await self._deps.records(request, Right.READ).get(SESSIONS, session_id)
        state = await self._state(request, session_id) if record is not None else None
        if record is None or (state is None and record[EXPIRES] <= time.time()):
            raise NoSuchRecord("session", session_id)
        return session_id, record, state

    async def _state(self, request: Request, session_id: str) -> Conversation | None:
        try:
            return await (await self._deps.memory(request)).info(session_id)
        except UnknownConversation:
            return None


def _budget(value: object) -> int:
    return integer(value, "context_budget", BUDGET_MIN, BUDGET_MAX)


def _session_json(session_id: str, record: _Record, state: Conversation | None) -> dict[str, Any]:
    return {
        "id": session_id,
        "name": record["name"],
        "system_prompt": record["system_prompt"],
        "context_budget": record["context_budget"],
        "space_id": record["space_id"],
        "message_count": _message_count(state),
        "token_count": state.tokens if state else 0,
        "created_at": iso(record["created"]),
        "updated_at": iso(state.updated if state else record["created"]),
        "expires_at": iso(state.expires if state else record[EXPIRES]),
    }


def _message_count(state: Conversation | None) -> int:
    return state.turns if state else 0


def _message_json(turn: Turn) -> dict[str, Any]:
    return {"id": turn.id, "role": turn.role, "content": turn.content, "token_count": turn.tokens}
