"""The service in this process: a real app with a real data folder, called through ASGI."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from ctxmem_mcp.serve.run import http_app
from ctxmem_mcp.settings import Settings

BASE = "http://127.0.0.1:8377"
ALICE, BOB = (f"{name}-{secrets.token_hex(16)}" for name in ("alice", "bob"))
TOKENS = f"alice:{ALICE},bob:{BOB}"

Serve = Callable[..., Awaitable[httpx2.AsyncClient]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@asynccontextmanager
async def running(app: Starlette) -> AsyncIterator[Starlette]:
    """Runs the app's lifespan inside the block, as a server does."""
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: Starlette, token: str | None = None) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers, timeout=100)


@pytest.fixture
async def serve(settings: Settings) -> AsyncIterator[Serve]:
    """Starts the service with changed settings, and returns a client."""
    async with AsyncExitStack() as stack:

        async def start(token: str | None = None, **changed: Any) -> httpx2.AsyncClient:
            app = await stack.enter_async_context(running(http_app(replace(settings, **changed), "127.0.0.1")))
            return await stack.enter_async_context(client_of(app, token))

        yield start


@pytest.fixture
async def http(serve: Serve) -> httpx2.AsyncClient:
    """A service without tokens."""
    return await serve()


@pytest.fixture
async def two(settings: Settings) -> AsyncIterator[tuple[httpx2.AsyncClient, httpx2.AsyncClient]]:
    """Alice's and Bob's clients of one service."""
    app = http_app(replace(settings, tokens=TOKENS), "127.0.0.1")
    async with running(app), client_of(app, ALICE) as alice, client_of(app, BOB) as bob:
        yield alice, bob
