"""Reads every row of a conversation as the readers do, and reports each fault instead of the first.

PostgreSQL checks its pages itself; this finds rows that are missing, or that another program has changed.
"""

from __future__ import annotations

from collections.abc import Mapping

from ctxmem_mcp.errors import BrokenHistory, UnknownConversation
from ctxmem_mcp.stores.encoding import parse_summary
from ctxmem_mcp.stores.postgres import queries
from ctxmem_mcp.stores.postgres.database import Connection, fetch
from ctxmem_mcp.stores.postgres.rows import decompress, to_text

Key = Mapping[str, object]

_KEY = "principal = %(principal)s AND conversation = %(conversation)s"
COUNTS = f"""
SELECT (SELECT count(*) FROM turns WHERE {_KEY}), (SELECT count(*) FROM pieces WHERE {_KEY}),
    (SELECT count(*) FROM closings WHERE {_KEY})
"""
SUMMARIES = f"SELECT place, author, codec, body FROM summaries WHERE {_KEY}"
NO_SUMMARY = f"""
SELECT encode(digest, 'hex') FROM nodes n WHERE {_KEY} AND NOT EXISTS (SELECT 1 FROM summaries s
    WHERE (s.principal, s.conversation, s.digest) = (n.principal, n.conversation, n.digest))
"""
# So many turns are read at once.
_BATCH = 200


async def find_faults(connection: Connection, key: Key) -> list[str]:
    """Returns a sentence for each fault; none if there is none.

    Raises:
        UnknownConversation: There is no such conversation.
    """
    state = await queries.state(connection, key, float("-inf"))
    if state is None:
        raise UnknownConversation(str(key["conversation"]))
    faults = []
    ((turns, pieces, closings),) = await fetch(connection, COUNTS, key)
    for table, found, count in (
        ("turns", turns, state.next_seq - 1), ("pieces", pieces, state.next_piece - 1),
        ("closings", closings, state.nodes),
    ):  # fmt: skip
        if found != count:
            faults.append(f"The table {table} has {found} rows instead of {count}.")
    for first in range(1, state.next_seq, _BATCH):
        try:
            seqs = range(first, min(first + _BATCH, state.next_seq))
            await queries.turns(connection, key, seqs, metadata_only=False)
        except BrokenHistory as error:
            faults.append(error.message)
    for place, author, codec, body in await fetch(connection, SUMMARIES, key):
        try:
            parse_summary(to_text(author) or "", decompress(codec, body, f"summary number {place}"))
        except BrokenHistory as error:
            faults.append(error.message)
    faults += [f"The node {digest} has no summary." for (digest,) in await fetch(connection, NO_SUMMARY, key)]
    return faults
