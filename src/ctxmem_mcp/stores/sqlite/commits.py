"""Writes a commit in one transaction: all rows, the index, the head, or nothing. Runs on the connection's thread."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from ctxmem_mcp.errors import HeadMoved, UnknownConversation, UnknownNode
from ctxmem_mcp.models import Node, Summary
from ctxmem_mcp.stores.encoding import ROLE_NUMBER, STATE_COLUMNS, serialize_summary
from ctxmem_mcp.stores.records import (
    DENSE_GENERATION,
    GENERATION_BYTES,
    Closing,
    Commit,
    Run,
    State,
    StoredPiece,
    dense_key,
)
from ctxmem_mcp.stores.sqlite import term_index
from ctxmem_mcp.stores.sqlite.checksums import (
    CONVERSATION_COLUMNS,
    TURN_COLUMNS,
    blob_checksum,
    check_row,
    mismatch,
    row_checksum,
)
from ctxmem_mcp.stores.sqlite.compression import TextCompression
from ctxmem_mcp.stores.sqlite.connection import transaction

# The key of the extra that holds `State.unindexed`, as numbers separated by commas.
UNINDEXED = "unindexed"

_state_columns = attrgetter(*STATE_COLUMNS)
_TIMES = slice(STATE_COLUMNS.index("created"), STATE_COLUMNS.index("expires") + 1)
_SELECT_STATE = f"SELECT {CONVERSATION_COLUMNS}, checksum FROM conversation"
_INSERT_STATE = f"INSERT INTO conversation VALUES (1, {', '.join('?' * 22)})"
_UPDATE_STATE = (
    f"UPDATE conversation SET {', '.join(f'{column} = ?' for column in STATE_COLUMNS)}, "
    "text_bytes = ?, forgotten = ?, runs = ?, checksum = ?"
)


class ConversationRow(NamedTuple):
    """The values of CONVERSATION_COLUMNS, and their checksum."""

    id: str
    version: int
    head: int
    next_seq: int
    next_piece: int
    turns: int
    tokens: int
    words: int
    nodes: int
    title: str
    space: str | None
    salt: bytes
    encoding: str
    retention_days: int
    created: float
    updated: float
    expires: float
    frontier: bytes
    text_bytes: int
    forgotten: int
    runs: int
    checksum: int

    @property
    def is_sound(self) -> bool:
        return row_checksum(self[:-1]) == self.checksum


def read_conversation(db: sqlite3.Connection) -> ConversationRow | None:
    """Returns the conversation's row; None if the file holds no conversation yet.

    Raises:
        BrokenHistory: The row does not match its checksum.
    """
    row = db.execute(_SELECT_STATE).fetchone()
    if row is None:
        return None
    found = ConversationRow._make(row)
    if not found.is_sound:
        raise mismatch("the conversation's own row")
    return found


def write_forgotten(db: sqlite3.Connection) -> None:
    """Marks the conversation as forgotten, whatever its checksum."""
    for row in db.execute(_SELECT_STATE).fetchall():
        forgotten = ConversationRow._make(row)._replace(forgotten=1)
        db.execute("UPDATE conversation SET forgotten = 1, checksum = ?", (row_checksum(forgotten[:-1]),))


def write(db: sqlite3.Connection, commit: Commit, compression: TextCompression, now: float) -> None:
    """Stores a commit durably. Raises HeadMoved if it was not computed from the file's version."""
    state = commit.state
    try:
        with transaction(db):
            # Not checked here: if one of these is damaged, the caller reads the whole state again, which is checked.
            row = db.execute("SELECT version, forgotten, expires, text_bytes, created FROM conversation").fetchone()
            if row is not None and row[1]:
                raise HeadMoved(state.conversation_id)
            if (row[0] if row else 0) != state.version - 1 or (row and row[4] != state.created):
                raise HeadMoved(state.conversation_id)
            text_bytes = row[3] if row else 0
            if not isinstance(text_bytes, int):
                raise mismatch("the conversation's own row")
            if commit.turns:
                compression.use_dictionary(db, text_bytes)
            text_bytes += _write_turns(db, commit, compression)
            if commit.indexed:
                _write_indexed(db, commit)
            if state.unindexed or commit.indexed:
                _write_unindexed(db, state.unindexed)
            _write_pieces(db, commit.pieces)
            _write_closings(db, commit.closings, compression, now)
            if commit.runs:
                _write_runs(db, commit.runs)
            _write_state(db, state, text_bytes, exists=row is not None)
    except BaseException:
        compression.forget_dictionaries()
        raise


