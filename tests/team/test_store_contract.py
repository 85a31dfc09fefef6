"""The contract of a team store. A further store is a further parameter of `open_team`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ctxmem_mcp.errors import InvalidArgument, NotFound
from ctxmem_mcp.team.base import TeamStore
from ctxmem_mcp.team.postgres import PostgresTeam
from ctxmem_mcp.team.records import AuditLine, Right, Token
from ctxmem_mcp.team.sqlite import SqliteTeam
from tests.postgres_server import started_server

pytestmark = pytest.mark.anyio

Open = Callable[[], TeamStore]
ACTIONS = ("read", "forget", "share")
ALICE, BOB = "token:alice", "token:bob"


@pytest.fixture(scope="module")
def database() -> str:
    return started_server().create_database()


@pytest.fixture
def empty_database(database: str) -> Iterator[str]:
    """A database whose team store is emptied after the test."""
    yield database
    with psycopg.connect(database, autocommit=True) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE starts_with(tablename, 'team_')")
        for (table,) in tables.fetchall():
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier("ctxmem", table)))


@pytest.fixture(params=["sqlite", "postgres"])
async def open_team(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the same store again and again, as several processes do."""
    url = request.getfixturevalue("empty_database") if request.param == "postgres" else None
    async with AsyncExitStack() as stack:

        def open_one() -> TeamStore:
            store = SqliteTeam(tmp_path) if url is None else PostgresTeam(url, 2)
            stack.push_async_callback(store.close)
            return store

        yield open_one


def token(number: int, expires: float | None = None) -> Token:
    return Token(bytes([number]) * 32, 10.0, expires)


async def test_reading_an_empty_store_creates_nothing(open_team: Open, tmp_path: Path) -> None:
    team = open_team()
    assert not await team.is_configured()
    assert await team.principal_of(b"x", 0) is None
    assert (await team.principals(), await team.spaces(), await team.audit()) == ([], [], [])
    assert await team.right_in("web", ALICE) is None
    assert os.listdir(tmp_path) == []


async def test_what_one_has_changed_another_sees_at_once(open_team: Open) -> None:
    admin, server = open_team(), open_team()
    await admin.add_principal("alice", token(1))
    assert await server.is_configured()
    assert await server.principal_of(token(1).digest, 20) == ALICE
    space = await admin.add_space("web", 5.0)
    assert await admin.set_right("web", ALICE, Right.READ)
    assert await server.right_in("web", ALICE) == (space, Right.READ)
    assert await server.spaces_of(ALICE) == [(space, Right.READ)]
    await admin.remove_principal("alice", 30.0)
    assert await server.principal_of(token(1).digest, 20) is None
    assert await server.right_in("web", ALICE) is None
    assert await server.is_configured()


async def test_a_token_is_valid_until_it_expires_or_is_replaced(open_team: Open) -> None:
    team = open_team()
    await team.add_principal("alice", token(1, expires=100.0))
    assert [await team.principal_of(token(1).digest, at) for at in (99.9, 100.0)] == [ALICE, None]
    await team.replace_tokens("alice", token(2), 50.0)
    assert [await team.principal_of(token(1).digest, at) for at in (49.9, 50.0)] == [ALICE, None]
    await team.replace_tokens("alice", token(3), 0.0)
    (alice,) = await team.principals()
    assert [one.digest for one in alice.tokens] == [token(3).digest]
    for unknown in ("bob", "Alice"):
        with pytest.raises(NotFound):
            await team.replace_tokens(unknown, token(4), 0.0)


async def test_a_removed_principal_comes_back_only_on_request(open_team: Open) -> None:
    team = open_team()
    await team.add_principal("alice", token(1))
    with pytest.raises(InvalidArgument, match="exists already"):
        await team.add_principal("alice", token(2), restore=True)
    await team.remove_principal("alice", 20.0)
    with pytest.raises(NotFound):
        await team.remove_principal("alice", 21.0)
    with pytest.raises(InvalidArgument, match="was removed"):
        await team.add_principal("alice", token(2))
    await team.add_principal("alice", token(3), restore=True)
    assert await team.principal_of(token(3).digest, 30) == ALICE
    assert await team.principal_of(token(1).digest, 30) is None


async def test_rights_are_replaced_and_taken_away(open_team: Open) -> None:
    team = open_team()
    await team.add_space("web", 1.0)
    for right in (Right.READ, Right.MANAGE):
        assert await team.set_right("web", ALICE, right)
        assert not await team.set_right("web", ALICE, right)
    await team.set_right("web", BOB, Right.CONTINUE)
    assert await team.members("web") == {ALICE: Right.MANAGE, BOB: Right.CONTINUE}
    assert await team.set_right("web", ALICE, None)
    assert not await team.set_right("web", ALICE, None)
    assert await team.members("web") == {BOB: Right.CONTINUE}
    with pytest.raises(NotFound):
        await team.set_right("api", ALICE, Right.READ)


async def test_a_space_made_again_is_another(open_team: Open) -> None:
    team = open_team()
    first = await team.add_space("web", 1.0)
    await team.set_right("web", ALICE, Right.READ)
    with pytest.raises(InvalidArgument):
        await team.add_space("web", 2.0)
    assert await team.remove_space("web") == first
    second = await team.add_space("web", 3.0)
    assert second.tenant != first.tenant
    assert await team.members("web") == {}
    await team.remove_space("web")
    with pytest.raises(NotFound):
        await team.members("web")
    with pytest.raises(NotFound):
        await team.remove_space("web")


async def test_what_another_store_has_is_adopted_and_revives_nothing(open_team: Open, tmp_path: Path) -> None:
    other, team = SqliteTeam(tmp_path / "other"), open_team()
    for number, name in enumerate(("alice", "bob", "carol")):
        await other.add_principal(name, token(number))
    await other.remove_principal("bob", 20.0)
    web, api = await other.add_space("web", 1.0), await other.add_space("api", 2.0)
    await other.set_right("web", ALICE, Right.MANAGE)
    await other.set_right("api", ALICE, Right.READ)
    here = await team.add_space("api", 3.0)
    principals = await other.principals()
    spaces = {web: await other.members("web"), api: await other.members("api")}
    await other.close()
    await team.adopt(principals, spaces)
    assert await team.principals() == principals
    assert (await team.spaces(), await team.members("api")) == ([here, web], {})
    assert await team.right_in("web", ALICE) == (web, Right.MANAGE)
    await team.remove_principal("carol", 30.0)
    await team.set_right("web", ALICE, None)
    await team.adopt(principals, spaces)
    assert await team.principal_of(token(2).digest, 20) is None
    assert await team.members("web") == {}


async def test_the_audit_returns_the_newest_lines_that_fit(open_team: Open) -> None:
    team = open_team()
    lines = [
        AuditLine(float(i), (ALICE, BOB)[i % 2], ACTIONS[i % 3], "web" if i % 4 else None, f"c{i % 5}")
        for i in range(30)
    ]
    for line in lines:
        await team.record(line, 1_000)
    assert await team.audit() == lines
    assert await team.audit(limit=4) == lines[-4:]
    assert await team.audit(principal=BOB, action="read") == [
        one for one in lines if (one.principal, one.action) == (BOB, "read")
    ]
    assert await team.audit(space="web", conversation="c3", since=9.0) == [
        one for one in lines if one.space == "web" and one.conversation == "c3" and one.at >= 9
    ]
