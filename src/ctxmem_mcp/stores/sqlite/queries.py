"""The store's reads in SQL. Every function runs on the connection's thread and reads in batches."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ctxmem_mcp.errors import BrokenHistory
from ctxmem_mcp.models import DIGEST_BYTES, Node, Piece, Turn
from ctxmem_mcp.stores.encoding import STATE_COLUMNS, LazySummaries, NodeSummaries, role_of
from ctxmem_mcp.stores.records import ModelCall, Run, State, dense_key
from ctxmem_mcp.stores.sqlite.checksums import (
    NODE_COLUMNS,
    PIECE_COLUMNS,
    RUN_COLUMNS,
    SUMMARY_COLUMNS,
    TURN_COLUMNS,
    check_row,
    is_sound_blob,
    mismatch,
    row_checksum,
)
from ctxmem_mcp.stores.sqlite.commits import UNINDEXED, read_conversation
from ctxmem_mcp.stores.sqlite.compression import TextCompression
from ctxmem_mcp.stores.sqlite.connection import snapshot

# Some three kilobytes each.
SUMMARIES_CACHED_MAX = 3_000
# SQLite takes up to 32,766 parameters; few different sizes keep its statement cache small.
_BATCH_SIZES = (1, 8, 64, 512)

PIECES = f"SELECT {PIECE_COLUMNS}, p.checksum FROM pieces p JOIN turns t USING (seq)"
_NODE = ", ".join(f"n.{column}" for column in NODE_COLUMNS.split(", "))
_SUMMARY = ", ".join(f"s.{column}" for column in SUMMARY_COLUMNS.split(", "))
# Of the digest, author, time, tokens in and out, outcome and number.
CALL_TYPES = (bytes, str, float, int, int, str, int)
# The node of a call whose node was removed with its branch.
GONE = 0
_CLOSING = f"c.closer, c.level, c.node, c.checksum, {_NODE}, n.checksum"
CLOSINGS = f"SELECT {_CLOSING} FROM nodes n JOIN closings c USING (node)"

# From each root, one look into the index nodes_over finds the next: the longest node that begins after it.
BRANCH_ROOTS = f"""
WITH RECURSIVE branch (first_seq, last_seq) AS (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
), root (node, next) AS (
    SELECT 0, 0
    UNION ALL
    SELECT n.node, n.last + 1 FROM root r CROSS JOIN nodes n ON n.node = (
        SELECT m.node FROM nodes m
        WHERE m.first = r.next AND EXISTS (
            SELECT 1 FROM closings c JOIN branch b ON c.closer BETWEEN b.first_seq AND b.last_seq WHERE c.node = m.node
        )
        ORDER BY m.last DESC LIMIT 1
    )
)
SELECT {_CLOSING} FROM root CROSS JOIN nodes n USING (node) CROSS JOIN closings c USING (node)
    JOIN branch b ON c.closer BETWEEN b.first_seq AND b.last_seq
ORDER BY n.first
"""


def _batches(values: Sequence[object]) -> Iterator[tuple[str, list[object]]]:
    """Yields the values in batches of a few sizes, as (placeholders, parameters), padded with their last value."""
    start = 0
    while start < len(values):
        left = len(values) - start
        size = next((s for s in _BATCH_SIZES if s >= left), _BATCH_SIZES[-1])
        batch = list(values[start : start + size])
        yield ", ".join("?" * size), batch + [batch[-1]] * (size - len(batch))
        start += size


def _conditions(column: str, ids: Sequence[int]) -> Iterator[tuple[str, list[object]]]:
    """Yields batches of ids as (SQL condition, parameters); consecutive ids become a single range."""
    if ids and ids[-1] - ids[0] + 1 == len(ids) and all(a < b for a, b in pairwise(ids)):
        yield f"{column} BETWEEN ? AND ?", [ids[0], ids[-1]]
    else:
        yield from ((f"{column} IN ({marks})", batch) for marks, batch in _batches(ids))


def state(db: sqlite3.Connection, conversation_id: str, now: float) -> State | None:
    """The conversation's state; None if it is forgotten, has expired or has no first turn yet."""
    with snapshot(db):  # another process may begin a branch between the two reads
        row = read_conversation(db)
        if row is None or row.forgotten or row.expires <= now:
            return None
        columns = {name: getattr(row, name) for name in STATE_COLUMNS}
        return State(conversation_id, runs=runs(db, row.runs), unindexed=_unindexed(db, row.next_seq), **columns)


def _unindexed(db: sqlite3.Connection, next_seq: int) -> tuple[int, ...]:
    if not (value := extra(db, UNINDEXED)):
        return ()
    try:
        found = tuple(map(int, value.split(b",")))
    except ValueError:
        found = (0,)
    if list(found) != sorted(set(found)) or not 0 < found[0] <= found[-1] < next_seq:
        raise BrokenHistory("The list of turns that are not indexed yet has the wrong shape.")
    return found