def _write_state(db: sqlite3.Connection, state: State, text_bytes: int, *, exists: bool) -> None:
    columns = _state_columns(state)
    times = map(float, columns[_TIMES])  # SQLite returns floats for these, whatever was stored
    values = (*columns[: _TIMES.start], *times, *columns[_TIMES.stop :], text_bytes, 0, len(state.runs))
    checksum = row_checksum((state.conversation_id, *values))
    if exists:
        db.execute(_UPDATE_STATE, (*values, checksum))
    else:
        db.execute(_INSERT_STATE, (state.conversation_id, *values, checksum))


def _write_runs(db: sqlite3.Connection, runs: Sequence[Run]) -> None:
    rows = [(run.first_seq, run.parent_seq, run.first_index, run.first_piece) for run in runs]
    db.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)", [(*row, row_checksum(row)) for row in rows])


def _write_turns(db: sqlite3.Connection, commit: Commit, compression: TextCompression) -> int:
    """Returns the number of bytes of text, before compression."""
    piece_ids, rows, size = _ids_by_turn(commit.pieces), [], 0
    for turn in commit.turns:
        codec, body_checksum, body = compression.compress(turn.content)
        size += len(turn.content.encode())
        ids = piece_ids.get(turn.seq, ())
        row = (
            turn.seq, turn.index, turn.digest, ROLE_NUMBER[turn.role], turn.tokens, min(ids, default=0), len(ids),
            turn.name, turn.said_at, turn.call_id, turn.flags, turn.language, float(turn.stored_at), codec,
            body_checksum,
        )  # fmt: skip
        rows.append((*row, row_checksum(row), body))
    db.executemany(f"INSERT INTO turns VALUES ({', '.join('?' * 17)})", rows)
    return size


def _ids_by_turn(pieces: Sequence[StoredPiece]) -> dict[int, list[int]]:
    ids: dict[int, list[int]] = {}
    for stored in pieces:
        ids.setdefault(stored.piece.seq, []).append(stored.piece.id)
    return ids


def _write_indexed(db: sqlite3.Connection, commit: Commit) -> None:
    """Stores what indexing has found of turns that are stored: their chunks' ids, languages and flags."""
    piece_ids, first = _ids_by_turn(commit.pieces), commit.indexed[0].seq
    select = f"SELECT {TURN_COLUMNS}, checksum FROM turns WHERE seq BETWEEN ? AND ?"
    stored = {row[0]: row for row in db.execute(select, (first, commit.indexed[-1].seq))}
    rows = []
    for turn in commit.indexed:
        *row, checksum = stored[turn.seq]
        check_row(row, checksum, f"turn number {turn.seq}")
        ids = piece_ids[turn.seq]
        changed = (*row[:5], ids[0], len(ids), *row[7:10], turn.flags, turn.language, *row[12:])
        rows.append((ids[0], len(ids), turn.flags, turn.language, row_checksum(changed), turn.seq))
    db.executemany(
        "UPDATE turns SET first_piece = ?, pieces = ?, flags = ?, language = ?, checksum = ? WHERE seq = ?", rows
    )


def _write_unindexed(db: sqlite3.Connection, unindexed: Sequence[int]) -> None:
    db.execute("DELETE FROM extra WHERE key = ?", (UNINDEXED,))
    if unindexed:
        value = ",".join(map(str, unindexed)).encode()
        db.execute("INSERT INTO extra VALUES (?, ?, ?)", (UNINDEXED, blob_checksum(UNINDEXED, value), value))


