"""The connections of one process to one database: a pool that all its stores share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.errors import StoreUnavailable
from ctxmem_mcp.stores.postgres.changes import ChangeFeed
from ctxmem_mcp.stores.postgres.connection_errors import SETTING, is_passing, server_name, translate
from ctxmem_mcp.stores.postgres.schema import PRINCIPAL_SETTING, SCHEMA, migrate

T = TypeVar("T")
_log = logging.getLogger(__name__)

# A lost connection is tried again for so long: a server restarts in a few seconds.
RETRY_SECONDS = 15.0
# A caller waits so long for a free connection, and a new one may take so long.
WAIT_SECONDS, CONNECT_SECONDS = 20.0, 10
# A connection that only listens notices in about half a minute that its server is gone without a word.
_KEEPALIVES = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}
# The server ends a transaction that has waited so long for its client, whose connection may be lost unnoticed.
IDLE_TRANSACTION_SECONDS = 60.0

_TRANSACTION = "SELECT pg_current_xact_id()::text"
_STATUS = "SELECT pg_xact_status(%(transaction)s::text::xid8)"
_POLL_SECONDS = 0.02


class Connection(psycopg.AsyncConnection[TupleRow]):
    """A connection, and the principal whose rows it may see."""

    principal: str | None = None


class Database:
    """A pool, opened on first use. Opening it creates or migrates the tables.

    Attributes:
        changes: Listens for commits of all processes.
    """

    def __init__(self, url: str, connections: int) -> None:
        """Connects to nothing yet.

        Args:
            url: The URL of the database.
            connections: The most connections that are open at once.

        Raises:
            InvalidArgument: The URL can't be parsed.
        """
        self.url, self.server = url, server_name(url)
        self._connections = connections
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._lock = asyncio.Lock()
        self._users = 0
        self.changes = ChangeFeed(lambda: connect(make_conninfo(url, **_KEEPALIVES)))

    @property
    def is_unused(self) -> bool:
        """Whether no store uses it; then it has no connection."""
        return self._users == 0

    async def run(self, principal: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Runs `work` with a connection. If the connection is lost, it runs again with another one.

        Args:
            principal: Whose rows it may see.
            work: Changes in one transaction, or does nothing that is harmful twice.

        Raises:
            StoreUnavailable: The server can't be reached, or refuses.
        """
        until = time.monotonic() + RETRY_SECONDS
        pause = 0.0
        while True:
            try:
                async with self._connection(principal) as connection:
                    return await work(connection)
            except psycopg.Error as error:
                # A server that never was reached is not waited for.
                if self._pool is None or not is_passing(error) or time.monotonic() > until:
                    raise translate(error, self.server) from error
            if self._pool is not None:
                await self._pool.check()  # drops the other connections that were lost with it
            await asyncio.sleep(pause)
            pause = min(1.0, 2 * pause + 0.02)

    async def run_once(self, principal: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Runs `work` in one transaction, which is stored once, also if the answer to its commit is lost.

        Raises:
            StoreUnavailable: The server can't be reached, or refuses, or does not end a transaction that was lost.
        """
        earlier: tuple[str, T] | None = None

        async def run(connection: Connection) -> T:
            nonlocal earlier
            if earlier is not None and await self._was_committed(connection, earlier[0]):
                return earlier[1]
            async with connection.transaction():
                done = await work(connection)
                earlier = (await fetch(connection, _TRANSACTION, {}))[0][0], done
            return done

        return await self.run(principal, run)

    async def _was_committed(self, connection: Connection, transaction: str) -> bool:
        """Returns whether a transaction of a lost connection was committed, once the server has ended it."""
        until = time.monotonic() + RETRY_SECONDS
        while True:
            ((status,),) = await fetch(connection, _STATUS, {"transaction": transaction})
            if status != "in progress":
                return bool(status == "committed")
            if time.monotonic() > until:
                raise StoreUnavailable(
                    f"PostgreSQL at {self.server} still waits for a connection that was lost: it is not known whether "
                    "the change is stored.",
                    "Look whether it is stored, in a minute.",
                )
            await asyncio.sleep(_POLL_SECONDS)

    @asynccontextmanager
    async def _connection(self, principal: str) -> AsyncIterator[Connection]:
        pool = self._pool or await self._open()
        async with pool.connection() as connection:
            if connection.principal != principal:
                await set_principal(connection, principal)
            yield connection

    async def _open(self) -> AsyncConnectionPool[Connection]:
        async with self._lock:
            if self._pool is None:
                # A pool would report only that it waited; a connection outside it reports why it fails.
                async with await connect(self.url) as first:
                    await migrate(first, self.server)
                    await _warn_of_unbound_role(first)
                pool = AsyncConnectionPool(
                    self.url, connection_class=Connection, open=False, min_size=1, max_size=self._connections,
                    timeout=WAIT_SECONDS, configure=_configure, name="ctxmem",
                    kwargs={"autocommit": True, "connect_timeout": CONNECT_SECONDS},
                )  # fmt: skip
                await run_to_completion(pool.open())
                self._pool = pool
            return self._pool

    def acquire(self) -> None:
        """Counts one more user."""
        self._users += 1

    async def release(self) -> None:
        """Counts one user less; the last one closes all connections. The next use opens them again."""
        self._users -= 1
        if self._users > 0:
            return
        await self.changes.close()
        async with self._lock:
            pool, self._pool = self._pool, None
            if pool is not None:
                await run_to_completion(pool.close())


_shared: dict[tuple[str, int, int], Database] = {}


def shared_database(url: str, connections: int) -> Database:
    """Returns the running event loop's pool for this database, which all stores of the process share."""
    key = (url, connections, id(asyncio.get_running_loop()))
    database = _shared.get(key)
    if database is None or database.is_unused:
        database = _shared[key] = Database(url, connections)
    database.acquire()
    return database


async def fetch(connection: Connection, sql: str, parameters: Mapping[str, object]) -> list[TupleRow]:
    """Returns all rows. They are sent in binary, which takes half the time for bytes and numbers."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(sql, parameters)
        return await cursor.fetchall()


async def _warn_of_unbound_role(connection: Connection) -> None:
    """Logs a warning if the policies of the rows do not hold for the connection's role."""
    roles = await fetch(connection, "SELECT rolname, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = user", {})
    for role, is_unbound in roles:
        if is_unbound:
            _log.warning(
                "%s: row-level security does not hold for the role %s, so only the statements keep principals "
                "apart. Use a role that is no superuser and has no BYPASSRLS.",
                SETTING,
                role,
            )


async def connect(url: str) -> Connection:
    """Opens a connection outside the pool, in autocommit mode."""
    connection = await Connection.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)
    await _configure(connection)
    return connection


async def set_principal(connection: Connection, principal: str) -> None:
    """Lets the connection see the rows of this principal only."""
    connection.principal = None
    await connection.execute("SELECT set_config(%s, %s, false)", (PRINCIPAL_SETTING, principal))
    connection.principal = principal


async def _configure(connection: psycopg.AsyncConnection[TupleRow]) -> None:
    idle = round(IDLE_TRANSACTION_SECONDS * 1000)
    await connection.execute(f"SET search_path TO {SCHEMA}; SET idle_in_transaction_session_timeout TO {idle}")
