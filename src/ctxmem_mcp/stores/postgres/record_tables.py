"""The tables of what is stored beside the conversations, and their part in forgetting one.

A conversation's rows in them are removed in the same transaction as the conversation, so that a server killed while it
forgets leaves none. Rows of a response that arrives later are removed by the server that adds them; one that is killed
in between leaves them. Reading and writing them is up to `ctxmem_mcp.record_stores.postgres`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxmem_mcp.stores.postgres.database import Connection

_KEY = "principal = %(principal)s AND conversation = %(conversation)s"
_COUNTS = ("requests", "tokens_in", "tokens_out", "tokens_cached", "tokens_saved")
_ADDED = ", ".join(f"{name} = gateway_usage.{name} + excluded.{name}" for name in _COUNTS)
_GREATER = ", ".join(f"{name} = greatest(gateway_usage.{name}, excluded.{name})" for name in _COUNTS)
_USAGE_COLUMNS = f"principal, conversation, day, {', '.join(_COUNTS)}"
_USAGE_VALUES = ", ".join(f"%({name})s" for name in ("principal", "conversation", "day", *_COUNTS))
_SENT_COLUMNS = (
    "at", "first", "last", "view_end", "view_query", "view_budget", "view_digest", "history", "system", "head", "rest",
    "tokens_in", "cached",
)  # fmt: skip

TABLES = f"""
CREATE TABLE records (
    principal text COLLATE "C" NOT NULL, kind text NOT NULL, id text COLLATE "C" NOT NULL, body bytea NOT NULL,
    expires float8,
    PRIMARY KEY (principal, kind, id)
);
CREATE TABLE gateway_usage (
    principal text COLLATE "C" NOT NULL, conversation text COLLATE "C" NOT NULL, day bigint NOT NULL,
    {", ".join(f"{name} bigint NOT NULL" for name in _COUNTS)},
    PRIMARY KEY (principal, conversation, day)
);
CREATE TABLE sent_requests (
    principal text COLLATE "C" NOT NULL, conversation text COLLATE "C" NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY, at float8 NOT NULL, first text NOT NULL, last text NOT NULL,
    view_end text NOT NULL, view_query text NOT NULL, view_budget bigint NOT NULL, view_digest bytea NOT NULL,
    history bigint NOT NULL, system bigint NOT NULL, head bigint NOT NULL, rest bigint NOT NULL, tokens_in bigint,
    cached bigint,
    PRIMARY KEY (principal, conversation, number)
);
CREATE TABLE redactions (
    principal text COLLATE "C" NOT NULL, id text NOT NULL, body bytea NOT NULL, PRIMARY KEY (principal, id)
);
"""
NAMES = ("records", "gateway_usage", "sent_requests", "redactions")

_PUT = "INSERT INTO records VALUES (%(principal)s, %(kind)s, %(id)s, %(body)s, %(expires)s) ON CONFLICT"
PUT_RECORD = f"{_PUT} (principal, kind, id) DO UPDATE SET body = excluded.body, expires = excluded.expires"
REPLACE_RECORD = """
UPDATE records SET body = %(body)s, expires = %(expires)s
WHERE principal = %(principal)s AND kind = %(kind)s AND id = %(id)s RETURNING id
"""
ADOPT_RECORD = f"{_PUT} DO NOTHING"
RECORD = "SELECT body FROM records WHERE principal = %(principal)s AND kind = %(kind)s AND id = %(id)s"
RECORDS = "SELECT id, body FROM records WHERE principal = %(principal)s AND kind = %(kind)s"
REMOVE_RECORD = "DELETE FROM records WHERE principal = %(principal)s AND kind = %(kind)s AND id = %(id)s RETURNING id"
EXPIRED_RECORDS = """
SELECT id, coalesce(expires, 0) FROM records
WHERE principal = %(principal)s AND kind = %(kind)s AND coalesce(expires, 0) <= %(now)s
"""
ADD_USAGE = f"""
INSERT INTO gateway_usage ({_USAGE_COLUMNS}) VALUES ({_USAGE_VALUES})
ON CONFLICT (principal, conversation, day) DO UPDATE SET {_ADDED}
"""
ADOPT_USAGE = f"""
INSERT INTO gateway_usage ({_USAGE_COLUMNS}) VALUES ({_USAGE_VALUES})
ON CONFLICT (principal, conversation, day) DO UPDATE SET {_GREATER}
"""
_USAGE = f"SELECT day, conversation, {', '.join(_COUNTS)} FROM gateway_usage"
USAGE = f"{_USAGE} WHERE principal = %(principal)s ORDER BY day, conversation"
USAGE_OF = f"{_USAGE} WHERE {_KEY} ORDER BY day"
ADD_SENT = f"""
INSERT INTO sent_requests (principal, conversation, {", ".join(_SENT_COLUMNS)})
VALUES (%(principal)s, %(conversation)s, {", ".join(f"%({name})s" for name in _SENT_COLUMNS)})
"""
TRIM_SENT = f"""
DELETE FROM sent_requests WHERE {_KEY} AND number <= (
    SELECT number FROM sent_requests WHERE {_KEY} ORDER BY number DESC OFFSET %(keep)s LIMIT 1
)
"""
SENT = f"SELECT {', '.join(_SENT_COLUMNS)} FROM sent_requests WHERE {_KEY} ORDER BY number"
TRY_REDACTION_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('ctxmem redaction ' || %(principal)s, 0))"
ADD_REDACTION = "INSERT INTO redactions VALUES (%(principal)s, %(id)s, %(body)s)"
REDACTIONS = "SELECT id, body FROM redactions WHERE principal = %(principal)s ORDER BY id"
REMOVE_REDACTION = "DELETE FROM redactions WHERE principal = %(principal)s AND id = %(id)s"

# What requests have cost stays, under the empty id. One statement, so that nothing added beside it is lost; one order,
# so that two servers do not wait for each other.
MOVE_USAGE = f"""
WITH gone AS (DELETE FROM gateway_usage WHERE {_KEY} RETURNING *)
INSERT INTO gateway_usage ({_USAGE_COLUMNS})
SELECT principal, %(target)s, day, {", ".join(_COUNTS)} FROM gone ORDER BY day
ON CONFLICT (principal, conversation, day) DO UPDATE SET {_ADDED}
"""
REMOVE_SENT = f"DELETE FROM sent_requests WHERE {_KEY}"
REMOVE_SESSION = "DELETE FROM records WHERE principal = %(principal)s AND kind = 'sessions' AND id = %(conversation)s"
FORGET = (MOVE_USAGE, REMOVE_SENT, REMOVE_SESSION)
# The tables that have rows of a conversation, and the condition for them.
CONDITIONS = {
    "gateway_usage": _KEY,
    "sent_requests": _KEY,
    "records": "principal = %(principal)s AND kind = 'sessions' AND id = %(conversation)s",
}


async def forget(connection: Connection, key: Mapping[str, object]) -> None:
    """Removes a conversation's rows, inside a transaction. Its usage stays under the empty id."""
    async with connection.pipeline():
        for statement in FORGET:
            await connection.execute(statement, {**key, "target": ""})


async def forget_sent(connection: Connection, key: Mapping[str, object]) -> None:
    """Removes the requests of a conversation, of which a branch is removed, inside a transaction."""
    await connection.execute(REMOVE_SENT, key)
