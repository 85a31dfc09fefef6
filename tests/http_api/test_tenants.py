"""Tenants are opened on demand and closed when idle; expired data is swept, open or not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from ctxmem_mcp.http_api import tenants as module
from ctxmem_mcp.http_api.tenants import Tenants
from ctxmem_mcp.memory import expiry
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.record_files import EXPIRES, SESSIONS, RecordFiles
from ctxmem_mcp.record_stores.files import FileRecordStore
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.stores.records import Commit
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from tests.http_api.test_sessions import create

pytestmark = pytest.mark.anyio


async def test_concurrent_requests_open_a_tenant_once(settings: Settings) -> None:
    async with Tenants(settings, False) as tenants:
        memories = await asyncio.gather(*(tenants.memory_for("token:alice") for _ in range(20)))
        assert len({id(memory) for memory in memories}) == 1
        assert tenants.open_count == 1
        assert await tenants.memory_for("token:bob") is not memories[0]


async def test_idle_tenants_are_closed_and_reopen_with_their_data(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_TENANTS_MAX", 2)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    async with Tenants(settings, False) as tenants:
        async with tenants.hold("token:busy"):
            for i in range(5):
                async with tenants.hold(f"token:{i}"):
                    memory = await tenants.memory_for(f"token:{i}")
                    await memory.append(NewTurn("user", f"stored by {i}"), conversation_id="c")
            assert tenants.open_count <= 2
            assert (await tenants.get("token:busy")).users == 1
        for i in range(5):
            assert (await (await tenants.memory_for(f"token:{i}")).turn("c", "t0")).content == f"stored by {i}"


async def test_idle_tenants_that_several_requests_close_at_once_are_closed_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    async with Tenants(settings, False) as tenants:
        for i in range(5):
            async with tenants.hold(f"token:{i}"):
                await (await tenants.memory_for(f"token:{i}")).append(NewTurn("user", "a"), conversation_id="c")
        monkeypatch.setattr(module, "OPEN_TENANTS_MAX", 2)

        async def use(name: str) -> None:
            async with tenants.hold(name):
                pass

        await asyncio.gather(*(use(f"token:{i % 5}") for i in range(10)))
        for i in range(5):
            assert (await (await tenants.memory_for(f"token:{i}")).turn("c", "t0")).content == "a"


async def test_records_of_a_tenant_that_is_opened_again_while_it_closes_stay_open(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    close, closed = FileRecordStore.close, []

    async def note_close(records: FileRecordStore) -> None:
        closed.append(records)
        await close(records)

    monkeypatch.setattr(FileRecordStore, "close", note_close)
    async with Tenants(settings, False) as tenants:
        for name in ("token:a", "token:b"):
            async with tenants.hold(name):
                tenants.records_of(name)
        monkeypatch.setattr(module, "OPEN_TENANTS_MAX", 1)
        before = tenants.records_of("token:a")
        closing = asyncio.create_task(tenants._close_idle())
        while tenants.open_count == 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        async with tenants.hold("token:a"):
            after = tenants.records_of("token:a")
            await closing
            assert before in closed
            assert after not in closed
            assert tenants.records_of("token:a") is after


async def test_expired_data_of_closed_tenants_is_swept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "CONFIRM_SECONDS", 0.05)
    folder = await create_expired(settings)
    assert files_with_data(folder)
    async with Tenants(settings, False), asyncio.timeout(10):
        while True:
            if not files_with_data(folder):
                break
            await asyncio.sleep(0.01)


async def create_expired(settings: Settings) -> Path:
    """Creates a principal's folder with a conversation and an empty session that expired a day ago."""
    async with Tenants(settings, False) as tenants:
        memory = await tenants.memory_for("token:gone")
        receipt = await memory.append(NewTurn("user", "QUAGGA"), conversation_id="c", retention_days=1)
        assert receipt.index == 0
        folder = tenants.folder_of("token:gone")
    store = SqliteStore(folder)
    state = await store.load("c", 0)
    assert state is not None
    past = time.time() - 86_400
    await store.commit(Commit(replace(state, version=state.version + 1, updated=past - 86_400, expires=past)), past - 1)
    await store.close()
    record = {"name": "QUAGGA", "system_prompt": None, "context_budget": 8000, "space_id": None, "created": past}
    RecordFiles(folder, SESSIONS).put("session_0123456789abcdef", {**record, EXPIRES: past})
    return folder


async def test_an_expired_session_is_not_found_before_it_is_swept(http: httpx2.AsyncClient, settings: Settings) -> None:
    session = (await create(http, name="soon over"))["id"]
    path = f"/v1/chat/sessions/{session}"
    records = RecordFiles(settings.data_dir, SESSIONS)
    record = records.get(session)
    assert record is not None
    assert (await http.get(path)).status_code == 200
    records.put(session, {**record, EXPIRES: record["created"] - 1})
    assert (await http.get(path)).status_code == 404
    assert (await http.get(f"{path}/context")).status_code == 404
    assert (await http.get("/v1/chat/sessions")).json()["data"] == []


def files_with_data(folder: Path) -> list[Path]:
    sessions = [path for path in (folder / SESSIONS).glob("*") if b"QUAGGA" in path.read_bytes()]
    return sessions + list((folder / "conversations").glob("*.ctxmem"))
