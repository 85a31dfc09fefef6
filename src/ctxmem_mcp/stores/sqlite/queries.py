"""The store's questions as SQL. Every function runs on the connection's thread and reads in batches."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ctxmem_mcp.errors import BrokenHistory
from ctxmem_mcp.models import DIGEST_BYTES, ROLES, Node, Piece, Role, Summary, Turn
from ctxmem_mcp.stores.base import Run, State, TermHits
from ctxmem_mcp.stores.sqlite.commits import STATE_COLUMNS, index_term, summary_of
from ctxmem_mcp.stores.sqlite.compression import Bodies
from ctxmem_mcp.stores.sqlite.connection import snapshot

# Some three kilobytes each.
SUMMARIES_KEPT = 3_000
# SQLite takes 32,766 parameters; small lists keep few statements in its cache.
_LIST_SIZES = (1, 8, 64, 512)

_TURN = "seq, at_index, digest, role, name, said_at, call_id, tokens"
_PIECE = (
    "SELECT p.id, p.seq, p.at_index, p.start, p.stop, p.tokens, p.words, p.flags, p.leaf, p.session, "
    "t.role, t.name, t.said_at FROM pieces p JOIN turns t USING (seq)"
)
_NODE = "n.digest, n.level, n.first, n.last, n.tokens, n.strength, n.children"


def _lists(values: Sequence[object]) -> Iterator[tuple[str, list[object]]]:
    """The values in lists of few different lengths, as (placeholders, parameters): a short one repeats its last."""
    at = 0
    while at < len(values):
        left = len(values) - at
        size = next((s for s in _LIST_SIZES if s >= left), _LIST_SIZES[-1])
        part = list(values[at : at + size])
        yield ", ".join("?" * size), part + [part[-1]] * (size - len(part))
        at += size


def _among(column: str, ids: Sequence[int]) -> Iterator[tuple[str, list[object]]]:
    """The same for numbers, as conditions: neighbours in order are read in one go."""
    if ids and ids[-1] - ids[0] + 1 == len(ids) and all(a < b for a, b in pairwise(ids)):
        yield f"{column} BETWEEN ? AND ?", [ids[0], ids[-1]]
    else:
        yield from ((f"{column} IN ({marks})", part) for marks, part in _lists(ids))


def state(db: sqlite3.Connection, conversation_id: str, now: float) -> State | None:
    """The living conversation's state; None for one that is forgotten, expired or not begun."""
    with snapshot(db):  # another process may begin a branch between the two
        row = db.execute(f"SELECT forgotten, {', '.join(STATE_COLUMNS)} FROM conversation").fetchone()
        if row is None or row[0]:
            return None
        values = dict(zip(STATE_COLUMNS, row[1:], strict=True))
        if values["expires"] <= now:
            return None
        return State(conversation_id, runs=runs(db), **values)


def runs(db: sqlite3.Connection) -> tuple[Run, ...]:
    found = db.execute("SELECT first_seq, parent_seq, first_index, first_piece FROM runs ORDER BY first_seq")
    all_of_them = tuple(Run(*row) for row in found)
    # Whoever follows the runs back to the first turn would never get there.
    if any(run.parent_seq >= run.first_seq or all_of_them[0].first_seq != 1 for run in all_of_them):
        raise BrokenHistory("The file is damaged: its branches lead nowhere.", "Restore it from a backup.")
    return all_of_them


def turns(db: sqlite3.Connection, seqs: Sequence[int], bodies: Bodies, metadata_only: bool) -> list[Turn]:
    found: dict[int, Turn] = {}
    wanted = _TURN if metadata_only else f"{_TURN}, codec, body"
    for condition, part in _among("seq", seqs):
        for row in db.execute(f"SELECT {wanted} FROM turns WHERE {condition}", part):
            seq, index, digest, role, name, said_at, call_id, tokens = row[:8]
            content = "" if metadata_only else bodies.decode(db, row[8], row[9])
            found[seq] = Turn(seq, index, digest, _role(role), content, name, said_at, call_id, tokens)
    return [found[seq] for seq in seqs if seq in found]


def _role(number: int) -> Role:
    try:
        return ROLES[number]
    except (IndexError, TypeError):
        raise BrokenHistory("The file is damaged: a turn has no role.", "Restore it from a backup.") from None


def digests(db: sqlite3.Connection, first_seq: int, last_seq: int) -> list[bytes]:
    found = db.execute("SELECT digest FROM turns WHERE seq BETWEEN ? AND ? ORDER BY seq", (first_seq, last_seq))
    return [row[0] for row in found]


def _node(row: Sequence[object]) -> Node:
    digest, level, first, last, tokens, strength, joined = row
    assert isinstance(joined, bytes)
    children = tuple(joined[i : i + DIGEST_BYTES] for i in range(0, len(joined), DIGEST_BYTES))
    return Node(digest, level, first, last, tokens, strength, children)  # type: ignore[arg-type]


def nodes(db: sqlite3.Connection, wanted: Sequence[bytes]) -> dict[bytes, Node]:
    found: dict[bytes, Node] = {}
    for marks, part in _lists(wanted):
        for row in db.execute(f"SELECT {_NODE} FROM nodes n WHERE n.digest IN ({marks})", part):
            found[row[0]] = _node(row)
    return {digest: found[digest] for digest in wanted if digest in found}


def closings(db: sqlite3.Connection, first_seq: int, last_seq: int) -> list[tuple[int, Node]]:
    found = db.execute(
        f"SELECT c.closer, {_NODE} FROM closings c JOIN nodes n USING (node) "
        "WHERE c.closer BETWEEN ? AND ? ORDER BY c.closer, c.level",
        (first_seq, last_seq),
    )
    return [(row[0], _node(row[1:])) for row in found]


