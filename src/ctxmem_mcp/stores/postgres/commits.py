"""Writes a commit in one transaction: all rows, the index, the head, or nothing.

The first statement compares and swaps the version in the conversation's row. Another writer's statement waits for that
row until this transaction ends, and then finds another version. All that takes time (compressing, encoding) is done
before, so that a transaction is two exchanges with the server.

Each commit has a random number, and the row holds the last ones. If the connection is lost before the server has
confirmed a commit, the number shows afterwards whether it was stored.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctxmem_mcp.errors import HeadMoved, StoreUnavailable, UnknownConversation, UnknownNode
from ctxmem_mcp.models import Summary, Turn
from ctxmem_mcp.stores.encoding import ROLE_NUMBER, STATE_COLUMNS, serialize_summary
from ctxmem_mcp.stores.postgres import queries, term_index
from ctxmem_mcp.stores.postgres.database import Connection, fetch
from ctxmem_mcp.stores.postgres.rows import compress, to_bytes
from ctxmem_mcp.stores.records import DENSE_GENERATION, GENERATION_BYTES, Closing, Commit, StoredPiece, dense_key

# A commit whose answer was lost is recognised among so many later ones.
COMMITS_KNOWN = 32

_KEY = "principal = %(principal)s AND conversation = %(conversation)s"
_COLUMNS = (*STATE_COLUMNS, "unindexed")

CREATE = f"""
INSERT INTO conversations (principal, conversation, {", ".join(_COLUMNS)}, text_bytes, first_waiting, commits)
VALUES (%(principal)s, %(conversation)s, {", ".join(f"%({column})s" for column in _COLUMNS)}, %(added_bytes)s, 1,
    ARRAY[%(commit)s::bigint])
ON CONFLICT DO NOTHING RETURNING first_waiting
"""
SWAP = f"""
UPDATE conversations SET {", ".join(f"{column} = %({column})s" for column in _COLUMNS)},
    text_bytes = text_bytes + %(added_bytes)s, commits = (%(commit)s::bigint || commits)[1:{COMMITS_KNOWN}]
WHERE {_KEY} AND version = %(version)s - 1 AND created = %(created)s RETURNING first_waiting
"""
KNOWN_COMMITS = f"SELECT version, created, commits FROM conversations WHERE {_KEY}"
ADD_TURNS = """
INSERT INTO turns SELECT %(principal)s, %(conversation)s, t.* FROM unnest(
    %(seqs)s::bigint[], %(indexes)s::bigint[], %(digests)s::bytea[], %(roles)s::smallint[], %(tokens)s::bigint[],
    %(firsts)s::bigint[], %(pieces)s::bigint[], %(names)s::bytea[], %(times)s::bytea[], %(calls)s::bytea[],
    %(flags)s::integer[], %(languages)s::text[], %(stored)s::float8[], %(codecs)s::smallint[], %(bodies)s::bytea[]) AS t
"""
SET_INDEXED = f"""
UPDATE turns SET first_piece = i.first_piece, pieces = i.pieces, flags = i.flags, language = i.language
FROM unnest(%(seqs)s::bigint[], %(firsts)s::bigint[], %(pieces)s::bigint[], %(flags)s::integer[],
    %(languages)s::text[]) AS i (seq, first_piece, pieces, flags, language)
WHERE {_KEY} AND turns.seq = i.seq
"""
ADD_PIECES = """
INSERT INTO pieces SELECT %(principal)s, %(conversation)s, p.* FROM unnest(
    %(ids)s::bigint[], %(seqs)s::bigint[], %(indexes)s::bigint[], %(starts)s::bigint[], %(stops)s::bigint[],
    %(tokens)s::bigint[], %(words)s::bigint[], %(flags)s::bigint[], %(leaves)s::bigint[], %(sittings)s::bigint[],
    %(roles)s::smallint[], %(names)s::bytea[], %(times)s::bytea[]) AS p
"""
ADD_VECTORS = """
INSERT INTO vectors SELECT %(principal)s, %(conversation)s, v.*
FROM unnest(%(ids)s::bigint[], %(bodies)s::bytea[]) AS v
"""
ADD_NODES = """
INSERT INTO nodes SELECT %(principal)s, %(conversation)s, n.* FROM unnest(
    %(digests)s::bytea[], %(levels)s::integer[], %(firsts)s::bigint[], %(lasts)s::bigint[], %(tokens)s::bigint[],
    %(strengths)s::integer[], %(children)s::bytea[]) AS n
