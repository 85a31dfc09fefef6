"""The service as a process: the official MCP client with a token, and a stop or kill during requests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from ctxmem_mcp.http_api.auth.static_tokens import new_token
from tests.http_api.conftest import ALICE, BOB, TOKENS
from tests.http_api.service_process import served, started
from tests.http_api.test_sessions import add_message, create
from tests.mcp_server.conftest import Caller

pytestmark = pytest.mark.anyio


async def wait_until_ready(base: str) -> None:
    async with asyncio.timeout(20), httpx2.AsyncClient() as http:
        while True:
            try:
                assert (await http.get(f"{base}/ready")).status_code == 200
                return
            except httpx2.TransportError:
                await asyncio.sleep(0.02)


async def test_the_official_client_sees_only_its_own_conversations(tmp_path: Path) -> None:
    with served(tmp_path / "data", tokens=TOKENS) as base:
        await wait_until_ready(base)
        for token, word in ((ALICE, "ALPHA"), (BOB, "OMEGA")):
            async with (
                httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
                Client(streamable_http_client(f"{base}/mcp", http_client=http)) as client,
            ):
                call = Caller(client)
                await call.append(word, "same")
                _, text = await call.text("get_context", conversation_id="same")
                assert word in text
                assert ("ALPHA" in text) != ("OMEGA" in text)


async def add_until_end(
    base: str, process: subprocess.Popen[str], end: Callable[[], None]
) -> tuple[str, set[str], list[Any]]:
    """Four clients add messages as fast as they can; after forty the server is ended.

    Returns the session, the acknowledged messages, and the exception that ended each client.
    """
    acknowledged: set[str] = set()
    async with httpx2.AsyncClient(base_url=base, timeout=100) as http:
        session = (await create(http))["id"]

        async def add(client: int) -> None:
            for i in range(10_000):
                content = f"{client}:{i}"
                await add_message(http, session, "user", content)
                acknowledged.add(content)
                if len(acknowledged) == 40:
                    end()

        errors = await asyncio.gather(*(add(client) for client in range(4)), return_exceptions=True)
    assert process.wait(timeout=100) is not None
    return session, acknowledged, errors


async def test_a_stop_finishes_requests_in_progress_and_keeps_acknowledged_messages(tmp_path: Path) -> None:
    with started(tmp_path / "data") as (base, process):
        await wait_until_ready(base)
        session, acknowledged, errors = await add_until_end(base, process, process.terminate)
        assert process.returncode in (0, -signal.SIGTERM)
    # A client ends because its connection is refused, never with an error response or half a response.
    assert all(isinstance(end, httpx2.TransportError) for end in errors)
    assert len(acknowledged) >= 40
    assert acknowledged <= await stored_contents(tmp_path / "data", session)


async def test_a_kill_keeps_acknowledged_messages(tmp_path: Path) -> None:
    with started(tmp_path / "data") as (base, process):
        await wait_until_ready(base)
        session, acknowledged, _ = await add_until_end(base, process, process.kill)
    assert len(acknowledged) >= 40
    assert acknowledged <= await stored_contents(tmp_path / "data", session)


async def stored_contents(data: Path, session: str) -> set[str]:
    """Returns the contents that a new process finds."""
    with served(data) as base:
        await wait_until_ready(base)
        async with httpx2.AsyncClient(base_url=base) as http:
            found: list[Any] = []
            while True:
                response = await http.get(
                    f"/v1/chat/sessions/{session}/messages", params={"limit": 200, "offset": len(found)}
                )
                page = response.json()["data"]
                found += page
                if not page:
                    return {message["content"] for message in found}


def test_a_token_of_the_token_command_authenticates(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "ctxmem_mcp", "token", "alice", "--json"],
        capture_output=True, text=True, check=True, env={**os.environ, "CTXMEM_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    made_token = json.loads(made.stdout)
    (tmp_path / "tokens").write_text(made_token["line"] + "\n" + new_token("bob")[1] + "\n", encoding="utf-8")
    with served(tmp_path / "data", tokens_file=str(tmp_path / "tokens")) as base:
        asyncio.run(wait_until_ready(base))
        for token, status in ((made_token["token"], 200), (made_token["token"] + "x", 401)):
            response = httpx2.get(f"{base}/v1/spaces", headers={"Authorization": f"Bearer {token}"})
            assert response.status_code == status
    assert made_token["token"] not in made_token["line"]


def test_a_stdio_start_imports_nothing_of_the_service() -> None:
    code = "import sys, ctxmem_mcp.serve.run, ctxmem_mcp.mcp_server.server; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if name.startswith(("ctxmem_mcp.http_api", "ctxmem_mcp.http_api.gateway"))] == []
    assert not {"jwt.jwks_client", "aiosqlite", "sqlite3"} & set(loaded)
