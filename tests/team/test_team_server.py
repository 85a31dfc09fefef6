"""Principals, limits and the audit of a running server, which another process changes meanwhile."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ctxmem_mcp.http_api import middleware
from ctxmem_mcp.http_api.page.access import CHANGE_HEADER
from ctxmem_mcp.private_files import TEAM
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.records import DENIED, TOKEN_KIND, AuditLine, Right, Token, make_token, token_digest
from ctxmem_mcp.team.sqlite import SqliteTeam
from tests.http_api.test_principals import SECRET, call, create_data
from tests.team.teams import in_space, served_team, share

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, durability="normal")


@pytest.fixture
async def team(settings: Settings) -> AsyncIterator[SqliteTeam]:
    """The team store, as the admin's commands open it."""
    store = SqliteTeam(settings.data_dir)
    yield store
    await store.close()


def token(seconds: float | None = None) -> tuple[str, Token]:
    secret, now = make_token(), time.time()
    return secret, Token(token_digest(secret), now, None if seconds is None else now + seconds)


async def status(client: httpx2.AsyncClient, secret: str | None = None) -> int:
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    return (await client.get("/v1/chat/sessions", headers=headers)).status_code


# ---------------------------------------------------------------- principals


async def test_a_removed_principals_token_is_rejected_at_once(settings: Settings, team: SqliteTeam) -> None:
    async with served_team(settings, "alice", "bob") as clients:
        assert await status(clients["alice"]) == 200
        await team.remove_principal("alice", time.time())
        assert (await status(clients["alice"]), await status(clients["bob"])) == (401, 200)
        await team.remove_principal("bob", time.time())
        assert await status(clients["bob"]) == 401  # a server without principals is not open to all


async def test_a_rotated_token_replaces_the_others(settings: Settings, team: SqliteTeam) -> None:
    async with served_team(settings, "alice") as clients:
        first, second = token(), token()
        await team.replace_tokens("alice", first[1], time.time() + 3_600)
        assert [await status(clients["alice"], one) for one in (None, first[0])] == [200, 200]
        await team.replace_tokens("alice", second[1], time.time())
        assert [await status(clients["alice"], one) for one in (None, first[0], second[0])] == [401, 401, 200]


async def test_an_expired_token_is_rejected(settings: Settings, team: SqliteTeam) -> None:
    async with served_team(settings, "alice") as clients:
        secret, expired = token(-1)
        await team.add_principal("bob", expired)
        assert await status(clients["alice"], secret) == 401


async def test_the_first_principal_closes_a_server_that_was_open(serve: Any, settings: Settings) -> None:
    http = await serve()
    assert await status(http) == 200
    secret, added = token()
    store = SqliteTeam(settings.data_dir)
    await store.add_principal("alice", added)
    assert (await status(http), await status(http, secret)) == (401, 200)
    http.headers["Authorization"] = f"Bearer {secret}"
    await call(http, "append_turn", role="user", content="hi", conversation_id="c")
    assert [(line.principal, line.action) for line in await store.audit()] == [("token:alice", "append")]
    await store.close()


async def test_only_hashes_of_tokens_are_stored(settings: Settings) -> None:
    async with served_team(settings, "alice") as clients:
        secret = clients["alice"].headers["authorization"].removeprefix("Bearer ").encode()
        await status(clients["alice"])
        for path in settings.data_dir.rglob("*"):
            assert path.is_dir() or secret not in path.read_bytes()


async def test_a_right_that_is_taken_away_is_gone_at_once(settings: Settings, team: SqliteTeam) -> None:
    async with served_team(settings, "alice") as clients:
        await share(settings.data_dir, "web", {"alice": Right.MANAGE})
        web = in_space(clients["alice"], "web")
        assert not (await call(web, "append_turn", role="user", content="hi", conversation_id="c")).get("isError")
        await team.set_right("web", f"{TOKEN_KIND}alice", Right.READ)
        assert (await call(web, "append_turn", role="user", content="hi", conversation_id="c")).get("isError")
        assert not (await call(web, "get_context", conversation_id="c")).get("isError")
        await team.set_right("web", f"{TOKEN_KIND}alice", None)
        assert await status(web) == 404


