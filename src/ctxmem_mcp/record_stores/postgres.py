"""A record store in the PostgreSQL database of the conversations.

The rows of a conversation are removed in the transaction that forgets it: see `stores.postgres.record_tables`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import psycopg

from ctxmem_mcp.record_files import EXPIRES, SESSIONS, is_record_id
from ctxmem_mcp.record_stores.base import Record, RedactionOrder, encode_turns, readable_orders
from ctxmem_mcp.sent_requests import REQUESTS_MAX, SentRequest, SentView
from ctxmem_mcp.stores.postgres import record_tables as sql
from ctxmem_mcp.stores.postgres.connection_errors import server_name, translate
from ctxmem_mcp.stores.postgres.database import Connection, Database, connect, fetch, shared_database
from ctxmem_mcp.usage_ledger import LedgerEntry

_T = TypeVar("_T")
_POLL_SECONDS = 0.1


class _Rows:
    """The rows of one principal, by the connections that all stores of the process share."""

    def __init__(self, url: str, principal: str, connections: int) -> None:
        self.url, self.principal, self._connections = url, principal, connections
        self._database: Database | None = None

    async def change(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Runs work in one transaction, which is stored once."""
        return await self._opened().run_once(self.principal, work)

    async def read(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """Executes one statement. Returns its rows."""
        parameters = {"principal": self.principal, **values}
        return await self._opened().run(self.principal, lambda connection: fetch(connection, statement, parameters))

    def _opened(self) -> Database:
        if self._database is None:
            self._database = shared_database(self.url, self._connections)
        return self._database

    async def write(self, statement: str, **values: object) -> None:
        """Executes one statement that returns no rows."""
        parameters = {"principal": self.principal, **values}

        async def execute(connection: Connection) -> None:
            await connection.execute(statement, parameters)

        await self.change(execute)

    async def close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            await database.release()


class PostgresRecordStore:
    """Implements `RecordStore`."""

    def __init__(self, url: str, principal: str, connections: int) -> None:
        """Connects to nothing yet. The process's stores on the same database use the same connections."""
        self._rows = _Rows(url, principal, connections)
        self.redactions = _Orders(self._rows)

    async def put(self, kind: str, record_id: str, record: Record) -> None:
        await self._rows.write(sql.PUT_RECORD, **_record_values(kind, record_id, record))

    async def replace(self, kind: str, record_id: str, record: Record) -> bool:
        values = {"principal": self._rows.principal, **_record_values(kind, record_id, record)}
        return bool(await self._rows.change(lambda connection: fetch(connection, sql.REPLACE_RECORD, values)))

    async def get(self, kind: str, record_id: str) -> Record | None:
        if not is_record_id(record_id):
            return None
        rows = await self._rows.read(sql.RECORD, kind=kind, id=record_id)
        return json.loads(rows[0][0]) if rows else None

    async def all(self, kind: str) -> list[tuple[str, Record]]:
        return [(record_id, json.loads(body)) for record_id, body in await self._rows.read(sql.RECORDS, kind=kind)]

    async def remove(self, kind: str, record_id: str) -> bool:
        if not is_record_id(record_id):
            return False
        values = {"principal": self._rows.principal, "kind": kind, "id": record_id}
        return bool(await self._rows.change(lambda connection: fetch(connection, sql.REMOVE_RECORD, values)))

    async def expired_sessions(self, now: float) -> Mapping[str, float]:
        return dict(await self._rows.read(sql.EXPIRED_RECORDS, kind=SESSIONS, now=now))

    async def add_usage(self, entry: LedgerEntry) -> None:
        await self._rows.write(sql.ADD_USAGE, **_usage_values(entry))

    async def usage(self, conversation_id: str | None = None) -> Sequence[LedgerEntry]:
        if conversation_id is None:
            rows = await self._rows.read(sql.USAGE)
        else:
            rows = await self._rows.read(sql.USAGE_OF, conversation=conversation_id)
        return [LedgerEntry(*row) for row in rows]

    async def move_usage(self, conversation_id: str, target: str) -> None:
        await self._rows.write(sql.MOVE_USAGE, conversation=conversation_id, target=target)

    async def add_sent(self, sent: SentRequest) -> None:
        await self._rows.change(lambda connection: self._add_sent(connection, sent))

    async def _add_sent(self, connection: Connection, sent: SentRequest) -> None:
        await connection.execute(sql.ADD_SENT, {"principal": self._rows.principal, **_sent_values(sent)})
        which = {"principal": self._rows.principal, "conversation": sent.conversation_id, "keep": REQUESTS_MAX}
        await connection.execute(sql.TRIM_SENT, which)

    async def sent(self, conversation_id: str) -> Sequence[SentRequest]:
        rows = await self._rows.read(sql.SENT, conversation=conversation_id)
        return [
            SentRequest(conversation_id, at, first, last, SentView(*sizes[:4]), *sizes[4:])
            for at, first, last, *sizes in rows
        ]

    async def forget(self, conversation_ids: Collection[str]) -> None:
        async def remove(connection: Connection) -> None:
            for conversation_id in sorted(conversation_ids):
                await sql.forget(connection, {"principal": self._rows.principal, "conversation": conversation_id})

        if conversation_ids:
            await self._rows.change(remove)

    async def adopt(
        self, usage: Sequence[LedgerEntry], sent: Sequence[SentRequest], records: Mapping[str, Mapping[str, Record]]
    ) -> None:
        async def add(connection: Connection) -> None:
            own = {"principal": self._rows.principal}
            for entry in usage:
                await connection.execute(sql.ADOPT_USAGE, {**own, **_usage_values(entry)})
            for conversation_id, requests in groupby(sent, lambda one: one.conversation_id):
                if not await fetch(connection, sql.SENT, {**own, "conversation": conversation_id}):
                    for one in requests:
                        await self._add_sent(connection, one)
            for kind, some in records.items():
                for record_id, record in some.items():
                    await connection.execute(sql.ADOPT_RECORD, {**own, **_record_values(kind, record_id, record)})

        await self._rows.change(add)

    async def close(self) -> None:
        await self._rows.close()


class _Orders:
    """Implements `RedactionOrders`."""

    def __init__(self, rows: _Rows) -> None:
        self._rows = rows

    @asynccontextmanager
    async def lock(self, seconds: float) -> AsyncIterator[bool]:
        """Holds an advisory lock, which ends with its connection: one of its own, so that no pool waits for it."""
        until = time.monotonic() + seconds
        try:
            connection = await connect(self._rows.url)
        except psycopg.Error as error:
            raise translate(error, server_name(self._rows.url)) from error
        async with connection:
            yield await self._wait_for_lock(connection, until)

    async def _wait_for_lock(self, connection: Connection, until: float) -> bool:
        try:
            while not await self._try_lock(connection):
                if time.monotonic() >= until:
                    return False
                await asyncio.sleep(_POLL_SECONDS)
        except psycopg.Error as error:
            raise translate(error, server_name(self._rows.url)) from error
        return True

    async def _try_lock(self, connection: Connection) -> bool:
        return (await fetch(connection, sql.TRY_REDACTION_LOCK, {"principal": self._rows.principal}))[0][0] is True

    async def add(self, day: str, turns: Mapping[str, Collection[bytes]]) -> RedactionOrder:
        order = RedactionOrder(secrets.token_hex(8), day, turns)
        await self._rows.write(sql.ADD_REDACTION, id=order.id, body=encode_turns(day, turns))
        return order

    async def all(self) -> Sequence[RedactionOrder]:
        rows = await self._rows.read(sql.REDACTIONS)
        return readable_orders((order_id, f"The redaction {order_id}", partial(bytes, body)) for order_id, body in rows)

    async def remove(self, order: RedactionOrder) -> None:
        await self._rows.write(sql.REMOVE_REDACTION, id=order.id)


def _record_values(kind: str, record_id: str, record: Record) -> dict[str, object]:
    return {"kind": kind, "id": record_id, "body": json.dumps(record).encode(), "expires": record.get(EXPIRES)}


def _usage_values(entry: LedgerEntry) -> dict[str, object]:
    values = asdict(entry)
    return {"conversation": values.pop("conversation_id"), **values}


def _sent_values(sent: SentRequest) -> dict[str, object]:
    values = asdict(sent)
    view = {f"view_{name}": value for name, value in values.pop("view").items()}
    return {"conversation": values.pop("conversation_id"), **values, **view}
