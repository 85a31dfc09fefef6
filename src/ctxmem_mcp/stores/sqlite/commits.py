"""Writes a commit in one transaction: all rows, the index, the head, or nothing. Runs on the connection's thread."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from ctxmem_mcp.errors import HeadMoved, UnknownConversation, UnknownNode
from ctxmem_mcp.models import ROLES, Highlight, Node, Summary, Turn
from ctxmem_mcp.stores.base import Closing, Commit, State, StoredPiece
from ctxmem_mcp.stores.sqlite.compression import TextCompression
from ctxmem_mcp.stores.sqlite.connection import transaction

# Pieces are indexed this many at a time: each insertion into the index writes several pages, and few more per piece.
WAITING_MAX = 32
# ASCII characters that FTS5's tokenizer keeps in a token unchanged; it also keeps everything that is not ASCII.
_KEPT_BY_TOKENIZER = "abcdefghijklmnopqrstuvwxyz0123456789=@._-/"
# All other ASCII characters are replaced by letters of the private use area.
_ESCAPES = {code: 0xE000 + code for code in range(128) if chr(code) not in _KEPT_BY_TOKENIZER}
_EMPTY_TERM = chr(0xE080)
# Deleting the usual bytes and looking for a rest is many times faster than a regular expression.
_UNESCAPED_BYTES = f"{_KEPT_BY_TOKENIZER} ".encode() + bytes(range(0x80, 0x100))

ROLE_NUMBER = {role: number for number, role in enumerate(ROLES)}

STATE_COLUMNS = (
    "version", "head", "next_seq", "next_piece", "turns", "tokens", "words", "nodes", "title", "space", "salt",
    "encoding", "retention_days", "created", "updated", "expires", "frontier",
)  # fmt: skip
_INSERT_STATE = (
    f"INSERT INTO conversation (one, id, {', '.join(STATE_COLUMNS)}) VALUES (1, ?{', ?' * len(STATE_COLUMNS)})"
)
_UPDATE_STATE = f"UPDATE conversation SET {', '.join(f'{column} = ?' for column in STATE_COLUMNS)}, text_bytes = ?"


def write(db: sqlite3.Connection, commit: Commit, compression: TextCompression, now: float) -> None:
    """Stores a commit durably. Raises HeadMoved if it was not computed from the file's version."""
    state = commit.state
    try:
        with transaction(db):
            row = db.execute("SELECT version, forgotten, expires, text_bytes, created FROM conversation").fetchone()
            if row is not None and (row[1] or row[2] <= now):
                raise HeadMoved(state.conversation_id)
            if (row[0] if row else 0) != state.version - 1 or (row and row[4] != state.created):
                raise HeadMoved(state.conversation_id)
            text_bytes = row[3] if row else 0
            if row is None:
                db.execute(_INSERT_STATE, (state.conversation_id, *_state_values(state)))
            if commit.turns:
                compression.use_dictionary(db, text_bytes)
            text_bytes += _write_turns(db, commit.turns, commit.pieces, compression)
            _write_pieces(db, commit.pieces)
            _write_closings(db, commit.closings, compression, now)
            for run in commit.runs:
                row = (run.first_seq, run.parent_seq, run.first_index, run.first_piece)
                db.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", row)
            db.execute(_UPDATE_STATE, (*_state_values(state), text_bytes))
    except BaseException:
        compression.forget_dictionaries()
        raise


def _state_values(state: State) -> tuple[object, ...]:
    return tuple(getattr(state, column) for column in STATE_COLUMNS)