ON CONFLICT DO NOTHING
"""
ADD_CLOSINGS = """
INSERT INTO closings SELECT %(principal)s, %(conversation)s, c.*
FROM unnest(%(closers)s::bigint[], %(levels)s::integer[], %(digests)s::bytea[]) AS c
"""
ADD_SUMMARIES = """
INSERT INTO summaries (principal, conversation, digest, author, created, codec, body)
SELECT %(principal)s, %(conversation)s, s.digest, s.author, %(now)s, s.codec, s.body
FROM unnest(%(digests)s::bytea[], %(authors)s::bytea[], %(codecs)s::smallint[], %(bodies)s::bytea[])
    AS s (digest, author, codec, body)
ON CONFLICT DO NOTHING
"""
DROP_SUMMARY = f"DELETE FROM summaries WHERE {_KEY} AND digest = %(digest)s AND author = %(author)s"
ADD_RUNS = """
INSERT INTO runs SELECT %(principal)s, %(conversation)s, r.*
FROM unnest(%(seqs)s::bigint[], %(parents)s::bigint[], %(indexes)s::bigint[], %(pieces)s::bigint[]) AS r
ON CONFLICT (principal, conversation, first_seq) DO UPDATE SET parent_seq = excluded.parent_seq,
    first_index = excluded.first_index, first_piece = excluded.first_piece
"""
ADD_ROOTS = """
INSERT INTO roots SELECT %(principal)s, %(conversation)s, unnest(%(digests)s::bytea[]) ON CONFLICT DO NOTHING
"""
LIVE = f"SELECT expires FROM conversations WHERE {_KEY} FOR UPDATE"
HAS_NODE = f"SELECT 1 FROM nodes WHERE {_KEY} AND digest = %(digest)s"
DROP_EXTRA = f"DELETE FROM extra WHERE {_KEY} AND key = %(key)s"
ADD_EXTRA = "INSERT INTO extra VALUES (%(principal)s, %(conversation)s, %(key)s, %(value)s)"
REPLACE_EXTRAS = """
INSERT INTO extra SELECT %(principal)s, %(conversation)s, e.*
FROM unnest(%(keys)s::text[], %(values)s::bytea[]) AS e (key, value)
ON CONFLICT (principal, conversation, key) DO UPDATE SET value = excluded.value
"""
REPLACE_VECTORS = f"""
UPDATE vectors SET body = n.body FROM unnest(%(ids)s::bigint[], %(bodies)s::bytea[]) AS n (id, body)
WHERE {_KEY} AND vectors.id = n.id AND vectors.body = %(old)s
    AND EXISTS (SELECT 1 FROM conversations WHERE {_KEY} AND created = %(created)s)
