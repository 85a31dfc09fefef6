"""A team store in the PostgreSQL database of the conversations, so that all its servers share principals and spaces."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg

from ctxmem_mcp.stores.postgres.connection_errors import server_name, translate
from ctxmem_mcp.stores.postgres.database import CONNECT_SECONDS, Connection, Database, fetch, shared_database
from ctxmem_mcp.stores.postgres.rows import to_bytes, to_text
from ctxmem_mcp.stores.postgres.schema import SCHEMA
from ctxmem_mcp.team.records import TOKEN_KIND, AuditLine, PrincipalInfo, Right, Space, Token
from ctxmem_mcp.team.refusals import check_addition, known_space_name, unknown_principal, unknown_space

# Changes are made one after the other, as in a file; reading waits for none.
_LOCK = 0x63746D32  # "ctm2"
# Old lines of the audit are removed each time that a process has added so many.
TRIM_EVERY = 100

LOCK = "SELECT pg_advisory_xact_lock(%(lock)s)"
IS_CONFIGURED = f"SELECT EXISTS (SELECT 1 FROM {SCHEMA}.team_principals)"
KNOWN = "SELECT removed FROM team_principals WHERE name = %(name)s"
ADD_PRINCIPAL = """
INSERT INTO team_principals VALUES (%(name)s, %(now)s, NULL)
ON CONFLICT (name) DO UPDATE SET added = excluded.added, removed = NULL
"""
ADD_TOKEN = "INSERT INTO team_tokens VALUES (%(digest)s, %(name)s, %(now)s, %(expires)s)"
REMOVE_PRINCIPAL = "UPDATE team_principals SET removed = %(now)s WHERE name = %(name)s"
REMOVE_TOKENS = "DELETE FROM team_tokens WHERE name = %(name)s"
REMOVE_RIGHTS = "DELETE FROM team_rights WHERE principal = %(principal)s"
LIMIT_TOKENS = "UPDATE team_tokens SET expires = least(%(until)s, expires) WHERE name = %(name)s"
REMOVE_EXPIRED = "DELETE FROM team_tokens WHERE expires <= %(now)s"
ADOPT_PRINCIPAL = "INSERT INTO team_principals VALUES (%(name)s, %(now)s, %(removed)s) ON CONFLICT DO NOTHING"
TOKENS = "SELECT digest, name, added, expires FROM team_tokens ORDER BY added, digest"
PRINCIPALS = "SELECT name, added, removed FROM team_principals ORDER BY name"
PRINCIPAL_OF = "SELECT name FROM team_tokens WHERE digest = %(digest)s AND (expires IS NULL OR expires > %(now)s)"
SPACE = "SELECT name, id, added FROM team_spaces WHERE name = %(name)s"
SPACES = "SELECT name, id, added FROM team_spaces ORDER BY name"
ADD_SPACE = "INSERT INTO team_spaces VALUES (%(name)s, %(id)s, %(now)s) ON CONFLICT DO NOTHING"
REMOVE_SPACE = "DELETE FROM team_spaces WHERE id = %(id)s"
REMOVE_SPACE_RIGHTS = "DELETE FROM team_rights WHERE space = %(id)s"
RIGHT = "SELECT level FROM team_rights WHERE space = %(id)s AND principal = %(principal)s"
REMOVE_RIGHT = "DELETE FROM team_rights WHERE space = %(id)s AND principal = %(principal)s"
SET_RIGHT = """
INSERT INTO team_rights VALUES (%(id)s, %(principal)s, %(level)s)
ON CONFLICT (space, principal) DO UPDATE SET level = excluded.level
"""
MEMBERS = "SELECT principal, level FROM team_rights WHERE space = %(id)s ORDER BY principal"
SPACES_OF = """
SELECT name, id, added, level FROM team_rights JOIN team_spaces ON id = space
WHERE principal = %(principal)s ORDER BY name
"""
RIGHT_IN = """
SELECT name, id, added, level FROM team_spaces JOIN team_rights ON space = id
WHERE name = %(name)s AND principal = %(principal)s
"""
# The server does not wait for its disk: the setting holds until this statement's transaction ends.
RECORD = """
WITH unsynchronized AS (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO team_audit (at, principal, action, space, conversation, target, outcome)
SELECT %(at)s, %(principal)s, %(action)s, %(space)s, %(conversation)s, %(target)s, %(outcome)s FROM unsynchronized
"""
TRIM = """
DELETE FROM team_audit WHERE seq <= (SELECT seq FROM team_audit ORDER BY seq DESC OFFSET %(keep)s LIMIT 1)
"""
AUDIT = """
SELECT at, principal, action, space, conversation, target, outcome FROM team_audit
WHERE at >= %(since)s AND (%(principal)s::bytea IS NULL OR principal = %(principal)s)
    AND (%(space)s::bytea IS NULL OR space = %(space)s)
    AND (%(conversation)s::bytea IS NULL OR conversation = %(conversation)s)
    AND (%(action)s::text IS NULL OR action = %(action)s)
ORDER BY seq DESC LIMIT %(limit)s
"""

_T = TypeVar("_T")


class PostgresTeam:
    """A team store for all servers on one database."""

    def __init__(self, url: str, connections: int) -> None:
        """Connects to nothing yet. The process's stores on the same database use the same connections."""
        self._url, self._connections = url, connections
        self._database: Database | None = None
        self._recorded = 0

    async def is_configured(self) -> bool:
        return bool((await self._read(IS_CONFIGURED))[0][0])

    async def add_principal(self, name: str, token: Token, *, restore: bool = False) -> None:
        async def add(connection: Connection) -> None:
            known = await fetch(connection, KNOWN, {"name": to_bytes(name)})
            check_addition(name, bool(known), bool(known) and known[0][0] is not None, restore)
            await connection.execute(ADD_PRINCIPAL, {"name": to_bytes(name), "now": token.added})
            await _add_token(connection, name, token)

        await self._write(add)

    async def remove_principal(self, name: str, now: float) -> None:
        async def remove(connection: Connection) -> None:
            await _check_principal(connection, name)
            values = {"name": to_bytes(name), "principal": to_bytes(TOKEN_KIND + name), "now": now}
            for statement in (REMOVE_PRINCIPAL, REMOVE_TOKENS, REMOVE_RIGHTS):
                await connection.execute(statement, values)

        await self._write(remove)

    async def replace_tokens(self, name: str, token: Token, until: float) -> None:
        async def replace(connection: Connection) -> None:
            await _check_principal(connection, name)
            await connection.execute(LIMIT_TOKENS, {"name": to_bytes(name), "until": until})
            await connection.execute(REMOVE_EXPIRED, {"now": token.added})
            await _add_token(connection, name, token)

        await self._write(replace)

    async def principals(self) -> Sequence[PrincipalInfo]:
        async def read(connection: Connection) -> list[PrincipalInfo]:
            tokens: dict[bytes, list[Token]] = {}
            for digest, name, added, expires in await fetch(connection, TOKENS, {}):
                tokens.setdefault(name, []).append(Token(digest, added, expires))
            return [
                PrincipalInfo(to_text(name) or "", added, removed, tuple(tokens.get(name, ())))
                for name, added, removed in await fetch(connection, PRINCIPALS, {})
            ]

        return await self._run(read)

    async def principal_of(self, digest: bytes, now: float) -> str | None:
        rows = await self._read(PRINCIPAL_OF, digest=digest, now=now)
        return f"{TOKEN_KIND}{to_text(rows[0][0])}" if rows else None

    async def add_space(self, name: str, now: float) -> Space:
        space = Space(name, secrets.token_hex(8), now)

        async def add(connection: Connection) -> None:
            if await fetch(connection, SPACE, {"name": to_bytes(name)}):
                raise known_space_name(name)
            await connection.execute(ADD_SPACE, {"name": to_bytes(name), "id": space.id, "now": now})

        await self._write(add)
        return space

    async def remove_space(self, name: str) -> Space:
        async def remove(connection: Connection) -> Space:
            space = await _known_space(connection, name)
            for statement in (REMOVE_SPACE, REMOVE_SPACE_RIGHTS):
                await connection.execute(statement, {"id": space.id})
            return space

        return await self._write(remove)

    async def spaces(self) -> Sequence[Space]:
        return [_space(row) for row in await self._read(SPACES)]

    async def set_right(self, name: str, principal: str, right: Right | None) -> bool:
        async def change(connection: Connection) -> bool:
            space = await _known_space(connection, name)
            values = {"id": space.id, "principal": to_bytes(principal), "level": None if right is None else int(right)}
            before = await fetch(connection, RIGHT, values)
            await connection.execute(REMOVE_RIGHT if right is None else SET_RIGHT, values)
            return right != (Right(before[0][0]) if before else None)

        return await self._write(change)

    async def members(self, name: str) -> Mapping[str, Right]:
        async def read(connection: Connection) -> dict[str, Right]:
            space = await _known_space(connection, name)
            rows = await fetch(connection, MEMBERS, {"id": space.id})
            return {to_text(who) or "": Right(level) for who, level in rows}

        return await self._run(read)

    async def spaces_of(self, principal: str) -> Sequence[tuple[Space, Right]]:
        rows = await self._read(SPACES_OF, principal=to_bytes(principal))
        return [(_space(row), Right(row[3])) for row in rows]

    async def right_in(self, name: str, principal: str) -> tuple[Space, Right] | None:
        rows = await self._read(RIGHT_IN, name=to_bytes(name), principal=to_bytes(principal))
        return (_space(rows[0]), Right(rows[0][3])) if rows else None

    async def adopt(self, principals: Sequence[PrincipalInfo], spaces: Mapping[Space, Mapping[str, Right]]) -> None:
        async def add(connection: Connection) -> None:
            for one in principals:
                values: dict[str, object] = {"name": to_bytes(one.name), "now": one.added, "removed": one.removed}
                if (await connection.execute(ADOPT_PRINCIPAL, values)).rowcount:
                    for token in one.tokens:
                        await _add_token(connection, one.name, token)
            for space, rights in spaces.items():
                values = {"name": to_bytes(space.name), "id": space.id, "now": space.added}
                if (await connection.execute(ADD_SPACE, values)).rowcount:
                    for principal, right in rights.items():
                        values = {"id": space.id, "principal": to_bytes(principal), "level": int(right)}
                        await connection.execute(SET_RIGHT, values)

        await self._write(add)

    async def record(self, line: AuditLine, keep: int) -> None:
        values = {
            "at": line.at, "principal": to_bytes(line.principal), "action": line.action,
            "space": to_bytes(line.space), "conversation": to_bytes(line.conversation),
            "target": to_bytes(line.target), "outcome": line.outcome,
        }  # fmt: skip
        is_due = self._recorded % TRIM_EVERY == 0
        self._recorded += 1

        async def add(connection: Connection) -> None:
            await connection.execute(RECORD, values)
            if is_due:
                await connection.execute(TRIM, {"keep": keep})

        await self._run(add)

    async def audit(
        self,
        *,
        principal: str | None = None,
        space: str | None = None,
        conversation: str | None = None,
        action: str | None = None,
        since: float = 0,
        limit: int = 100,
    ) -> Sequence[AuditLine]:
        rows = await self._read(
            AUDIT, principal=to_bytes(principal), space=to_bytes(space), conversation=to_bytes(conversation),
            action=action, since=since, limit=limit,
        )  # fmt: skip
        return [
            AuditLine(row[0], to_text(row[1]) or "", row[2], to_text(row[3]), to_text(row[4]), to_text(row[5]), row[6])
            for row in reversed(rows)
        ]

    async def close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            await database.release()

    # ------------------------------------------------------------ the database

    async def _run(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        return await self._opened().run("", work)

    def _opened(self) -> Database:
        if self._database is None:
            self._database = shared_database(self._url, self._connections)
        return self._database

    async def _read(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        return await self._run(lambda connection: fetch(connection, query, values))

    async def _write(self, change: Callable[[Connection], Awaitable[_T]]) -> _T:
        async def run(connection: Connection) -> _T:
            await connection.execute(LOCK, {"lock": _LOCK})
            return await change(connection)

        return await self._opened().run_once("", run)


def is_configured(url: str) -> bool:
    """Returns whether a principal was ever added to the team store of a database, before a server starts.

    Raises:
        InvalidArgument: The URL can't be parsed.
        StoreUnavailable: The server can't be reached, or refuses.
    """
    server = server_name(url)
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
            found = connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.team_principals",)).fetchone()
            if found is None or found[0] is None:
                return False
            return connection.execute(IS_CONFIGURED).fetchone() == (True,)
    except psycopg.Error as error:
        raise translate(error, server) from error


async def _add_token(connection: Connection, name: str, token: Token) -> None:
    values = {"digest": token.digest, "name": to_bytes(name), "now": token.added, "expires": token.expires}
    await connection.execute(ADD_TOKEN, values)


async def _check_principal(connection: Connection, name: str) -> None:
    known = await fetch(connection, KNOWN, {"name": to_bytes(name)})
    if not known or known[0][0] is not None:
        raise unknown_principal(name)


def _space(row: Sequence[Any]) -> Space:
    return Space(to_text(row[0]) or "", row[1], row[2])


async def _known_space(connection: Connection, name: str) -> Space:
    rows = await fetch(connection, SPACE, {"name": to_bytes(name)})
    if not rows:
        raise unknown_space(name)
    return _space(rows[0])
