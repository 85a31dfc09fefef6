"""Spaces: made, changed, made the default, deleted; what was in them stays."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.settings import Settings
from tests.http_api.test_sessions import created, data, refusal, said

pytestmark = pytest.mark.anyio

PATH = "/v1/spaces"


async def test_a_space_is_created_read_updated_and_deleted(http: httpx2.AsyncClient) -> None:
    space = await data(await http.post(PATH, json={"name": "Work", "settings": {"colour": "green"}}))
    assert space["id"].startswith("space_")
    assert (space["name"], space["description"], space["is_default"]) == ("Work", None, False)
    changed = await data(await http.patch(f"{PATH}/{space['id']}", json={"description": "of the day"}))
    assert (changed["name"], changed["description"], changed["settings"]) == ("Work", "of the day", {"colour": "green"})
    assert await data(await http.get(PATH)) == [changed]
    await data(await http.delete(f"{PATH}/{space['id']}"))
    await refusal(await http.get(f"{PATH}/{space['id']}"), 404, "not_found")


async def test_a_deleted_space_keeps_its_conversations(http: httpx2.AsyncClient, settings: Settings) -> None:
    space = (await data(await http.post(PATH, json={"name": "Work"})))["id"]
    session = (await created(http, space_id=space))["id"]
    await said(http, session, "user", "hello")
    async with open_memory(settings) as memory:
        assert [c.conversation_id for c in (await memory.conversations(space=space)).conversations] == [session]
    await data(await http.delete(f"{PATH}/{space}"))
    assert (await data(await http.get(f"/v1/chat/sessions/{session}")))["space_id"] is None
    async with open_memory(settings) as memory:
        assert (await memory.conversations(space=space)).conversations == []
        (kept,) = (await memory.conversations()).conversations
        assert (kept.conversation_id, kept.space, kept.turns) == (session, None, 1)
    assert (await said(http, session, "user", "and on"))["message_count"] == 2


async def test_there_is_one_default_space_for_sessions_that_name_none(http: httpx2.AsyncClient) -> None:
    first, second = [(await data(await http.post(PATH, json={"name": name})))["id"] for name in "ab"]
    for space in (first, second):
        assert (await data(await http.post(f"{PATH}/{space}/set-default")))["is_default"] is True
    assert {s["id"]: s["is_default"] for s in await data(await http.get(PATH))} == {first: False, second: True}
    assert (await created(http))["space_id"] == second
    assert (await created(http, space_id="any text"))["space_id"] == "any text"


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x" * 101}, {"name": 1}, {"name": "a", "settings": []}])
async def test_an_invalid_space_is_rejected(http: httpx2.AsyncClient, body: Any) -> None:
    await refusal(await http.post(PATH, json=body), 400, "invalid_request")
    assert await data(await http.get(PATH)) == []
