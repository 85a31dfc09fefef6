"""The store's reads. Each is one statement, so it sees one state of the conversation, and names its key."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ctxmem_mcp.errors import BrokenHistory, UnknownConversation
from ctxmem_mcp.models import Node, Piece, Turn
from ctxmem_mcp.stores.encoding import LazySummaries, NodeSummaries
from ctxmem_mcp.stores.postgres.database import Connection, fetch
from ctxmem_mcp.stores.postgres.rows import (
    NODE_COLUMNS,
    PIECE_COLUMNS,
    RUNS,
    STATE,
    TURN_COLUMNS,
    decompress,
    read_node,
    read_piece,
    read_state,
    read_turn,
    to_text,
)
from ctxmem_mcp.stores.records import State, dense_key

# Bodies of more bytes together are decompressed in a thread.
BYTES_READ_HERE = 256 * 1024

Key = Mapping[str, object]

_KEY = "principal = %(principal)s AND conversation = %(conversation)s"
_JOIN = "USING (principal, conversation, digest)"

STATE_QUERY = f"SELECT {STATE}, {RUNS} FROM conversations c WHERE {_KEY} AND expires > %(now)s"
NUMBERS = f"SELECT next_seq, next_piece FROM conversations WHERE {_KEY}"
TURNS = f"SELECT {TURN_COLUMNS}, body FROM turns WHERE {_KEY} AND seq = ANY(%(seqs)s::bigint[])"
METADATA = f"SELECT {TURN_COLUMNS} FROM turns WHERE {_KEY} AND seq = ANY(%(seqs)s::bigint[])"
DIGESTS = f"SELECT seq, digest FROM turns WHERE {_KEY} AND seq BETWEEN %(first)s AND %(last)s ORDER BY seq"
NODES = f"SELECT {NODE_COLUMNS} FROM nodes WHERE {_KEY} AND digest = ANY(%(digests)s::bytea[])"
CLOSINGS = f"""
SELECT c.closer, {NODE_COLUMNS.replace("level", "n.level")} FROM closings c JOIN nodes n {_JOIN}
WHERE {_KEY} AND closer BETWEEN %(first)s AND %(last)s ORDER BY c.closer, c.level
"""
NODES_OVER = f"""
SELECT c.closer, {NODE_COLUMNS.replace("level", "n.level")} FROM nodes n JOIN closings c {_JOIN}
WHERE {_KEY} AND first = %(first)s AND last = %(last)s ORDER BY c.closer
"""
# From each root, one look into the index nodes_over finds the next: the longest node that begins after it.
BRANCH_ROOTS = f"""
WITH RECURSIVE root AS (
    SELECT NULL::bytea AS digest, -1::bigint AS ended
    UNION ALL
    SELECT longest.digest, longest.last FROM root CROSS JOIN LATERAL (
        SELECT n.digest, n.last FROM nodes n
        WHERE {_KEY} AND n.first = root.ended + 1 AND EXISTS (
            SELECT FROM closings c
                JOIN unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS branch (first_seq, last_seq)
                ON c.closer BETWEEN branch.first_seq AND branch.last_seq
            WHERE {_KEY} AND c.digest = n.digest
        )
        ORDER BY n.last DESC LIMIT 1
    ) longest
)
SELECT {NODE_COLUMNS} FROM root JOIN nodes USING (digest) WHERE {_KEY} ORDER BY first
"""
SUMMARIES = (
    f"SELECT digest, place, author, codec, body FROM summaries WHERE {_KEY} AND digest = ANY(%(digests)s::bytea[])"
)
PIECES = f"SELECT {PIECE_COLUMNS} FROM pieces WHERE {_KEY} AND id = ANY(%(ids)s::bigint[])"
# A turn's chunks have consecutive ids.
PIECES_OF = f"""
SELECT t.seq, {", ".join(f"p.{column}" for column in PIECE_COLUMNS.split(", "))} FROM turns t LEFT JOIN pieces p
    ON (p.principal, p.conversation) = (t.principal, t.conversation)
        AND p.id BETWEEN t.first_piece AND t.first_piece + t.pieces - 1
WHERE t.principal = %(principal)s AND t.conversation = %(conversation)s AND t.seq = ANY(%(seqs)s::bigint[])
ORDER BY p.id
"""
VECTORS = f"SELECT id, body FROM vectors WHERE {_KEY} AND id = ANY(%(ids)s::bigint[])"
DENSE_VECTORS = f"SELECT key, value FROM extra WHERE {_KEY} AND key = ANY(%(keys)s::text[])"
EXTRA = f"SELECT value FROM extra WHERE {_KEY} AND key = %(key)s"


async def state(connection: Connection, key: Key, now: float) -> State | None:
    """Returns the conversation's state; None if there is none or it has expired."""
    rows = await fetch(connection, STATE_QUERY, {**key, "now": now})
    return read_state(str(key["conversation"]), rows[0]) if rows else None


async def require(connection: Connection, key: Key) -> tuple[int, int]:
    """Returns the numbers of the conversation's next turn and chunk.

    Raises:
        UnknownConversation: There is no such conversation.
    """
    rows = await fetch(connection, NUMBERS, key)
    if not rows:
        raise UnknownConversation(str(key["conversation"]))
    return rows[0][0], rows[0][1]


