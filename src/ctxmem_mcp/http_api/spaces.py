"""Tensorheart's spaces: named groups of sessions. Deleting a space keeps its sessions, which are then in no space.

A space_id need not belong to a space that was created here: any text groups the conversations that have it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.http_api.envelope import NoSuchRecord, enveloped, method_route
from ctxmem_mcp.http_api.request_fields import (
    json_object,
    optional_text,
    page_of,
    reject_unknown_fields,
    required_text,
)
from ctxmem_mcp.models import iso
from ctxmem_mcp.record_files import SESSIONS, SPACES, new_id
from ctxmem_mcp.team.records import Right

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.record_stores import RecordStore

NAME_CHARS_MAX, DESCRIPTION_CHARS_MAX = 100, 10_000
PATH = "/v1/spaces"
# Conversations moved out of a deleted space per step.
MOVE_BATCH = 100

_Record = dict[str, Any]


def routes(deps: Deps) -> list[Route]:
    spaces = Spaces(deps)
    space = f"{PATH}/{{space_id}}"
    return [
        method_route(PATH, POST=spaces.create, GET=spaces.list),
        method_route(space, GET=spaces.get, PUT=spaces.update, PATCH=spaces.update, DELETE=spaces.delete),
        method_route(f"{space}/set-default", POST=spaces.set_default),
    ]


async def default_space(records: RecordStore) -> str | None:
    """Returns the id of the space for sessions that name none, or None."""
    return next((space_id for space_id, record in await records.all(SPACES) if record["default"]), None)


class Spaces:
    """The route handlers. Each uses only the records and the memory that `deps` returns, which check the rights."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def create(self, request: Request) -> Response:
        record = _fields(await json_object(request), {"default": False, "created": time.time()})
        space_id = new_id("space")
        await self._deps.records(request, Right.CONTINUE).put(SPACES, space_id, record)
        return enveloped(request, _space_json(space_id, record))

    async def list(self, request: Request) -> Response:
        limit, offset = page_of(request)
        records = await self._deps.records(request, Right.READ).all(SPACES)
        records.sort(key=lambda item: (item[1]["created"], item[0]))
        listed = [_space_json(space_id, record) for space_id, record in records[offset : offset + limit]]
        return enveloped(request, listed, total=len(records), limit=limit, offset=offset)

    async def get(self, request: Request) -> Response:
        return enveloped(request, _space_json(*await self._space(request)))

    async def update(self, request: Request) -> Response:
        body = await json_object(request)
        space_id, record = await self._space(request)
        updated = _fields({**{name: record[name] for name in _FIELDS}, **body}, record)
        if not await self._deps.records(request, Right.CONTINUE).replace(SPACES, space_id, updated):
            raise NoSuchRecord("space", space_id)
        return enveloped(request, _space_json(space_id, updated))

    async def set_default(self, request: Request) -> Response:
        space_id, record = await self._space(request)
        default = {**record, "default": True}
        await _make_default(self._deps.records(request, Right.CONTINUE), space_id, default)
        return enveloped(request, _space_json(space_id, default))

    async def delete(self, request: Request) -> Response:
        space_id, _ = await self._space(request)
        records = self._deps.records(request, Right.MANAGE)
        await _unlink_sessions(records, space_id)
        memory = await self._deps.memory(request)
        while batch := (await memory.conversations(space=space_id, limit=MOVE_BATCH)).conversations:
            for conversation in batch:
                await memory.set_space(conversation.conversation_id, None)
        await records.remove(SPACES, space_id)
        return enveloped(request, {"id": space_id, "deleted": True})

    async def _space(self, request: Request) -> tuple[str, _Record]:
        space_id = request.path_params["space_id"]
        record = await self._deps.records(request, Right.READ).get(SPACES, space_id)
        if record is None:
            raise NoSuchRecord("space", space_id)
        return space_id, record


_FIELDS = ("name", "description", "settings")


def _fields(body: _Record, record: _Record) -> _Record:
    """Returns the record with the validated fields of the body."""
    reject_unknown_fields(body, *_FIELDS)
    settings = body.get("settings")
    if settings is not None and not isinstance(settings, dict):
        raise InvalidArgument("settings", "must be a JSON object")
    return {
        **record,
        "name": required_text(body, "name", NAME_CHARS_MAX, min_chars=1),
        "description": optional_text(body, "description", DESCRIPTION_CHARS_MAX),
        "settings": settings or {},
    }


async def _make_default(records: RecordStore, space_id: str, default: _Record) -> None:
    """Raises NoSuchRecord if the space was removed; then the default space stays."""
    if not await records.replace(SPACES, space_id, default):
        raise NoSuchRecord("space", space_id)
    for record_id, record in await records.all(SPACES):
        if record["default"] and record_id != space_id:
            await records.replace(SPACES, record_id, {**record, "default": False})


async def _unlink_sessions(records: RecordStore, space_id: str) -> None:
    for session_id, record in await records.all(SESSIONS):
        if record["space_id"] == space_id:
            await records.replace(SESSIONS, session_id, {**record, "space_id": None})


def _space_json(space_id: str, record: _Record) -> dict[str, Any]:
    return {
        "id": space_id,
        **{name: record[name] for name in _FIELDS},
        "is_default": record["default"],
        "created_at": iso(record["created"]),
    }
