"""A team store filled for a test, and clients of its principals."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from ctxmem_mcp.serve.run import http_app
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.records import TOKEN_KIND, Right, Token, make_token, token_digest
from ctxmem_mcp.team.sqlite import SqliteTeam
from tests.http_api.conftest import client_of, running

Clients = Mapping[str, httpx2.AsyncClient]


async def add_principals(data_dir: Path, *names: str) -> dict[str, str]:
    """Adds principals; returns their tokens."""
    team, tokens = SqliteTeam(data_dir), {name: make_token() for name in names}
    for name, token in tokens.items():
        await team.add_principal(name, Token(token_digest(token), time.time(), None))
    await team.close()
    return tokens


async def share(data_dir: Path, space: str, rights: Mapping[str, Right]) -> None:
    """Adds a space and the rights in it."""
    team = SqliteTeam(data_dir)
    await team.add_space(space, time.time())
    for name, right in rights.items():
        await team.set_right(space, TOKEN_KIND + name, right)
    await team.close()


@asynccontextmanager
async def served_team(settings: Settings, *names: str, **changed: Any) -> AsyncIterator[Clients]:
    """Runs a server for these principals; yields a client for each."""
    tokens = await add_principals(settings.data_dir, *names)
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(running(http_app(replace(settings, **changed), "127.0.0.1")))
        yield {name: await stack.enter_async_context(client_of(app, token)) for name, token in tokens.items()}


def in_space(client: httpx2.AsyncClient, space: str) -> httpx2.AsyncClient:
    """Returns a client like another, whose paths are those of a shared space."""
    base = client.base_url.join(f"/spaces/{space}/")
    return httpx2.AsyncClient(transport=client._transport, base_url=base, headers=client.headers, timeout=100)