def _write_pieces(db: sqlite3.Connection, pieces: Sequence[StoredPiece]) -> None:
    rows = []
    for p in (stored.piece for stored in pieces):
        row = (p.id, p.seq, p.index, p.start, p.stop, p.tokens, p.words, int(p.flags), p.leaf, p.sitting)
        rows.append((*row, row_checksum((*row, ROLE_NUMBER[p.role], p.name, p.said_at))))
    db.executemany("INSERT INTO pieces VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    if vectors := [(stored.piece.id, stored.vector) for stored in pieces if stored.vector]:
        db.executemany("INSERT INTO vectors VALUES (?, ?, ?)", [(i, blob_checksum(i, v), v) for i, v in vectors])
    term_index.add(db, pieces)


def _write_closings(
    db: sqlite3.Connection, closings: Iterable[Closing], compression: TextCompression, now: float
) -> None:
    for closing in closings:
        node = closing.node
        row = db.execute("SELECT node FROM nodes WHERE digest = ?", (node.digest,)).fetchone()
        number = row[0] if row else _write_node(db, node, closing.summary, compression, now)
        row = (closing.closer, node.level, number)
        db.execute("INSERT INTO closings VALUES (?, ?, ?, ?)", (*row, row_checksum(row)))


def _write_node(db: sqlite3.Connection, node: Node, summary: Summary, compression: TextCompression, now: float) -> int:
    """Returns the node's number in this file."""
    number: int
    (number,) = db.execute("SELECT coalesce(max(node), 0) + 1 FROM nodes").fetchone()
    row = (number, node.digest, node.level, node.first, node.last, node.tokens, node.strength, b"".join(node.children))
    db.execute("INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, row_checksum(row)))
    _write_summary(db, number, summary, compression, now)
    return number


def _write_summary(
    db: sqlite3.Connection, node: int, summary: Summary, compression: TextCompression, now: float
) -> None:
    (place,) = db.execute("SELECT coalesce(max(place), 0) + 1 FROM summaries").fetchone()
    codec, body_checksum, body = compression.compress(serialize_summary(summary))
    row = (place, node, summary.author, float(now), codec, body_checksum)
    db.execute("INSERT INTO summaries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, row_checksum(row), body))


def add_summary(
    conversation_id: str,
    digest: bytes,
    summary: Summary,
    compression: TextCompression,
    now: float,
    db: sqlite3.Connection,
) -> None:
    with transaction(db):
        insert_summary(db, node_number(db, conversation_id, digest, now), summary, compression, now)


def set_extra(conversation_id: str, key: str, value: bytes | None, now: float, db: sqlite3.Connection) -> None:
    with transaction(db):
        _require_live(db, conversation_id, now)
        db.execute("DELETE FROM extra WHERE key = ?", (key,))
        if value is not None:
            db.execute("INSERT INTO extra VALUES (?, ?, ?)", (key, blob_checksum(key, value), value))


def begin_dense_generation(db: sqlite3.Connection) -> bytes:
    """Returns the generation of the dense vectors, which the first call chooses."""
    with transaction(db):
        known = db.execute("SELECT value FROM extra WHERE key = ?", (DENSE_GENERATION,)).fetchone()
        generation: bytes = known[0] if known else secrets.token_bytes(GENERATION_BYTES)
        if not known:
            _add_extras(db, {DENSE_GENERATION: generation})
    return generation


def add_dense_vectors(generation: bytes, vectors: Mapping[int, bytes], db: sqlite3.Connection) -> None:
    with transaction(db):
        known = db.execute("SELECT value FROM extra WHERE key = ?", (DENSE_GENERATION,)).fetchone()
        if known == (generation,) and db.execute("SELECT 1 FROM conversation WHERE NOT forgotten").fetchone():
            _add_extras(db, {dense_key(i): vector for i, vector in vectors.items()})


def _add_extras(db: sqlite3.Connection, extras: Mapping[str, bytes]) -> None:
    rows = [(key, blob_checksum(key, value), value) for key, value in extras.items()]
    db.executemany("INSERT OR REPLACE INTO extra VALUES (?, ?, ?)", rows)


def replace_vectors(created: float, old: bytes, vectors: Mapping[int, bytes], db: sqlite3.Connection) -> None:
    rows = [(blob_checksum(i, vector), vector, i, old) for i, vector in vectors.items()]
    with transaction(db):
        if db.execute("SELECT 1 FROM conversation WHERE created = ? AND NOT forgotten", (created,)).fetchone():
            db.executemany("UPDATE vectors SET checksum = ?, body = ? WHERE id = ? AND body = ?", rows)


def _require_live(db: sqlite3.Connection, conversation_id: str, now: float) -> None:
    row = read_conversation(db)
    if row is None or row.forgotten or row.expires <= now:
        raise UnknownConversation(conversation_id)


def node_number(db: sqlite3.Connection, conversation_id: str, digest: bytes, now: float) -> int:
    """Returns a node's number in this file.

    Raises:
        UnknownConversation: The conversation has expired or was forgotten.
        UnknownNode: It has no such node.
    """
    _require_live(db, conversation_id, now)
    found = db.execute("SELECT node FROM nodes WHERE digest = ?", (digest,)).fetchone()
    if found is None:
        raise UnknownNode(digest.hex(), conversation_id)
    number: int = found[0]
    return number


def insert_summary(
    db: sqlite3.Connection, node: int, summary: Summary, compression: TextCompression, now: float
) -> None:
    """Adds a summary, or replaces the one by the same author. Call it inside a transaction."""
    compression.use_dictionary(db)
    db.execute("DELETE FROM summaries WHERE node = ? AND author = ?", (node, summary.author))
    _write_summary(db, node, summary, compression, now)
