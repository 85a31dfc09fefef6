"""Two servers before one database: what one stores the other reads, forks and forgets, principal by principal."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.subscriptions import ResourceUpdated
from psycopg.conninfo import conninfo_to_dict

from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.records import Right
from ctxmem_mcp.team.stores import open_team
from tests.http_api.conftest import ALICE, BOB, TOKENS
from tests.http_api.service_process import served
from tests.http_api.test_process import wait_until_ready
from tests.mcp_server.conftest import Caller
from tests.postgres_server import started_server

pytestmark = pytest.mark.anyio

TURNS = 12
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE starts_with(query, 'LISTEN') AND datname = %s"


def files_below(folder: Path) -> list[Path]:
    return list(folder.rglob("*.ctxmem"))


@asynccontextmanager
async def client_of(base: str, token: str) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=120) as http,
        Client(streamable_http_client(f"{base}/mcp", http_client=http)) as client,
    ):
        yield client


async def append_alternately(bases: list[str], token: str, word: str) -> list[str]:
    """Two agents append to one conversation, each through a server of its own, at the same time."""

    async def agent(base: str, name: str) -> None:
        async with client_of(base, token) as client:
            call = Caller(client)
            for i in range(TURNS):
                await call.append(f"{word} {name}{i}", "same")

    await asyncio.gather(*(agent(base, name) for base, name in zip(bases, "ab", strict=True)))
    return [f"{word} {name}{i}" for name in "ab" for i in range(TURNS)]


@dataclass(frozen=True)
class Servers:
    """Two running servers, and what they have in common."""

    folder: Path
    url: str
    one: str
    two: str


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder, url = tmp_path_factory.mktemp("servers"), started_server().create_database()
    with (
        served(folder / "one", tokens=TOKENS, store_url=url) as one,
        served(folder / "two", tokens=TOKENS, store_url=url) as two,
    ):
        yield Servers(folder, url, one, two)


async def test_two_servers_share_conversations_and_keep_principals_apart(servers: Servers) -> None:
    one, two = servers.one, servers.two
    for base in (one, two):
        await wait_until_ready(base)
    said = {token: await append_alternately([one, two], token, word) for token, word in ((ALICE, "A"), (BOB, "B"))}
    for base in (one, two):
        for token, words in said.items():
            async with client_of(base, token) as client:
                header, text = await Caller(client).text("get_context", conversation_id="same")
                assert header["turns"] == 2 * TURNS, "none is lost, and none is doubled"
                assert all(text.count(f"{word}\n") == 1 for word in words)
    assert files_below(servers.folder) == []


async def test_the_pages_token_of_one_server_is_valid_on_the_other(servers: Servers) -> None:
    for base in (servers.one, servers.two):
        await wait_until_ready(base)
    headers = {"Authorization": f"Bearer {ALICE}"}
    async with httpx2.AsyncClient(headers=headers, timeout=120) as http:
        headers = {"x-page-token": (await http.get(f"{servers.one}/ui/api/start")).json()["page_token"]}
        path = "/ui/api/conversations/none/retention"
        changed = await http.post(f"{servers.two}{path}", json={"days": 3}, headers=headers)
        assert changed.status_code == 404, "the conversation is looked for, so the token was accepted"
        refused = await http.post(f"{servers.two}{path}", json={"days": 3}, headers={"x-page-token": "x"})
        assert (refused.status_code, "x-page-token" in refused.text) == (400, True)


async def next_uri(events: AsyncIterator[object]) -> str:
    """Returns the resource that the next notification of an update names."""
    async with asyncio.timeout(60):
        event = await anext(events)
    assert isinstance(event, ResourceUpdated)
    return event.uri


async def test_a_listener_is_notified_of_what_another_server_stores(servers: Servers) -> None:
    """Also after the connection that listens was cut; of other principals' changes never."""
    for base in (servers.one, servers.two):
        await wait_until_ready(base)
    tree = "ctxmem://conversations/watched/tree"
    async with (
        client_of(servers.one, ALICE) as listener,
        client_of(servers.two, ALICE) as alice,
        client_of(servers.two, BOB) as bob,
        listener.listen(resource_subscriptions=[tree]) as stream,
    ):
        events = aiter(stream)
        await Caller(bob).append("bob's", "watched")
        first = await Caller(alice).append("one", "watched")
        assert await next_uri(events) == tree
        await Caller(listener).append("by itself", "watched")
        assert await next_uri(events) == tree
        await Caller(alice).record("revert_to", conversation_id="watched", turn_id=first["turn_id"])
        assert await next_uri(events) == tree
        with anyio.move_on_after(0.1) as quiet:
            await anext(events)
        assert quiet.cancelled_caught, "one notification for each change"
        with started_server().connect() as connection:
            connection.execute(CUT, (conninfo_to_dict(servers.url)["dbname"],))
        assert await next_uri(events) == tree, "what happened while it was gone is not known"
        await Caller(alice).record("forget_conversation", conversation_id="watched", confirm="watched")
        assert await next_uri(events) == tree


async def test_servers_share_the_team_in_the_database(servers: Servers) -> None:
    """Principals, tokens, spaces and the audit are those of the database."""
    for base in (servers.one, servers.two):
        await wait_until_ready(base)
    settings = Settings(servers.folder / "admin", store_url=servers.url)
    token = await asyncio.to_thread(add_principal, settings, "carol")
    team = open_team(settings)
    await team.add_space("web", 1.0)
    await team.set_right("web", "token:carol", Right.CONTINUE)
    for number, base in enumerate((servers.one, servers.two)):
        async with client_of(f"{base}/spaces/web", token) as client:
            appended = await Caller(client).append(f"turn {number}", "shared")
            assert appended["index"] == number
    lines = [(line.principal, line.action, line.space) for line in await team.audit()]
    # The same within a minute is one line of each server.
    assert lines.count(("token:carol", "append", "web")) == 2
    await team.remove_principal("carol", 2.0)
    for base in (servers.one, servers.two):
        async with httpx2.AsyncClient() as http:
            found = await http.get(f"{base}/spaces", headers={"Authorization": f"Bearer {token}"})
            assert found.status_code == 401
    await team.close()
    assert list(servers.folder.rglob("*.sqlite3")) == []


def add_principal(settings: Settings, name: str) -> str:
    """Adds a principal by the command. Returns its token."""
    environ = {**os.environ, "CTXMEM_STORE_URL": str(settings.store_url), "CTXMEM_DATA_DIR": str(settings.data_dir)}
    command = [sys.executable, "-m", "ctxmem_mcp", "principals", "add", name, "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, check=True)
    token: str = json.loads(done.stdout)["token"]
    return token