async def test_a_space_made_again_under_its_name_is_empty(settings: Settings, team: SqliteTeam) -> None:
    async with served_team(settings, "alice") as clients:
        web = in_space(clients["alice"], "web")
        for _ in range(2):
            await share(settings.data_dir, "web", {"alice": Right.MANAGE})
            assert (await call(web, "list_conversations"))["structuredContent"]["conversations"] == []
            await call(web, "append_turn", role="user", content=SECRET, conversation_id="c")
            await team.remove_space("web")
            assert await status(web) == 404


async def test_a_response_in_progress_ends_when_its_token_is_revoked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Any] = []
    valid = True

    async def send(message: Any) -> None:
        sent.append(message)

    async def is_valid() -> bool:
        return valid

    monkeypatch.setattr(middleware, "RECHECK_SECONDS", 0.0)
    response = middleware._RevocableResponse(send, is_valid)
    await response({"type": "http.response.body", "body": b"first", "more_body": True})
    valid = False
    with pytest.raises(middleware.AccessRevoked):
        await response({"type": "http.response.body", "body": SECRET.encode(), "more_body": True})
    assert [message["body"] for message in sent] == [b"first"]


async def test_a_damaged_team_store_admits_nobody(settings: Settings) -> None:
    async with served_team(settings, "alice") as clients:
        await status(clients["alice"])
        with closing(sqlite3.connect(settings.data_dir / TEAM)) as db:
            db.execute("DROP TABLE tokens")
        assert await status(clients["alice"]) == 503


# ---------------------------------------------------------------- limits


async def test_concurrent_requests_of_one_principal_are_limited(settings: Settings) -> None:
    async with served_team(settings, "alice", "bob", http_concurrent_requests=2) as clients:
        started, release = asyncio.Event(), asyncio.Event()

        async def slow_body() -> AsyncIterator[bytes]:
            started.set()
            yield b"{"
            await release.wait()
            yield b"}"

        waiting = []
        for _ in range(2):
            started.clear()
            sending = clients["alice"].post("/v1/chat/sessions", content=slow_body())
            waiting.append(asyncio.create_task(sending))
            await started.wait()
        rejected = await clients["alice"].get("/v1/chat/sessions")
        assert rejected.status_code == 429
        assert int(rejected.headers["retry-after"]) >= 1
        assert "CTXMEM_HTTP_CONCURRENT_REQUESTS" in rejected.text
        assert await status(clients["bob"]) == 200
        release.set()
        assert {response.status_code for response in await asyncio.gather(*waiting)} == {200}
        assert await status(clients["alice"]) == 200


async def test_a_full_memory_stores_no_more_until_something_is_forgotten(settings: Settings) -> None:
    async with served_team(settings, "alice", "bob", stored_turns_max=3) as clients:
        await share(settings.data_dir, "web", {"alice": Right.MANAGE})
        for http in (clients["alice"], in_space(clients["alice"], "web")):
            for i in range(3):
                result = await call(http, "append_turn", role="user", content=f"turn {i}", conversation_id="c")
                assert not result.get("isError")
            result = await call(http, "append_turn", role="user", content="more", conversation_id="c")
            assert result["isError"]
            assert "3 turns" in json.dumps(result)
            assert "CTXMEM_STORED_TURNS_MAX" in json.dumps(result)
            refused = await http.post("/v1/memory", json={"messages": [{"role": "user", "content": "other"}]})
            assert refused.status_code == 413
            assert "CTXMEM_STORED_TURNS_MAX" in refused.json()["error"]
            assert not (await call(http, "get_context", conversation_id="c")).get("isError")
            assert not (await call(clients["bob"], "append_turn", role="user", content="mine")).get("isError")
            await call(http, "forget_conversation", conversation_id="c", confirm="c")
            assert not (await call(http, "append_turn", role="user", content="again")).get("isError")