def _write_turns(
    db: sqlite3.Connection, turns: Sequence[Turn], pieces: Sequence[StoredPiece], compression: TextCompression
) -> int:
    """Returns the number of bytes of text, before compression."""
    piece_ids: dict[int, list[int]] = {}
    for stored in pieces:
        piece_ids.setdefault(stored.piece.seq, []).append(stored.piece.id)
    rows, size = [], 0
    for turn in turns:
        codec, body = compression.compress(turn.content)
        size += len(turn.content.encode())
        ids = piece_ids[turn.seq]
        rows.append(
            (turn.seq, turn.index, turn.digest, ROLE_NUMBER[turn.role], turn.tokens, ids[0], len(ids), turn.name,
             turn.said_at, turn.call_id, codec, body)
        )  # fmt: skip
    db.executemany("INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return size


def _write_pieces(db: sqlite3.Connection, pieces: Sequence[StoredPiece]) -> None:
    rows = [
        (p.id, p.seq, p.index, p.start, p.stop, p.tokens, p.words, int(p.flags), p.leaf, p.sitting)
        for p in (stored.piece for stored in pieces)
    ]
    db.executemany("INSERT INTO pieces VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    if vectors := [(stored.piece.id, stored.vector) for stored in pieces if stored.vector]:
        db.executemany("INSERT INTO vectors VALUES (?, ?)", vectors)
    words = [(stored.piece.id, encode_terms(stored.terms)) for stored in pieces]
    if not words:
        return
    (first,) = db.execute("SELECT coalesce(min(id), ?) FROM waiting", (words[0][0],)).fetchone()
    if words[-1][0] - first < WAITING_MAX:
        db.executemany("INSERT INTO waiting VALUES (?, ?)", words)
        return
    db.execute("INSERT INTO terms (rowid, words) SELECT id, words FROM waiting ORDER BY id")
    db.execute("DELETE FROM waiting")
    db.executemany("INSERT INTO terms (rowid, words) VALUES (?, ?)", words)


def encode_terms(terms: Sequence[str]) -> str:
    """Joins terms into one text that the index's tokenizer splits into exactly these terms."""
    joined = " ".join(terms)
    to_escape = joined.encode("utf-8", "surrogatepass").translate(None, _UNESCAPED_BYTES)
    if to_escape or joined.count(" ") != max(0, len(terms) - 1) or not all(terms):
        return " ".join(map(encode_term, terms))
    return joined


def encode_term(term: str) -> str:
    """The term as the index stores it: characters that would end a token, or be changed in it, are escaped."""
    return term.translate(_ESCAPES) if term else _EMPTY_TERM


def _write_closings(
    db: sqlite3.Connection, closings: Iterable[Closing], compression: TextCompression, now: float
) -> None:
    for closing in closings:
        node = closing.node
        row = db.execute("SELECT node FROM nodes WHERE digest = ?", (node.digest,)).fetchone()
        number = row[0] if row else _write_node(db, node, closing.summary, compression, now)
        db.execute("INSERT INTO closings VALUES (?, ?, ?)", (closing.closer, node.level, number))


def _write_node(db: sqlite3.Connection, node: Node, summary: Summary, compression: TextCompression, now: float) -> int:
    """Returns the node's number in this file."""
    number = db.execute(
        "INSERT INTO nodes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
        (node.digest, node.level, node.first, node.last, node.tokens, node.strength, b"".join(node.children)),
    ).lastrowid
    assert number is not None
    codec, body = compression.compress(serialize_summary(summary))
    db.execute("INSERT INTO summaries VALUES (NULL, ?, ?, ?, ?, ?)", (number, summary.author, now, codec, body))
    return number


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


def node_number(db: sqlite3.Connection, conversation_id: str, digest: bytes, now: float) -> int:
    """Returns a node's number in this file.

    Raises:
        UnknownConversation: The conversation has expired or was forgotten.
        UnknownNode: It has no such node.
    """
    row = db.execute("SELECT forgotten, expires FROM conversation").fetchone()
    if row is None or row[0] or row[1] <= now:
        raise UnknownConversation(conversation_id)
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
    codec, body = compression.compress(serialize_summary(summary))
    db.execute("DELETE FROM summaries WHERE node = ? AND author = ?", (node, summary.author))
    db.execute("INSERT INTO summaries VALUES (NULL, ?, ?, ?, ?, ?)", (node, summary.author, now, codec, body))


def serialize_summary(summary: Summary) -> str:
    """A summary without its author, as JSON: title, highlights, identifiers, open_for."""
    highlights = [[h.kind, h.index, h.role, h.text] for h in summary.highlights]
    return json.dumps(
        [summary.title, highlights, list(summary.identifiers), summary.open_for],
        ensure_ascii=False,
        separators=(",", ":"),
    )


def parse_summary(author: str, text: str) -> Summary:
    title, highlights, identifiers, open_for = json.loads(text)
    return Summary(author, title, tuple(Highlight(*h) for h in highlights), tuple(identifiers), open_for)
