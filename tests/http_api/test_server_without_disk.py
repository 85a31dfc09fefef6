"""A server on a database needs no disk: everything works though its data folder can't be created."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.record_stores import open_record_store
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.names import principal_key
from ctxmem_mcp.team.records import Right, Token, make_token, token_digest
from ctxmem_mcp.team.stores import open_team
from tests.gateway.harness import answers_with, long_history, upstream_stub
from tests.http_api.mcp_calls import call_tool
from tests.http_api.service_process import served
from tests.postgres_server import started_server

pytestmark = pytest.mark.anyio

SESSIONS, PAGE = "/v1/chat/sessions", "/ui/api/conversations"


async def add_team(settings: Settings) -> str:
    """Adds a principal with a right in a space. Returns its token."""
    team, token = open_team(settings), make_token()
    await team.add_principal("alice", Token(token_digest(token), time.time(), None))
    await team.add_space("web", 1.0)
    await team.set_right("web", principal_key("alice", "NAME"), Right.MANAGE)
    await team.close()
    return token


async def until(found: Callable[[], Awaitable[Any]]) -> Any:
    """Returns the first result that is true, or the last one."""
    end = time.monotonic() + 60
    while True:
        value = await found()
        if value or time.monotonic() > end:
            return value
        await asyncio.sleep(0.02)


async def use_sessions(client: httpx2.AsyncClient) -> None:
    space = (await client.post("/v1/spaces", json={"name": "All"})).json()["data"]["id"]
    assert (await client.post(f"/v1/spaces/{space}/set-default")).json()["data"]["is_default"]
    session = (await client.post(SESSIONS, json={"name": "One"})).json()["data"]
    assert session["space_id"] == space
    path = f"{SESSIONS}/{session['id']}"
    await client.post(f"{path}/messages", json={"role": "user", "content": "the deploy key is in the vault"})
    assert "vault" in (await client.get(f"{path}/context?query=deploy")).text
    assert (await client.delete(f"/v1/spaces/{space}")).json()["data"]["deleted"]
    assert [one["space_id"] for one in (await client.get(SESSIONS)).json()["data"]] == [None]
    await call_tool(client, "forget_conversation", conversation_id=session["id"], confirm=session["id"])
    assert (await client.get(path)).status_code == 404
    assert (await client.get(SESSIONS)).json()["data"] == []


async def use_gateway(client: httpx2.AsyncClient) -> str:
    """Returns the id of the conversation."""
    body = {"model": "m:memory", "messages": long_history(30)}
    response = await client.post("/v1/chat/completions", json=body)
    assert response.headers["x-ctxmem-memory"] == "folded"
    conversation = response.headers["x-ctxmem-conversation"]

    async def sent() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await client.get(f"{PAGE}/{conversation}/sent")).json()["requests"]
        return found

    assert len(await until(sent)) == 1
    view = (await client.get(f"{PAGE}/{conversation}/sent/0/view")).json()["text"]
    assert "token20 failed" in view  # what was sent lacks turns that are pinned, which nothing records
    for path in ("/v1/usage", "/ui/api/usage"):
        assert (await client.get(path)).json()["total"]["requests"] == 1
    return conversation


async def use_page(client: httpx2.AsyncClient, conversation: str) -> None:
    headers = {"x-page-token": (await client.get("/ui/api/start")).json()["page_token"]}
    first = (await client.get(f"{PAGE}/{conversation}/turns?last=1")).json()["turns"][1]["id"]
    redacted = await client.post(f"{PAGE}/{conversation}/redact", json={"turn_id": first}, headers=headers)
    assert redacted.status_code == 200, redacted.text
    assert redacted.json()["warnings"] == []
    forgotten = await client.post(f"{PAGE}/{conversation}/forget", json={"confirm": conversation}, headers=headers)
    assert forgotten.json()["conversation_id"] == conversation
    (usage,) = (await client.get("/v1/usage")).json()["data"]
    assert (usage["conversation_id"], usage["requests"]) == (None, 1)


async def test_a_server_on_a_database_needs_no_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    data = tmp_path / "file" / "data"
    url = started_server().create_database()
    token = await add_team(Settings(data, store_url=url))
    with (
        upstream_stub(answers_with("It is fixed.")) as stub,
        served(data, store_url=url, upstream_base_url=f"{stub.url}/v1", gateway_tokens=4_000) as base,
    ):
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(base_url=base, headers=headers, timeout=120) as client:
            assert (await client.get("/ready")).status_code == 200
            for path in ("", "/spaces/web"):
                client.base_url = base + path
                await call_tool(client, "append_turn", conversation_id="c", role="user", content="a lemon tree")
                assert "lemon" in await call_tool(client, "get_context", conversation_id="c", query="lemon")
                assert "lemon" in await call_tool(client, "search_turns", query="lemon")
                await use_sessions(client)
                await use_page(client, await use_gateway(client))
                await call_tool(client, "forget_conversation", conversation_id="c", confirm="c")
    assert os.listdir(tmp_path) == ["file"]


async def test_a_redaction_that_a_killed_server_has_begun_is_finished_by_another(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(tmp_path / "file" / "data", store_url=started_server().create_database())
    records = open_record_store(settings, "")
    async with open_memory(settings, background=False) as memory:
        await memory.append(NewTurn("user", "my password is tulips"), conversation_id="c")
        (found,) = await memory.find_copies("c", "t0")
        await records.redactions.add("2026-01-01", {"c": [found.turn.digest]})
    async with open_memory(settings) as memory:

        async def is_redacted() -> bool:
            return (await memory.turn("c", "t0")).content.startswith("[redacted")

        assert await until(is_redacted)

        async def is_done() -> bool:
            return not await records.redactions.all()

        assert await until(is_done)
    await records.close()