async def test_stored_bytes_are_limited(settings: Settings) -> None:
    async with served_team(settings, "alice", stored_bytes_max=300_000) as clients:
        stored = 0
        while not (result := await call(clients["alice"], "append_turn", role="user", content="x y z " * 9_000)).get(
            "isError"
        ):
            stored += 1
        assert stored > 0
        assert "CTXMEM_STORED_BYTES_MAX" in json.dumps(result)


# ---------------------------------------------------------------- audit


def facts(lines: Any) -> set[tuple[str, str, str | None, str | None, str]]:
    return {(one.principal, one.action, one.space, one.conversation, one.outcome) for one in lines}


async def test_the_audit_has_who_did_what_and_no_words(settings: Settings, team: SqliteTeam) -> None:
    async with served_team(settings, "alice", "bob") as clients:
        await share(settings.data_dir, "web", {"alice": Right.MANAGE, "bob": Right.READ})
        alice, bob = (in_space(clients[name], "web") for name in ("alice", "bob"))
        ids = await create_data(alice)
        await call(bob, "get_context", conversation_id=ids.session, query="QUAGGA")
        await call(bob, "forget_conversation", conversation_id=ids.session, confirm=ids.session)
        page = {CHANGE_HEADER: (await bob.get("/ui/api/start")).json()["page_token"]}
        refused = await bob.post(f"/ui/api/conversations/{SECRET}/forget", json={"confirm": SECRET}, headers=page)
        assert refused.status_code == 403
        await alice.put("/members/token:carol", json={"right": "continue"})
        await call(alice, "forget_conversation", conversation_id=ids.session, confirm=ids.session)
        await call(clients["bob"], "append_turn", role="user", content=SECRET, conversation_id="own")
    found = await team.audit(limit=1_000)
    assert {
        ("token:alice", "append", "web", ids.session, "done"),
        ("token:bob", "read", "web", ids.session, "done"),
        ("token:bob", "forget", "web", ids.session, DENIED),
        ("token:alice", "share", "web", None, "done"),
        ("token:alice", "forget", "web", ids.session, "done"),
        ("token:bob", "append", None, "own", "done"),
    } <= facts(found)
    assert [one.target for one in found if one.action == "share"] == ["carol continue"]
    assert [one.at for one in found] == sorted(one.at for one in found)
    assert len([one for one in found if one.action == "append" and one.space == "web"]) == 1  # of 61 in a minute
    assert "QUAGGA" not in repr(found)
    assert b"QUAGGA" not in (settings.data_dir / TEAM).read_bytes()
    assert facts(await team.audit(principal="token:bob", action="forget")) == {
        ("token:bob", "forget", "web", ids.session, DENIED),
        ("token:bob", "forget", "web", None, DENIED),
    }
    assert await team.audit(since=time.time() + 9) == []


async def test_the_audit_is_bounded(team: SqliteTeam, settings: Settings) -> None:
    for i in range(450):
        await team.record(AuditLine(float(i), "token:a", "read"), 200)
    found = await team.audit(limit=1_000)
    assert 200 <= len(found) <= 300
    assert found[-1].at == 449
    with closing(sqlite3.connect(settings.data_dir / TEAM)) as db:
        assert db.execute("SELECT count(*) FROM audit").fetchone()[0] == len(found)


async def test_forgetting_needs_no_audit(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        from ctxmem_mcp.errors import StoreUnavailable

        raise StoreUnavailable("disk full")

    async with served_team(settings, "alice") as clients:
        monkeypatch.setattr(SqliteTeam, "record", fail)
        await call(clients["alice"], "append_turn", role="user", content="hi", conversation_id="c")
        result = await call(clients["alice"], "forget_conversation", conversation_id="c", confirm="c")
        assert not result.get("isError")
