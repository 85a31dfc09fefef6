"""Model calls as rows: their progress, outcome and cost. The lock on the conversation's row makes each step atomic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ctxmem_mcp.models import EXTRACTIVE, Summary
from ctxmem_mcp.stores.postgres.commits import put_summary, require_node
from ctxmem_mcp.stores.postgres.database import Connection, fetch
from ctxmem_mcp.stores.postgres.rows import to_bytes, to_text
from ctxmem_mcp.stores.records import LOST, CallRefusal, ModelCall, SpendLimits

Key = Mapping[str, object]

_KEY = "principal = %(principal)s AND conversation = %(conversation)s"
SET_LOST = f"UPDATE model_calls SET outcome = %(lost)s WHERE {_KEY} AND outcome = '' AND begun <= %(before)s"
TOTALS = f"""
SELECT coalesce(bool_or(outcome = ''), false), coalesce(sum(tokens_in + tokens_out), 0)::bigint,
    coalesce(max(number), 0) FROM model_calls WHERE {_KEY}
"""
OTHER_AUTHOR = f"""
SELECT 1 FROM summaries WHERE {_KEY} AND digest = %(digest)s AND author <> ALL(%(authors)s::bytea[]) LIMIT 1
"""
ADD_CALL = """
INSERT INTO model_calls VALUES (%(principal)s, %(conversation)s, %(number)s, %(digest)s, %(author)s, %(begun)s,
    %(tokens_in)s, %(tokens_out)s, %(outcome)s)
"""
END_CALL = f"""
UPDATE model_calls SET tokens_in = %(tokens_in)s, tokens_out = %(tokens_out)s, outcome = %(outcome)s
WHERE {_KEY} AND number = %(number)s
"""
DROP_CALL = f"DELETE FROM model_calls WHERE {_KEY} AND number = %(number)s"
RESERVED = f"SELECT tokens_in + tokens_out FROM model_calls WHERE {_KEY} AND number = %(number)s"
CALLS = f"""
SELECT digest, author, begun, tokens_in, tokens_out, outcome, number FROM model_calls WHERE {_KEY} ORDER BY number
"""
# The total of a day is one row, so all reservations of a day wait for each other and none exceeds the limit.
RESERVE = """
INSERT INTO spending VALUES (%(principal)s, %(day)s, %(tokens)s)
ON CONFLICT (principal, day) DO UPDATE SET tokens = spending.tokens + excluded.tokens
    WHERE spending.tokens + excluded.tokens <= %(limit)s
RETURNING tokens
"""
ADJUST = "UPDATE spending SET tokens = tokens + %(tokens)s WHERE principal = %(principal)s AND day = %(day)s"
SPENT = "SELECT tokens FROM spending WHERE principal = %(principal)s AND day = %(day)s"


async def begin(
    connection: Connection, key: Key, call: ModelCall, limits: SpendLimits, now: float
) -> ModelCall | CallRefusal:
    """Reserves a call's tokens, inside a transaction; see `Store.begin_call`."""
    await require_node(connection, key, call.digest, now)
    await connection.execute(SET_LOST, {**key, "lost": LOST, "before": now - limits.lost_after_seconds})
    ((is_busy, cost, last),) = await fetch(connection, TOTALS, key)
    if is_busy:
        return CallRefusal.BUSY
    if await _has_other_author(connection, key, call.digest, EXTRACTIVE):
        return CallRefusal.ALREADY_WRITTEN
    if cost + call.tokens > limits.tokens_per_conversation:
        return CallRefusal.CONVERSATION_LIMIT
    if not await _reserve(connection, key, call, limits.tokens_per_day):
        return CallRefusal.DAY_LIMIT
    begun = replace(call, number=last + 1)
    await add_call(connection, key, begun)
    return begun


async def _reserve(connection: Connection, key: Key, call: ModelCall, limit: int) -> bool:
    values = {"principal": key["principal"], "day": call.day, "tokens": call.tokens, "limit": limit}
    return call.tokens <= limit and bool(await fetch(connection, RESERVE, values))


async def add_call(connection: Connection, key: Key, call: ModelCall) -> None:
    """Stores a call with its number, inside a transaction."""
    values = {
        "number": call.number, "digest": call.digest, "author": to_bytes(call.author), "begun": float(call.started),
        "tokens_in": call.tokens_in, "tokens_out": call.tokens_out, "outcome": call.outcome,
    }  # fmt: skip
    await connection.execute(ADD_CALL, {**key, **values})


async def end(connection: Connection, key: Key, call: ModelCall, summary: Summary | None, now: float) -> None:
    """Records how a call ended, inside a transaction; see `Store.end_call`."""
    await require_node(connection, key, call.digest, now)
    values = {**key, "number": call.number, "tokens_in": call.tokens_in, "tokens_out": call.tokens_out}
    reserved = await fetch(connection, RESERVED, {**key, "number": call.number})
    if not reserved:
        return
    await connection.execute(END_CALL if call.outcome else DROP_CALL, {**values, "outcome": call.outcome})
    if summary is not None and not await _has_other_author(connection, key, call.digest, EXTRACTIVE, summary.author):
        await put_summary(connection, key, call.digest, summary, now)
    difference = call.cost - int(reserved[0][0])
    await connection.execute(ADJUST, {"principal": key["principal"], "day": call.day, "tokens": difference})


async def _has_other_author(connection: Connection, key: Key, digest: bytes, *authors: str) -> bool:
    """Returns whether somebody but these authors wrote a summary of the node."""
    names = [to_bytes(author) for author in authors]
    return bool(await fetch(connection, OTHER_AUTHOR, {**key, "digest": digest, "authors": names}))


async def calls(connection: Connection, key: Key) -> list[ModelCall]:
    """Returns all calls, oldest first."""
    return [ModelCall(row[0], to_text(row[1]) or "", *row[2:]) for row in await fetch(connection, CALLS, key)]


async def spent(connection: Connection, principal: str, day: int) -> int:
    """Returns the tokens of a day."""
    rows = await fetch(connection, SPENT, {"principal": principal, "day": day})
    return int(rows[0][0]) if rows else 0