def nodes_over(db: sqlite3.Connection, first: int, last: int) -> list[tuple[int, Node]]:
    found = db.execute(
        f"SELECT c.closer, {_NODE} FROM nodes n JOIN closings c USING (node) "
        "WHERE n.first = ? AND n.last = ? ORDER BY c.closer",
        (first, last),
    )
    return [(row[0], _node(row[1:])) for row in found]


class _Written:
    """The summaries of one node: place, author and text of each; taken apart when they are first asked for."""

    __slots__ = ("_read", "_rows")

    def __init__(self) -> None:
        self._rows: list[tuple[int, str, str]] = []
        self._read: list[Summary] | None = None

    def add(self, place: int, author: str, text: str) -> None:
        self._rows.append((place, author, text))

    def read(self) -> list[Summary]:
        if self._read is None:
            self._read = [summary_of(author, text) for _, author, text in sorted(self._rows)]
        return self._read


class Kept(Mapping[bytes, list[Summary]]):
    """Summaries by node. An outline shows few of the hundreds it might show."""

    def __init__(self, written: Mapping[bytes, _Written]) -> None:
        self._written = written

    def __getitem__(self, digest: bytes) -> list[Summary]:
        return self._written[digest].read()

    def __contains__(self, digest: object) -> bool:
        return digest in self._written

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._written)

    def __len__(self) -> int:
        return len(self._written)


class Summaries(dict[bytes, _Written]):
    """What was read through one connection, by node. A view asks for much the same ones as the last."""

    def __init__(self) -> None:
        super().__init__()
        self._version = 0

    def refresh(self, db: sqlite3.Connection) -> None:
        """Drops them where another connection wrote since. Who writes summaries through this one clears them."""
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if version != self._version or len(self) > SUMMARIES_KEPT:
            self.clear()
        self._version = version


def summaries(db: sqlite3.Connection, wanted: Sequence[bytes], bodies: Bodies, known: Summaries) -> Kept:
    known.refresh(db)
    for marks, part in _lists([digest for digest in dict.fromkeys(wanted) if digest not in known]):
        rows = db.execute(
            "SELECT place, digest, author, codec, body FROM nodes JOIN summaries USING (node) "
            f"WHERE digest IN ({marks})",
            part,
        )
        for place, digest, author, codec, body in rows:
            known.setdefault(digest, _Written()).add(place, author, bodies.decode(db, codec, body))
    return Kept({digest: known[digest] for digest in wanted if digest in known})


def _piece(row: Sequence[Any]) -> Piece:
    return Piece._make((*row[:10], _role(row[10]), *row[11:]))


def pieces(db: sqlite3.Connection, ids: Sequence[int]) -> dict[int, Piece]:
    found: dict[int, Piece] = {}
    for condition, part in _among("p.id", ids):
        found.update((row[0], _piece(row)) for row in db.execute(f"{_PIECE} WHERE {condition}", part))
    return {i: found[i] for i in ids if i in found}


def pieces_of(db: sqlite3.Connection, seqs: Sequence[int]) -> dict[int, list[Piece]]:
    found: dict[int, list[Piece]] = {}
    for marks, part in _lists(seqs):
        rows = db.execute(f"SELECT seq, first_piece, pieces FROM turns WHERE seq IN ({marks})", part).fetchall()
        for seq, first, count in rows:
            between = db.execute(f"{_PIECE} WHERE p.id BETWEEN ? AND ? ORDER BY p.id", (first, first + count - 1))
            found[seq] = [_piece(row) for row in between]
    return found


def vectors(db: sqlite3.Connection, ids: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for condition, part in _among("id", ids):
        found.update(db.execute(f"SELECT id, body FROM vectors WHERE {condition}", part))
    return {i: found[i] for i in ids if i in found}


def term_hits(db: sqlite3.Connection, wanted: Sequence[str], cap: int) -> dict[str, TermHits]:
    with snapshot(db):  # another process may move what waits into the index meanwhile
        return _term_hits(db, wanted, cap)


def _term_hits(db: sqlite3.Connection, wanted: Sequence[str], cap: int) -> dict[str, TermHits]:
    found: dict[str, TermHits] = {}
    waiting = [(row[0], row[1].split(" ")) for row in db.execute("SELECT id, words FROM waiting ORDER BY id")]
    for term in dict.fromkeys(wanted):
        token = index_term(term)
        counted = db.execute("SELECT doc FROM terms_counted WHERE term = ?", (token,)).fetchone()
        last = [(piece, words) for piece, words in waiting if token in words]
        df = (counted[0] if counted else 0) + len(last)
        if df > cap:
            found[term] = TermHits(df, capped=True)
        elif df:
            pieces, positions = _indexed_hits(db, token) if counted else ([], [])
            for piece, words in last:
                at = [i for i, word in enumerate(words) if word == token]
                pieces += [piece] * len(at)
                positions += at
            found[term] = TermHits(df, pieces, positions)
    return found


def _indexed_hits(db: sqlite3.Connection, token: str) -> tuple[list[int], list[int]]:
    # One row with two long texts comes over three times faster than a row per occurrence.
    docs, offsets = db.execute(
        "SELECT group_concat(doc), group_concat(offset) FROM terms_placed WHERE term = ?", (token,)
    ).fetchone()
    # As JSON they are read in two thirds of the time that splitting takes.
    return json.loads(f"[{docs}]"), json.loads(f"[{offsets}]")
