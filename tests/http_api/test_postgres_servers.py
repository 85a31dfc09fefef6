"""Two servers before one database: what one stores the other reads, forks and forgets, principal by principal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.http_api.conftest import ALICE, BOB, TOKENS
from tests.http_api.service_process import served
from tests.http_api.test_process import wait_until_ready
from tests.mcp_server.conftest import Caller
from tests.postgres_server import started_server

pytestmark = pytest.mark.anyio

TURNS = 12


def files_below(folder: Path) -> list[Path]:
    return list(folder.rglob("*.ctxmem"))


async def append_alternately(bases: list[str], token: str, word: str) -> list[str]:
    """Two agents append to one conversation, each through a server of its own, at the same time."""

    async def agent(base: str, name: str) -> None:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=120) as http,
            Client(streamable_http_client(f"{base}/mcp", http_client=http)) as client,
        ):
            call = Caller(client)
            for i in range(TURNS):
                await call.append(f"{word} {name}{i}", "same")

    await asyncio.gather(*(agent(base, name) for base, name in zip(bases, "ab", strict=True)))
    return [f"{word} {name}{i}" for name in "ab" for i in range(TURNS)]


async def test_two_servers_share_conversations_and_keep_principals_apart(tmp_path: Path) -> None:
    url = started_server().create_database()
    with (
        served(tmp_path / "one", tokens=TOKENS, store_url=url) as one,
        served(tmp_path / "two", tokens=TOKENS, store_url=url) as two,
    ):
        for base in (one, two):
            await wait_until_ready(base)
        said = {token: await append_alternately([one, two], token, word) for token, word in ((ALICE, "A"), (BOB, "B"))}
        for base in (one, two):
            for token, words in said.items():
                async with (
                    httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=120) as http,
                    Client(streamable_http_client(f"{base}/mcp", http_client=http)) as client,
                ):
                    header, text = await Caller(client).text("get_context", conversation_id="same")
                    assert header["turns"] == 2 * TURNS, "none is lost, and none is doubled"
                    assert all(text.count(f"{word}\n") == 1 for word in words)
    assert files_below(tmp_path) == []
