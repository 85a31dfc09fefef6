"""The tombstones of one principal: records in a table, read on from the last one that this process knows.

Adding a record locks the principal's row in `keys`, and creating a conversation locks it for sharing, so that nothing
forgotten is created between the check and the commit.
"""

from __future__ import annotations

import secrets

from ctxmem_mcp.stores.postgres.database import Connection, fetch
from ctxmem_mcp.stores.tombstones import KEY_BYTES, TombstoneRecords, Tombstones

SALT_BYTES = 32
PRINCIPALS = "SELECT principal FROM principals ORDER BY principal"
READ_KEYS = "SELECT salt, tombstone_key FROM keys WHERE principal = %(principal)s"
ADD_PRINCIPAL = "INSERT INTO principals VALUES (%(principal)s) ON CONFLICT DO NOTHING"
ADD_KEYS = "INSERT INTO keys VALUES (%(principal)s, %(salt)s, %(tombstone_key)s) ON CONFLICT DO NOTHING"
SET_TOMBSTONE_KEY = "UPDATE keys SET tombstone_key = %(tombstone_key)s WHERE principal = %(principal)s"
SET_SALT = "UPDATE keys SET salt = %(salt)s WHERE principal = %(principal)s"
LOCK = "SELECT 1 FROM keys WHERE principal = %(principal)s FOR UPDATE"
LOCK_SHARED = "SELECT 1 FROM keys WHERE principal = %(principal)s FOR SHARE"
READ = "SELECT number, record FROM tombstones WHERE principal = %(principal)s AND number > %(known)s ORDER BY number"
ADD = """
INSERT INTO tombstones SELECT %(principal)s, t.*
FROM unnest(%(numbers)s::bigint[], %(records)s::bytea[]) AS t
"""


async def read_keys(connection: Connection, principal: str) -> tuple[bytes, bytes]:
    """Returns the principal's salt and the key of its tombstones, which are created once and never change."""
    for _ in range(2):
        rows = await fetch(connection, READ_KEYS, {"principal": principal})
        if rows:
            return rows[0][0], rows[0][1]
        async with connection.transaction():
            await connection.execute(ADD_PRINCIPAL, {"principal": principal})
            new = {"salt": secrets.token_bytes(SALT_BYTES), "tombstone_key": secrets.token_bytes(KEY_BYTES)}
            await connection.execute(ADD_KEYS, {"principal": principal, **new})
    raise AssertionError("the keys were not stored")


async def read_principals(connection: Connection) -> list[str]:
    """Returns all principals; their names are the only rows that every principal may see."""
    return [principal for (principal,) in await fetch(connection, PRINCIPALS, {})]


class TombstoneTable:
    """The records as far as they were read."""

    def __init__(self, principal: str) -> None:
        self._principal = principal
        self._tombstones: Tombstones | None = None

    async def read(self, connection: Connection) -> Tombstones:
        """Returns the tombstones, with what other processes have added."""
        if self._tombstones is None:
            _, key = await read_keys(connection, self._principal)
            self._tombstones = self._tombstones or Tombstones(key)
        known = self._tombstones
        rows = await fetch(connection, READ, {"principal": self._principal, "known": known.count})
        # Another task of this process may have added some of them during this statement.
        known.add(record for number, record in rows if number > known.count)
        return known

    async def lock(self, connection: Connection, *, shared: bool = False) -> Tombstones:
        """Locks the tombstones for the running transaction, and returns them."""
        await self.read(connection)
        await connection.execute(LOCK_SHARED if shared else LOCK, {"principal": self._principal})
        return await self.read(connection)

    async def records(self, connection: Connection) -> TombstoneRecords:
        """Returns all records, and their key."""
        _, key = await read_keys(connection, self._principal)
        rows = await fetch(connection, READ, {"principal": self._principal, "known": 0})
        return TombstoneRecords(key, [record for _, record in rows])

    async def adopt(self, connection: Connection, given: TombstoneRecords) -> None:
        """Takes over the records and the key of another store, inside a transaction."""
        await self.lock(connection)
        own = await self.records(connection)
        missing = given.missing_in(own, "The database")
        if own.key != given.key:
            await connection.execute(SET_TOMBSTONE_KEY, {"principal": self._principal, "tombstone_key": given.key})
            self._tombstones = Tombstones(given.key)
        await self.add(connection, missing)

    async def add(self, connection: Connection, records: list[bytes]) -> None:
        """Adds records, inside a transaction that has locked them."""
        if not records or self._tombstones is None:
            return
        first = self._tombstones.count + 1
        numbers = list(range(first, first + len(records)))
        await connection.execute(ADD, {"principal": self._principal, "numbers": numbers, "records": records})