def runs(db: sqlite3.Connection, count: int) -> tuple[Run, ...]:
    found: list[Run] = []
    for row in db.execute(f"SELECT {RUN_COLUMNS}, checksum FROM runs ORDER BY first_seq"):
        check_row(row[:-1], row[-1], f"run number {row[0]}")
        found.append(Run(*row[:-1]))
    if len(found) != count:
        raise BrokenHistory(f"{count} runs of turns were stored, {len(found)} are there.")
    # Following such runs back to the first turn would never end.
    if any(run.parent_seq >= run.first_seq or found[0].first_seq != 1 for run in found):
        raise BrokenHistory("The runs of turns lead nowhere.")
    return tuple(found)


def turns(db: sqlite3.Connection, seqs: Sequence[int], compression: TextCompression, metadata_only: bool) -> list[Turn]:
    found: dict[int, Turn] = {}
    columns = f"{TURN_COLUMNS}, checksum{'' if metadata_only else ', body'}"
    for condition, batch in _conditions("seq", seqs):
        for row in db.execute(f"SELECT {columns} FROM turns WHERE {condition}", batch):
            found[row[0]] = _turn(db, row, compression)
    _require_all(db, "next_seq", "Turn", seqs, found)
    return [found[seq] for seq in seqs if seq in found]


def _require_all(
    db: sqlite3.Connection, column: str, name: str, ids: Sequence[int], found: Mapping[int, object]
) -> None:
    """Raises BrokenHistory if a row is missing that was stored. Ids that were never given are left out."""
    if len(found) >= len(ids) or not (missing := [i for i in ids if i not in found]):
        return
    (following,) = db.execute(f"SELECT {column} FROM conversation").fetchone() or (0,)
    if lost := [i for i in missing if isinstance(following, int) and 0 < i < following]:
        raise BrokenHistory(f"{name} number {lost[0]} is missing.")


def _turn(db: sqlite3.Connection, row: Sequence[Any], compression: TextCompression) -> Turn:
    """row: TURN_COLUMNS, their checksum, and the body unless only metadata is read."""
    name = f"turn number {row[0]}"
    check_row(row[:15], row[15], name)
    seq, index, digest, role, tokens, _, _, speaker, said_at, call_id, *rest = row
    flags, language, stored_at, codec, checksum, _, *body = rest
    content = compression.decompress(db, codec, checksum, body[0], name) if body else ""
    return Turn(
        seq, index, digest, role_of(role, name), content, speaker, said_at, call_id, tokens, stored_at, language, flags
    )


def digests(db: sqlite3.Connection, first_seq: int, last_seq: int) -> list[bytes]:
    if first_seq == last_seq:
        # A single one is not compared with what it should be, as those of a range are, but taken as it is.
        return [turn.digest for turn in turns(db, [first_seq], TextCompression(), metadata_only=True)]
    rows = db.execute("SELECT seq, digest FROM turns WHERE seq BETWEEN ? AND ? ORDER BY seq", (first_seq, last_seq))
    found = dict(rows)
    _require_all(db, "next_seq", "Turn", range(first_seq, last_seq + 1), found)
    return list(found.values())


def read_node(row: Sequence[Any]) -> Node:
    """row: NODE_COLUMNS and their checksum."""
    check_row(row[:-1], row[-1], f"node number {row[0]}")
    _, digest, level, first, last, tokens, strength, joined, _ = row
    children = tuple(joined[i : i + DIGEST_BYTES] for i in range(0, len(joined), DIGEST_BYTES))
    return Node(digest, level, first, last, tokens, strength, children)


def nodes(db: sqlite3.Connection, digests: Sequence[bytes]) -> dict[bytes, Node]:
    found: dict[bytes, Node] = {}
    for marks, batch in _batches(digests):
        for row in db.execute(f"SELECT {NODE_COLUMNS}, checksum FROM nodes WHERE digest IN ({marks})", batch):
            node = read_node(row)
            found[node.digest] = node
    return {digest: found[digest] for digest in digests if digest in found}


def read_closing(row: Sequence[Any]) -> tuple[int, Node]:
    """row: closer, level, node and their checksum, then NODE_COLUMNS and their checksum."""
    check_row(row[:3], row[3], f"the closing of level {row[1]} by turn number {row[0]}")
    return row[0], read_node(row[4:])


def closings(db: sqlite3.Connection, first_seq: int, last_seq: int) -> list[tuple[int, Node]]:
    rows = db.execute(f"{CLOSINGS} WHERE c.closer BETWEEN ? AND ? ORDER BY c.closer, c.level", (first_seq, last_seq))
    return [read_closing(row) for row in rows]


def nodes_over(db: sqlite3.Connection, first: int, last: int) -> list[tuple[int, Node]]:
    rows = db.execute(f"{CLOSINGS} WHERE n.first = ? AND n.last = ? ORDER BY c.closer", (first, last))
    return [read_closing(row) for row in rows]


def branch_roots(db: sqlite3.Connection, ranges: Sequence[tuple[int, int]]) -> list[Node]:
    return [read_closing(row)[1] for row in db.execute(BRANCH_ROOTS, (json.dumps(ranges),))]


