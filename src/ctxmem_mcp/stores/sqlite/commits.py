"""A commit as one transaction: all rows, the index, the head, or nothing. Runs on the connection's thread."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from ctxmem_mcp.errors import HeadMoved, UnknownConversation, UnknownNode
from ctxmem_mcp.models import ROLES, Highlight, Node, Summary, Turn
from ctxmem_mcp.stores.base import Closing, Commit, State, StoredPiece
from ctxmem_mcp.stores.sqlite.compression import Bodies
from ctxmem_mcp.stores.sqlite.connection import transaction

# Pieces are indexed this many at a time: the index writes several pages for each time, few more for each piece.
WAITING_MAX = 32
# The tokenizer takes these as parts of a token and as they are, and whatever is not ASCII.
_PLAIN = "abcdefghijklmnopqrstuvwxyz0123456789=@._-/"
_WRITTEN = {code: 0xE000 + code for code in range(128) if chr(code) not in _PLAIN}
_NOTHING = chr(0xE080)
# Bytes are looked through for others many times faster than a pattern finds them.
_PLAIN_BYTES = f"{_PLAIN} ".encode() + bytes(range(0x80, 0x100))

ROLE_NUMBER = {role: number for number, role in enumerate(ROLES)}

STATE_COLUMNS = (
    "version", "head", "next_seq", "next_piece", "turns", "tokens", "words", "nodes", "title", "space", "salt",
    "encoding", "retention_days", "created", "updated", "expires", "frontier",
)  # fmt: skip
_INSERT_STATE = (
    f"INSERT INTO conversation (one, id, {', '.join(STATE_COLUMNS)}) VALUES (1, ?{', ?' * len(STATE_COLUMNS)})"
)
_UPDATE_STATE = f"UPDATE conversation SET {', '.join(f'{column} = ?' for column in STATE_COLUMNS)}, text_bytes = ?"


def write(db: sqlite3.Connection, commit: Commit, bodies: Bodies, now: float) -> None:
    """Stores a commit durably. Raises HeadMoved where the file's version is not the one it was computed from."""
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
                db.execute(_INSERT_STATE, (state.conversation_id, *_values(state)))
            if commit.turns:
                bodies.use_dictionary(db, text_bytes)
            text_bytes += _write_turns(db, commit.turns, commit.pieces, bodies)
            _write_pieces(db, commit.pieces)
            _write_closings(db, commit.closings, bodies, now)
            for run in commit.runs:
                row = (run.first_seq, run.parent_seq, run.first_index, run.first_piece)
                db.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", row)
            db.execute(_UPDATE_STATE, (*_values(state), text_bytes))
    except BaseException:
        bodies.forget_dictionary()
        raise


def _values(state: State) -> tuple[object, ...]:
    return tuple(getattr(state, column) for column in STATE_COLUMNS)


def _write_turns(db: sqlite3.Connection, turns: Sequence[Turn], pieces: Sequence[StoredPiece], bodies: Bodies) -> int:
    """Gives the bytes of text written."""
    owned: dict[int, list[int]] = {}
    for stored in pieces:
        owned.setdefault(stored.piece.seq, []).append(stored.piece.id)
    rows, size = [], 0
    for turn in turns:
        codec, body = bodies.encode(turn.content)
        size += len(turn.content.encode())
        ids = owned[turn.seq]
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
    words = [(stored.piece.id, indexed(stored.terms)) for stored in pieces]
    if not words:
        return
    (first,) = db.execute("SELECT coalesce(min(id), ?) FROM waiting", (words[0][0],)).fetchone()
    if words[-1][0] - first < WAITING_MAX:
        db.executemany("INSERT INTO waiting VALUES (?, ?)", words)
        return
    db.execute("INSERT INTO terms (rowid, words) SELECT id, words FROM waiting ORDER BY id")
    db.execute("DELETE FROM waiting")
    db.executemany("INSERT INTO terms (rowid, words) VALUES (?, ?)", words)


def indexed(terms: Sequence[str]) -> str:
    """Terms as one text that the index's tokenizer takes apart into just these."""
    joined = " ".join(terms)
    odd = joined.encode("utf-8", "surrogatepass").translate(None, _PLAIN_BYTES)
    if odd or joined.count(" ") != max(0, len(terms) - 1) or not all(terms):
        return " ".join(map(index_term, terms))
    return joined


def index_term(term: str) -> str:
    """A term as it stands in the index: what would end a token there, or change in it, is written by other letters."""
    return term.translate(_WRITTEN) if term else _NOTHING


def _write_closings(db: sqlite3.Connection, closings: Iterable[Closing], bodies: Bodies, now: float) -> None:
    for closing in closings:
        node = closing.node
        known = db.execute("SELECT node FROM nodes WHERE digest = ?", (node.digest,)).fetchone()
        number = known[0] if known else _write_node(db, node, closing.summary, bodies, now)
        db.execute("INSERT INTO closings VALUES (?, ?, ?)", (closing.closer, node.level, number))


def _write_node(db: sqlite3.Connection, node: Node, summary: Summary, bodies: Bodies, now: float) -> int:
    """Gives its number in this file."""
    number = db.execute(
        "INSERT INTO nodes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
        (node.digest, node.level, node.first, node.last, node.tokens, node.strength, b"".join(node.children)),
    ).lastrowid
    assert number is not None
    codec, body = bodies.encode(summary_text(summary))
    db.execute("INSERT INTO summaries VALUES (NULL, ?, ?, ?, ?, ?)", (number, summary.author, now, codec, body))
    return number


def write_summary(
    conversation_id: str, digest: bytes, summary: Summary, bodies: Bodies, now: float, db: sqlite3.Connection
) -> None:
    with transaction(db):
        join_summary(db, living_node(db, conversation_id, digest, now), summary, bodies, now)


def living_node(db: sqlite3.Connection, conversation_id: str, digest: bytes, now: float) -> int:
    """A node's number in this file, if its conversation lives."""
    row = db.execute("SELECT forgotten, expires FROM conversation").fetchone()
    if row is None or row[0] or row[1] <= now:
        raise UnknownConversation(conversation_id)
    known = db.execute("SELECT node FROM nodes WHERE digest = ?", (digest,)).fetchone()
    if known is None:
        raise UnknownNode(digest.hex(), conversation_id)
    number: int = known[0]
    return number


def join_summary(db: sqlite3.Connection, node: int, summary: Summary, bodies: Bodies, now: float) -> None:
    """Inside a transaction."""
    bodies.use_dictionary(db)
    codec, body = bodies.encode(summary_text(summary))
    db.execute("DELETE FROM summaries WHERE node = ? AND author = ?", (node, summary.author))
    db.execute("INSERT INTO summaries VALUES (NULL, ?, ?, ?, ?, ?)", (node, summary.author, now, codec, body))


def summary_text(summary: Summary) -> str:
    """A summary without its author, as JSON: title, highlights, identifiers, open_for."""
    highlights = [[h.kind, h.index, h.role, h.text] for h in summary.highlights]
    return json.dumps(
        [summary.title, highlights, list(summary.identifiers), summary.open_for],
        ensure_ascii=False,
        separators=(",", ":"),
    )


def summary_of(author: str, text: str) -> Summary:
    title, highlights, identifiers, open_for = json.loads(text)
    return Summary(author, title, tuple(Highlight(*h) for h in highlights), tuple(identifiers), open_for)