"""


@dataclass(frozen=True, slots=True)
class EncodedCommit:
    """A commit as it is written.

    Attributes:
        state: The parameters of CREATE and SWAP.
        statements: The other statements, each with its parameters but the key.
        pieces: The chunks, for the index.
    """

    conversation_id: str
    version: int
    state: Mapping[str, object]
    statements: Sequence[tuple[str, Mapping[str, object]]]
    pieces: Sequence[StoredPiece]


def encode(commit: Commit, now: float) -> EncodedCommit:
    """Encodes a commit; reads all its sequences to the end."""
    state, turns, pieces = commit.state, list(commit.turns), list(commit.pieces)
    columns: dict[str, object] = {name: getattr(state, name) for name in STATE_COLUMNS}
    columns |= {"title": to_bytes(state.title), "space": to_bytes(state.space), "unindexed": list(state.unindexed)}
    columns |= {
        "added_bytes": sum(len(turn.content.encode()) for turn in turns), "commit": secrets.randbits(63)
    }  # fmt: skip
    statements: list[tuple[str, Mapping[str, object]]] = []
    ids = _ids_by_turn(pieces)
    if turns:
        statements.append((ADD_TURNS, _turn_columns(turns, ids)))
    if commit.indexed:
        statements.append((SET_INDEXED, _indexed_columns(commit.indexed, ids)))
    if pieces:
        statements.append((ADD_PIECES, _piece_columns(pieces)))
    if vectors := [(stored.piece.id, stored.vector) for stored in pieces if stored.vector]:
        statements.append((ADD_VECTORS, {"ids": [i for i, _ in vectors], "bodies": [body for _, body in vectors]}))
    if closings := list(commit.closings):
        statements += _closing_statements(closings, now)
    if commit.runs:
        runs = [(run.first_seq, run.parent_seq, run.first_index, run.first_piece) for run in commit.runs]
        names = ("seqs", "parents", "indexes", "pieces")
        statements.append((ADD_RUNS, _columns(names, runs)))
        digests = {turn.seq: turn.digest for turn in turns}
        if roots := [digests[run.first_seq] for run in commit.runs if not run.parent_seq and run.first_seq in digests]:
            statements.append((ADD_ROOTS, {"digests": roots}))
    return EncodedCommit(state.conversation_id, state.version, columns, statements, pieces)


def _columns(names: Sequence[str], rows: Sequence[Sequence[object]]) -> dict[str, object]:
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _ids_by_turn(pieces: Sequence[StoredPiece]) -> dict[int, list[int]]:
    ids: dict[int, list[int]] = {}
    for stored in pieces:
        ids.setdefault(stored.piece.seq, []).append(stored.piece.id)
    return ids


def _turn_columns(turns: Sequence[Turn], ids: Mapping[int, Sequence[int]]) -> dict[str, object]:
    names = (
        "seqs", "indexes", "digests", "roles", "tokens", "firsts", "pieces", "names", "times", "calls", "flags",
        "languages", "stored", "codecs", "bodies",
    )  # fmt: skip
    rows = [
        (
            turn.seq, turn.index, turn.digest, ROLE_NUMBER[turn.role], turn.tokens,
            min(ids.get(turn.seq, ()), default=0), len(ids.get(turn.seq, ())), to_bytes(turn.name),
            to_bytes(turn.said_at), to_bytes(turn.call_id), turn.flags, turn.language,
            float(turn.stored_at), *compress(turn.content),
        )
        for turn in turns
    ]  # fmt: skip
    return _columns(names, rows)


def _indexed_columns(turns: Sequence[Turn], ids: Mapping[int, Sequence[int]]) -> dict[str, object]:
    rows = [(t.seq, ids[t.seq][0], len(ids[t.seq]), t.flags, t.language) for t in turns]
    return _columns(("seqs", "firsts", "pieces", "flags", "languages"), rows)


def _piece_columns(pieces: Sequence[StoredPiece]) -> dict[str, object]:
    names = (
        "ids", "seqs", "indexes", "starts", "stops", "tokens", "words", "flags", "leaves", "sittings", "roles", "names",
        "times",
    )  # fmt: skip
    rows = [
        (
            p.id, p.seq, p.index, p.start, p.stop, p.tokens, p.words, int(p.flags), p.leaf, p.sitting,
            ROLE_NUMBER[p.role], to_bytes(p.name), to_bytes(p.said_at),
        )
        for p in (stored.piece for stored in pieces)
    ]  # fmt: skip
    return _columns(names, rows)


def _closing_statements(closings: Sequence[Closing], now: float) -> list[tuple[str, Mapping[str, object]]]:
    nodes = [
        (n.digest, n.level, n.first, n.last, n.tokens, n.strength, b"".join(n.children))
        for n in (closing.node for closing in closings)
    ]
    names = ("digests", "levels", "firsts", "lasts", "tokens", "strengths", "children")
    closers = [(closing.closer, closing.node.level, closing.node.digest) for closing in closings]
    return [
        (ADD_NODES, _columns(names, nodes)),
        (ADD_CLOSINGS, _columns(("closers", "levels", "digests"), closers)),
        (ADD_SUMMARIES, summary_columns([(c.node.digest, c.summary) for c in closings], now)),
    ]


def summary_columns(summaries: Sequence[tuple[bytes, Summary]], now: float) -> dict[str, object]:
    """Returns the parameters of ADD_SUMMARIES. summaries: each with its node's digest."""
    rows = [(digest, to_bytes(s.author), *compress(serialize_summary(s))) for digest, s in summaries]
    return {**_columns(("digests", "authors", "codecs", "bodies"), rows), "now": float(now)}


