"""Spaces: creating, updating, the default space, and deleting, which keeps the sessions."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.record_stores.files import FileRecordStore
from ctxmem_mcp.settings import Settings
from tests.http_api.test_sessions import add_message, create, data, error_message

pytestmark = pytest.mark.anyio

PATH = "/v1/spaces"


async def test_a_space_is_created_read_updated_and_deleted(http: httpx2.AsyncClient) -> None:
    space = await data(await http.post(PATH, json={"name": "Work", "settings": {"colour": "green"}}))
    assert space["id"].startswith("space_")
    assert (space["name"], space["description"], space["is_default"]) == ("Work", None, False)
    updated = await data(await http.patch(f"{PATH}/{space['id']}", json={"description": "of the day"}))
    assert (updated["name"], updated["description"], updated["settings"]) == ("Work", "of the day", {"colour": "green"})
    assert await data(await http.get(PATH)) == [updated]
    await data(await http.delete(f"{PATH}/{space['id']}"))
    await error_message(await http.get(f"{PATH}/{space['id']}"), 404, "not_found")


async def test_a_deleted_space_keeps_its_conversations(http: httpx2.AsyncClient, settings: Settings) -> None:
    space = (await data(await http.post(PATH, json={"name": "Work"})))["id"]
    session = (await create(http, space_id=space))["id"]
    await add_message(http, session, "user", "hello")
    async with open_memory(settings) as memory:
        assert [c.conversation_id for c in (await memory.conversations(space=space)).conversations] == [session]
    await data(await http.delete(f"{PATH}/{space}"))
    assert (await data(await http.get(f"/v1/chat/sessions/{session}")))["space_id"] is None
    async with open_memory(settings) as memory:
        assert (await memory.conversations(space=space)).conversations == []
        (left,) = (await memory.conversations()).conversations
        assert (left.conversation_id, left.space, left.turns) == (session, None, 1)
    assert (await add_message(http, session, "user", "and on"))["message_count"] == 2


async def test_there_is_one_default_space_for_sessions_that_name_none(http: httpx2.AsyncClient) -> None:
    first, second = [(await data(await http.post(PATH, json={"name": name})))["id"] for name in "ab"]
    for space in (first, second):
        assert (await data(await http.post(f"{PATH}/{space}/set-default")))["is_default"] is True
    assert {s["id"]: s["is_default"] for s in await data(await http.get(PATH))} == {first: False, second: True}
    assert (await create(http))["space_id"] == second
    assert (await create(http, space_id="any text"))["space_id"] == "any text"


async def test_a_space_that_is_deleted_while_it_is_made_the_default_leaves_the_default_space(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [(await data(await http.post(PATH, json={"name": name})))["id"] for name in "ab"]
    await data(await http.post(f"{PATH}/{first}/set-default"))
    get = FileRecordStore.get

    async def get_then_remove(store: FileRecordStore, kind: str, record_id: str) -> dict[str, Any] | None:
        record = await get(store, kind, record_id)
        await store.remove(kind, record_id)
        return record

    with monkeypatch.context() as patch:
        patch.setattr(FileRecordStore, "get", get_then_remove)
        await error_message(await http.post(f"{PATH}/{second}/set-default"), 404, "not_found")
    assert [(s["id"], s["is_default"]) for s in await data(await http.get(PATH))] == [(first, True)]


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x" * 101}, {"name": 1}, {"name": "a", "settings": []}])
async def test_an_invalid_space_is_rejected(http: httpx2.AsyncClient, body: Any) -> None:
    await error_message(await http.post(PATH, json=body), 400, "invalid_request")
    assert await data(await http.get(PATH)) == []
