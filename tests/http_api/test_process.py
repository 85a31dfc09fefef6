"""The service as a process: the official MCP client with a token, stopping while it works, killed while it works."""

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
from tests.http_api.test_sessions import created, said
from tests.mcp_server.conftest import Caller

pytestmark = pytest.mark.anyio


async def up(base: str) -> None:
    async with asyncio.timeout(20), httpx2.AsyncClient() as http:
        while True:
            try:
                assert (await http.get(f"{base}/ready")).status_code == 200
                return
            except httpx2.TransportError:
                await asyncio.sleep(0.02)


async def test_the_official_client_sees_only_its_own_conversations(tmp_path: Path) -> None:
    with served(tmp_path / "data", tokens=TOKENS) as base:
        await up(base)
        for token, word in ((ALICE, "ALPHA"), (BOB, "OMEGA")):
            async with (
                httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
                Client(streamable_http_client(f"{base}/mcp", http_client=http)) as client,
            ):
                call = Caller(client)
                await call.append(word, "same")
                _, text = await call.text("get_context", conversation_id="same")
                assert word in text
                assert ("ALPHA" in text) != ("OMEGA" in text)


async def talked(base: str, process: subprocess.Popen[str], end: Callable[[], None]) -> tuple[str, set[str], list[Any]]:
    """Four clients add messages as fast as they can; after forty the server is ended. The session, what was
    acknowledged, and what each client saw last."""
    acknowledged: set[str] = set()
    async with httpx2.AsyncClient(base_url=base, timeout=30) as http:
        session = (await created(http))["id"]

        async def talk(speaker: int) -> None:
            for i in range(10_000):
                content = f"{speaker}:{i}"
                await said(http, session, "user", content)
                acknowledged.add(content)
                if len(acknowledged) == 40:
                    end()

        seen = await asyncio.gather(*(talk(speaker) for speaker in range(4)), return_exceptions=True)
    assert process.wait(timeout=20) is not None
    return session, acknowledged, seen


async def test_a_stop_finishes_requests_in_progress_and_keeps_acknowledged_messages(tmp_path: Path) -> None:
    with started(tmp_path / "data") as (base, process):
        await up(base)
        session, acknowledged, seen = await talked(base, process, process.terminate)
        assert process.returncode in (0, -signal.SIGTERM)
    # What ended a client's talk is a connection that is not taken any more, never a refusal and no half answer.
    assert all(isinstance(end, httpx2.TransportError) for end in seen)
    assert len(acknowledged) >= 40
    assert acknowledged <= await kept(tmp_path / "data", session)


async def test_a_kill_keeps_acknowledged_messages(tmp_path: Path) -> None:
    with started(tmp_path / "data") as (base, process):
        await up(base)
        session, acknowledged, _ = await talked(base, process, process.kill)
    assert len(acknowledged) >= 40
    assert acknowledged <= await kept(tmp_path / "data", session)


async def kept(data: Path, session: str) -> set[str]:
    """What a new process finds."""
    with served(data) as base:
        await up(base)
        async with httpx2.AsyncClient(base_url=base) as http:
            found: list[Any] = []
            while True:
                answer = await http.get(
                    f"/v1/chat/sessions/{session}/messages", params={"limit": 200, "offset": len(found)}
                )
                page = answer.json()["data"]
                found += page
                if not page:
                    return {message["content"] for message in found}


def test_a_token_of_the_token_command_authenticates(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "ctxmem_mcp", "token", "alice", "--json"],
        capture_output=True, text=True, check=True, env={**os.environ, "CTXMEM_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    told = json.loads(made.stdout)
    (tmp_path / "tokens").write_text(told["line"] + "\n" + new_token("bob")[1] + "\n", encoding="utf-8")
    with served(tmp_path / "data", tokens_file=str(tmp_path / "tokens")) as base:
        asyncio.run(up(base))
        for token, status in ((told["token"], 200), (told["token"] + "x", 401)):
            answer = httpx2.get(f"{base}/v1/spaces", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == status
    assert told["token"] not in told["line"]


def test_a_stdio_start_imports_nothing_of_the_service() -> None:
    code = "import sys, ctxmem_mcp.serve.run, ctxmem_mcp.mcp_server.server; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if name.startswith(("ctxmem_mcp.http_api", "ctxmem_mcp.http_api.gateway"))] == []
    assert not {"jwt.jwks_client", "aiosqlite", "sqlite3"} & set(loaded)
