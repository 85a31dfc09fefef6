"""Backup and restore of a team's data folder, whole and of one space, while a server process writes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ctxmem_mcp.__main__ import main
from ctxmem_mcp.backup import backup
from ctxmem_mcp.team.records import AuditLine, Right
from ctxmem_mcp.team.sqlite import SqliteTeam
from tests.http_api.service_process import served
from tests.http_api.test_principals import call
from tests.http_api.test_process import wait_until_ready
from tests.team.teams import add_principals, in_space, share

pytestmark = pytest.mark.anyio


async def append(http: httpx2.AsyncClient, word: str) -> None:
    result = await call(http, "append_turn", role="user", content=word, conversation_id="c")
    assert not result.get("isError"), result


async def append_until_cancelled(http: httpx2.AsyncClient) -> None:
    for i in range(10_000):
        await append(http, f"turn {i}")


async def turns_of(http: httpx2.AsyncClient) -> list[tuple[str, str]]:
    found = (await http.get("/ui/api/conversations/c/turns")).json()
    return [(turn["id"], turn["content"]) for turn in found.get("turns", ())]


def client(base: str, token: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=100)


async def test_a_backup_beside_a_writing_server_is_a_server_again(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "backup"
    token = (await add_principals(data, "alice"))["alice"]
    await share(data, "web", {"alice": Right.MANAGE})
    with served(data, durability="normal") as base:
        await wait_until_ready(base)
        async with client(base, token) as own, in_space(client(base, token), "web") as web:
            await append(own, "first")
            await append(web, "first")
            writing = [asyncio.create_task(append_until_cancelled(http)) for http in (own, web)]
            for _ in range(3):
                done = await backup(data, target)
                assert done.failed == {}
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)
            live = [await turns_of(http) for http in (own, web)]
    with served(target, durability="normal") as base:
        await wait_until_ready(base)
        async with client(base, token) as own, in_space(client(base, token), "web") as web:
            for http, all_turns in zip((own, web), live, strict=True):
                restored = await turns_of(http)
                assert 1 <= len(restored) <= len(all_turns)
                assert restored == all_turns[: len(restored)]
                await append(http, "it goes on")
    team = SqliteTeam(target)
    assert {(line.principal, line.action) for line in await team.audit()} >= {("token:alice", "append")}
    await team.close()


async def test_one_space_is_backed_up_and_restored_beside_its_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, target = tmp_path / "data", tmp_path / "web"
    token = (await add_principals(data, "alice"))["alice"]
    await share(data, "web", {"alice": Right.MANAGE})

    async def command(*words: str) -> Any:
        assert await asyncio.to_thread(main, ["--data-dir", *words]) == 0
        return json.loads(capsys.readouterr().out)

    with served(data, durability="normal") as base:
        await wait_until_ready(base)
        async with client(base, token) as own, in_space(client(base, token), "web") as web:
            await append(own, "alice's own")
            for i in range(3):
                await append(web, f"turn {i}")
            before = await turns_of(web)
            await command(str(data), "backup", str(target), "--space", "web", "--json")
            assert len(list((target / "conversations").iterdir())) == 1
            await call(web, "forget_conversation", conversation_id="c", confirm="c")
            assert await turns_of(web) == []
            folder = (await command(str(data), "spaces", "list", "--json"))[0]["folder"]
            (copy,) = (target / "conversations").iterdir()
            await command(folder, "import", "--again", str(copy), "--json")
            assert await turns_of(web) == before
            await append(web, "it goes on")
    team = SqliteTeam(data)
    lines: list[AuditLine] = list(await team.audit(action="backup"))
    assert [(line.principal, line.space) for line in lines] == [("local", "web")]
    await team.close()