async def write(connection: Connection, principal: str, commit: EncodedCommit) -> None:
    """Writes a commit, inside a transaction.

    Raises:
        HeadMoved: It was not computed from the stored version.
    """
    key = {"principal": principal, "conversation": commit.conversation_id}
    swapped = await fetch(connection, CREATE if commit.version == 1 else SWAP, {**key, **commit.state})
    if not swapped:
        raise HeadMoved(commit.conversation_id)
    await add_rows(connection, key, commit, swapped[0][0])


async def add_rows(
    connection: Connection, key: Mapping[str, object], commit: EncodedCommit, first_waiting: int
) -> None:
    """Writes all rows of a commit but the conversation's own."""
    async with connection.pipeline():
        for statement, values in commit.statements:
            await connection.execute(statement, {**key, **values})
        await term_index.add(connection, key, first_waiting, commit.pieces)


async def was_stored(connection: Connection, principal: str, commit: EncodedCommit) -> bool:
    """Returns whether a commit was stored although the response to it was lost.

    Raises:
        StoreUnavailable: So many others followed that it is not known.
    """
    key = {"principal": principal, "conversation": commit.conversation_id}
    for version, created, commits in await fetch(connection, KNOWN_COMMITS, key):
        if created != commit.state["created"]:
            break
        if commit.state["commit"] in commits:
            return True
        if version - commit.version >= COMMITS_KNOWN:
            raise StoreUnavailable(
                f"The connection was lost while {commit.conversation_id!r} was written, and whether it was stored is "
                "not known.",
                "Read the conversation's last turns before you send it again.",
            )
    return False


async def require_live(connection: Connection, key: Mapping[str, object], now: float) -> None:
    """Locks the conversation for this transaction.

    Raises:
        UnknownConversation: It has expired or was forgotten.
    """
    rows = await fetch(connection, LIVE, key)
    if not rows or rows[0][0] <= now:
        raise UnknownConversation(str(key["conversation"]))


async def require_node(connection: Connection, key: Mapping[str, object], digest: bytes, now: float) -> None:
    """Locks the conversation for this transaction.

    Raises:
        UnknownConversation: It has expired or was forgotten.
        UnknownNode: It has no such node.
    """
    await require_live(connection, key, now)
    if not await fetch(connection, HAS_NODE, {**key, "digest": digest}):
        raise UnknownNode(digest.hex(), str(key["conversation"]))


async def put_summary(
    connection: Connection, key: Mapping[str, object], digest: bytes, summary: Summary, now: float
) -> None:
    """Adds a summary, or replaces the one by the same author, inside a transaction."""
    await connection.execute(DROP_SUMMARY, {**key, "digest": digest, "author": to_bytes(summary.author)})
    await connection.execute(ADD_SUMMARIES, {**key, **summary_columns([(digest, summary)], now)})


async def put_extra(connection: Connection, key: Mapping[str, object], name: str, value: bytes | None) -> None:
    """Stores a fact about the conversation, in place of the one before, inside a transaction."""
    await connection.execute(DROP_EXTRA, {**key, "key": name})
    if value is not None:
        await connection.execute(ADD_EXTRA, {**key, "key": name, "value": value})


async def begin_dense_generation(connection: Connection, key: Mapping[str, object]) -> bytes:
    """Returns the generation of the dense vectors, which the first call chooses, inside a transaction."""
    await require_live(connection, key, float("-inf"))
    if (known := await queries.extra(connection, key, DENSE_GENERATION)) is not None:
        return known
    generation = secrets.token_bytes(GENERATION_BYTES)
    await put_extra(connection, key, DENSE_GENERATION, generation)
    return generation


async def add_dense_vectors(
    connection: Connection, key: Mapping[str, object], generation: bytes, vectors: Mapping[int, bytes]
) -> None:
    """Adds vectors if the generation is this one, inside a transaction; the lock keeps a rebuild out."""
    await require_live(connection, key, float("-inf"))
    if await queries.extra(connection, key, DENSE_GENERATION) == generation:
        values = {"keys": [dense_key(i) for i in vectors], "values": list(vectors.values())}
        await connection.execute(REPLACE_EXTRAS, {**key, **values})


async def replace_vectors(
    connection: Connection, key: Mapping[str, object], created: float, old: bytes, vectors: Mapping[int, bytes]
) -> None:
    """Replaces the vectors that are `old`; see `Store.replace_vectors`."""
    values = {"ids": list(vectors), "bodies": list(vectors.values()), "old": old, "created": created}
    await connection.execute(REPLACE_VECTORS, {**key, **values})