async def _require_all(
    connection: Connection, key: Key, ids: Sequence[int], found: Mapping[int, object], *, of_pieces: bool = False
) -> None:
    """Checks what was found. Costs a statement only if something was not.

    Raises:
        UnknownConversation: There is no such conversation.
        BrokenHistory: A row is missing that was stored. Ids that were never given may be.
    """
    missing = [i for i in ids if i not in found]
    if found and not missing:
        return
    following = (await require(connection, key))[of_pieces]
    if lost := [i for i in missing if 0 < i < following]:
        raise BrokenHistory(f"{'Piece' if of_pieces else 'Turn'} number {lost[0]} is missing.")


async def turns(connection: Connection, key: Key, seqs: Sequence[int], metadata_only: bool) -> list[Turn]:
    rows = await fetch(connection, METADATA if metadata_only else TURNS, {**key, "seqs": list(seqs)})
    # Decompressing megabytes would hold up the event loop.
    is_large = not metadata_only and sum(len(row[-1]) for row in rows) > BYTES_READ_HERE
    read = await asyncio.to_thread(_read_turns, rows) if is_large else _read_turns(rows)
    found = {turn.seq: turn for turn in read}
    await _require_all(connection, key, seqs, found)
    return [found[seq] for seq in seqs if seq in found]


def _read_turns(rows: Sequence[Sequence[Any]]) -> list[Turn]:
    return [read_turn(row) for row in rows]


async def digests(connection: Connection, key: Key, first_seq: int, last_seq: int) -> list[bytes]:
    found: dict[int, bytes] = dict(await fetch(connection, DIGESTS, {**key, "first": first_seq, "last": last_seq}))
    if len(found) <= last_seq - first_seq or not found:
        next_seq, _ = await require(connection, key)
        await _require_all(connection, key, range(max(1, first_seq), min(last_seq, next_seq - 1) + 1), found)
    return list(found.values())


async def nodes(connection: Connection, key: Key, digests: Sequence[bytes]) -> dict[bytes, Node]:
    rows = await fetch(connection, NODES, {**key, "digests": list(digests)})
    found = {row[0]: read_node(row) for row in rows}
    if not found:
        await require(connection, key)
    return {digest: found[digest] for digest in digests if digest in found}


async def closings(connection: Connection, key: Key, first_seq: int, last_seq: int) -> list[tuple[int, Node]]:
    return await _closings(connection, key, CLOSINGS, first_seq, last_seq)


async def nodes_over(connection: Connection, key: Key, first: int, last: int) -> list[tuple[int, Node]]:
    return await _closings(connection, key, NODES_OVER, first, last)


async def _closings(connection: Connection, key: Key, sql: str, first: int, last: int) -> list[tuple[int, Node]]:
    rows = await fetch(connection, sql, {**key, "first": first, "last": last})
    if not rows:
        await require(connection, key)
    return [(closer, read_node(node)) for closer, *node in rows]


async def branch_roots(connection: Connection, key: Key, ranges: Sequence[tuple[int, int]]) -> list[Node]:
    firsts, lasts = [first for first, _ in ranges], [last for _, last in ranges]
    rows = await fetch(connection, BRANCH_ROOTS, {**key, "firsts": firsts, "lasts": lasts})
    if not rows:
        await require(connection, key)
    return [read_node(row) for row in rows]


async def summaries(connection: Connection, key: Key, digests: Sequence[bytes]) -> LazySummaries:
    found: dict[bytes, NodeSummaries] = {}
    wanted = list(dict.fromkeys(digests))
    for digest, place, author, codec, body in await fetch(connection, SUMMARIES, {**key, "digests": wanted}):
        text = decompress(codec, body, f"summary number {place}")
        found.setdefault(digest, NodeSummaries()).add(place, to_text(author) or "", text)
    if not found:
        await require(connection, key)
    return LazySummaries({digest: found[digest] for digest in wanted if digest in found})


async def pieces(connection: Connection, key: Key, ids: Sequence[int]) -> dict[int, Piece]:
    found = {row[0]: read_piece(row) for row in await fetch(connection, PIECES, {**key, "ids": list(ids)})}
    await _require_all(connection, key, ids, found, of_pieces=True)
    return {i: found[i] for i in ids if i in found}


async def pieces_of(connection: Connection, key: Key, seqs: Sequence[int]) -> dict[int, list[Piece]]:
    found: dict[int, list[Piece]] = {}
    for seq, *row in await fetch(connection, PIECES_OF, {**key, "seqs": list(seqs)}):
        those = found.setdefault(seq, [])
        if row[0] is not None:
            those.append(read_piece(row))
    await _require_all(connection, key, seqs, found)
    return found


async def vectors(connection: Connection, key: Key, ids: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = dict(await fetch(connection, VECTORS, {**key, "ids": list(ids)}))
    if not found:
        await require(connection, key)
    return {i: found[i] for i in ids if i in found}


async def dense_vectors(connection: Connection, key: Key, tag: bytes, ids: Sequence[int]) -> dict[int, bytes]:
    values = {**key, "keys": [dense_key(i) for i in ids]}
    found: dict[str, bytes] = dict(await fetch(connection, DENSE_VECTORS, values))
    if not found:
        await require(connection, key)
    return {i: value for i in ids if (value := found.get(dense_key(i), b"")).startswith(tag)}


async def extra(connection: Connection, key: Key, name: str) -> bytes | None:
    rows = await fetch(connection, EXTRA, {**key, "key": name})
    if not rows:
        await require(connection, key)
    return rows[0][0] if rows else None