class SummaryCache(dict[bytes, NodeSummaries]):
    """The summaries read through one connection, by node. A view reads much the same ones as the view before."""

    def __init__(self) -> None:
        super().__init__()
        self._version = 0

    def refresh(self, db: sqlite3.Connection) -> None:
        """Empties the cache if another connection has written since, or if it is full.

        SQLite does not report writes of this connection itself: after writing summaries, clear the cache.
        """
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if version != self._version or len(self) > SUMMARIES_CACHED_MAX:
            self.clear()
        self._version = version


def summaries(
    db: sqlite3.Connection, digests: Sequence[bytes], compression: TextCompression, cache: SummaryCache
) -> LazySummaries:
    cache.refresh(db)
    for marks, batch in _batches([digest for digest in dict.fromkeys(digests) if digest not in cache]):
        rows = db.execute(
            f"SELECT n.digest, {_SUMMARY}, s.checksum, s.body FROM nodes n JOIN summaries s USING (node) "
            f"WHERE n.digest IN ({marks})",
            batch,
        )
        for digest, *row, checksum, body in rows:
            name = f"summary number {row[0]}"
            check_row(row, checksum, name)
            place, _, author, _, codec, body_checksum = row
            text = compression.decompress(db, codec, body_checksum, body, name)
            cache.setdefault(digest, NodeSummaries()).add(place, author, text)
    return LazySummaries({digest: cache[digest] for digest in digests if digest in cache})


def read_piece(row: Sequence[Any]) -> Piece:
    """row: PIECE_COLUMNS and their checksum."""
    *own, checksum = row
    if row_checksum(own) != checksum:  # the row's name takes as long to build as all the rest to read
        raise mismatch(f"piece number {row[0]}")
    own[10] = role_of(own[10], f"turn number {row[1]}")
    return Piece._make(own)


def pieces(db: sqlite3.Connection, ids: Sequence[int]) -> dict[int, Piece]:
    found: dict[int, Piece] = {}
    for condition, batch in _conditions("p.id", ids):
        found.update((row[0], read_piece(row)) for row in db.execute(f"{PIECES} WHERE {condition}", batch))
    _require_all(db, "next_piece", "Piece", ids, found)
    return {i: found[i] for i in ids if i in found}


def pieces_of(db: sqlite3.Connection, seqs: Sequence[int]) -> dict[int, list[Piece]]:
    found: dict[int, list[Piece]] = {}
    for marks, batch in _batches(seqs):
        spans = db.execute(f"SELECT {TURN_COLUMNS}, checksum FROM turns WHERE seq IN ({marks})", batch).fetchall()
        for row in spans:
            check_row(row[:-1], row[-1], f"turn number {row[0]}")
            seq, first, count = row[0], row[5], row[6]
            rows = db.execute(f"{PIECES} WHERE p.id BETWEEN ? AND ? ORDER BY p.id", (first, first + count - 1))
            found[seq] = [read_piece(piece) for piece in rows]
            if [piece.seq for piece in found[seq]] != [seq] * count:
                raise BrokenHistory(f"Turn number {seq} has {count} pieces, of which {len(found[seq])} are there.")
    _require_all(db, "next_seq", "Turn", seqs, found)
    return found


def vectors(db: sqlite3.Connection, ids: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for condition, batch in _conditions("id", ids):
        for key, checksum, body in db.execute(f"SELECT id, checksum, body FROM vectors WHERE {condition}", batch):
            if not is_sound_blob(key, checksum, body):
                raise mismatch(f"the vector of piece number {key}")
            found[key] = body
    return {i: found[i] for i in ids if i in found}


def model_calls(db: sqlite3.Connection) -> list[ModelCall]:
    """All calls, oldest first."""
    rows = db.execute(
        "SELECT coalesce(digest, x''), author, begun, tokens_in, tokens_out, outcome, number "
        "FROM model_calls LEFT JOIN nodes USING (node) ORDER BY number"
    )
    return [_call(row) for row in rows]


def _call(row: Sequence[Any]) -> ModelCall:
    """Raises BrokenHistory if a field has the wrong type. Calls have no checksum: they hold no words."""
    if not all(map(isinstance, row, CALL_TYPES)):
        raise BrokenHistory(f"Model call number {row[-1]} has a field of the wrong type.")
    return ModelCall(*row)


def dense_vectors(db: sqlite3.Connection, tag: bytes, ids: Sequence[int]) -> dict[int, bytes]:
    found: dict[str, bytes] = {}
    for marks, batch in _batches([dense_key(i) for i in ids]):
        select = f"SELECT key, checksum, value FROM extra WHERE key IN ({marks})"
        rows = db.execute(select, batch)
        found |= {key: value for key, checksum, value in rows if is_sound_blob(key, checksum, value)}
    return {i: value for i in ids if (value := found.get(dense_key(i), b"")).startswith(tag)}


def extra(db: sqlite3.Connection, key: str) -> bytes | None:
    row = db.execute("SELECT checksum, value FROM extra WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    if not is_sound_blob(key, *row):
        raise mismatch(f"the extra {key!r}")
    value: bytes = row[1]
    return value
