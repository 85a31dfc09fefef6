"""Tensorheart's spaces: names to keep sessions under. One that is deleted leaves its sessions in place, in no space.

A space_id need not have been made here: any text links conversations that carry the same.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.http_api.envelope import NoSuchRecord, at, enveloped, only, page, required, text
from ctxmem_mcp.http_api.errors import json_object
from ctxmem_mcp.models import iso
from ctxmem_mcp.record_files import SESSIONS, SPACES, Records, new_id

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from ctxmem_mcp.http_api.deps import Deps

NAME_CHARS_MAX, DESCRIPTION_CHARS_MAX = 100, 10_000
PATH = "/v1/spaces"
# Conversations of a space that is deleted are moved out of it, so many at a time.
MOVED_AT_ONCE = 100

_Record = dict[str, Any]


def routes(deps: Deps) -> list[Route]:
    spaces = Spaces(deps)
    one = f"{PATH}/{{space_id}}"
    return [
        at(PATH, POST=spaces.create, GET=spaces.list),
        at(one, GET=spaces.get, PUT=spaces.change, PATCH=spaces.change, DELETE=spaces.delete),
        at(f"{one}/set-default", POST=spaces.set_default),
    ]


def default_space(folder: Path) -> str | None:
    """The space that a session is linked to when it names none."""
    return next((name for name, record in Records(folder, SPACES).all() if record["default"]), None)


class Spaces:
    """The routes, over the asking principal's folder and memory."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def create(self, request: Request) -> Response:
        record = _fields(await json_object(request), {"default": False, "created": time.time()})
        space_id = new_id("space")
        await asyncio.to_thread(self._records(request).put, space_id, record)
        return enveloped(request, _told(space_id, record))

    async def list(self, request: Request) -> Response:
        limit, offset = page(request)
        there = await asyncio.to_thread(self._records(request).all)
        there.sort(key=lambda one: (one[1]["created"], one[0]))
        told = [_told(name, record) for name, record in there[offset : offset + limit]]
        return enveloped(request, told, total=len(there), limit=limit, offset=offset)

    async def get(self, request: Request) -> Response:
        return enveloped(request, _told(*await self._space(request)))

    async def change(self, request: Request) -> Response:
        body = await json_object(request)
        space_id, record = await self._space(request)
        changed = _fields({**{name: record[name] for name in _FIELDS}, **body}, record)
        await asyncio.to_thread(self._records(request).put, space_id, changed)
        return enveloped(request, _told(space_id, changed))

    async def set_default(self, request: Request) -> Response:
        space_id, record = await self._space(request)
        await asyncio.to_thread(_make_default, self._records(request), space_id)
        return enveloped(request, _told(space_id, {**record, "default": True}))

    async def delete(self, request: Request) -> Response:
        space_id, _ = await self._space(request)
        await asyncio.to_thread(_unlink_sessions, Records(self._deps.folder(request), SESSIONS), space_id)
        memory = await self._deps.memory(request)
        while there := (await memory.conversations(space=space_id, limit=MOVED_AT_ONCE)).conversations:
            for conversation in there:
                await memory.set_space(conversation.conversation_id, None)
        await asyncio.to_thread(self._records(request).remove, space_id)
        return enveloped(request, {"id": space_id, "deleted": True})

    def _records(self, request: Request) -> Records:
        return Records(self._deps.folder(request), SPACES)

    async def _space(self, request: Request) -> tuple[str, _Record]:
        space_id = request.path_params["space_id"]
        record = await asyncio.to_thread(self._records(request).get, space_id)
        if record is None:
            raise NoSuchRecord("space", space_id)
        return space_id, record


_FIELDS = ("name", "description", "settings")


def _fields(body: _Record, record: _Record) -> _Record:
    only(body, *_FIELDS)
    settings = body.get("settings")
    if settings is not None and not isinstance(settings, dict):
        raise InvalidArgument("settings", "takes a JSON object")
    return {
        **record,
        "name": required(body, "name", NAME_CHARS_MAX, least=1),
        "description": text(body, "description", DESCRIPTION_CHARS_MAX),
        "settings": settings or {},
    }


def _make_default(records: Records, space_id: str) -> None:
    for name, record in records.all():
        if record["default"] != (name == space_id):
            records.put(name, {**record, "default": name == space_id})


def _unlink_sessions(sessions: Records, space_id: str) -> None:
    for name, record in sessions.all():
        if record["space_id"] == space_id:
            sessions.put(name, {**record, "space_id": None})


def _told(space_id: str, record: _Record) -> dict[str, Any]:
    return {
        "id": space_id,
        **{name: record[name] for name in _FIELDS},
        "is_default": record["default"],
        "created_at": iso(record["created"]),
    }
