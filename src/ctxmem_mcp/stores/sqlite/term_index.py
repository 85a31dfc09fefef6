"""The index of a conversation's terms: where each occurs. Runs on the connection's thread.

A commit's chunks wait as one row each, with their terms in order. Once more than WAITING_MAX would wait, all of
them move into the FTS5 table together, so that most commits do not write to it.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from ctxmem_mcp.errors import BrokenHistory
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.stores.encoding import WAITING_MAX, encode_term, encode_terms, is_word
from ctxmem_mcp.stores.records import StoredPiece, TermHits
from ctxmem_mcp.stores.sqlite.checksums import blob_checksum, is_sound_blob, mismatch
from ctxmem_mcp.stores.sqlite.connection import snapshot

# So short a text of numbers is read without numpy, whose import takes longer, unless it is loaded anyway.
LIST_CHARS_MAX = 40_000
# A hundred bytes each.
COUNTS_CACHED = 4_096


class TermCache:
    """Caches how many chunks of one file contain a term, and the waiting chunks. The file's index only grows.

    FTS5 counts the chunks of a term by reading all of its postings. For the terms that every view reads, such as those
    of the speakers, these are all chunks: 3 ms for 46,000.
    """

    def __init__(self) -> None:
        """Knows nothing yet."""
        # By token, the number of chunks up to the one with an id.
        self._counts: LRU[str, tuple[int, int]] = LRU(COUNTS_CACHED)
        self._waiting: dict[int, _WaitingChunk] = {}

    def count(self, db: sqlite3.Connection, token: str, last: int) -> int:
        """Returns how many of the indexed chunks, whose last id is `last`, contain the token."""
        known, counted_to = self._counts.get(token, (0, 0))
        if not counted_to or counted_to > last:
            known = _indexed_count(db, token)
        elif counted_to < last:
            select = "SELECT count(*) FROM terms WHERE terms MATCH ? AND rowid > ?"
            known += db.execute(select, (f'"{token}"', counted_to)).fetchone()[0]
        if counted_to != last:
            self._counts[token] = known, last
        return known

    def waiting(self, db: sqlite3.Connection) -> Mapping[int, _WaitingChunk]:
        """Returns the chunks that are not in the index yet, by id."""
        checksums = dict(db.execute("SELECT id, checksum FROM waiting ORDER BY id"))
        known = {i: one for i, one in self._waiting.items() if checksums.get(i) == one.checksum}
        if first := next((i for i in checksums if i not in known), None):
            read = read_waiting(db, first)
            known |= {i: _WaitingChunk(checksums[i], words, frozenset(words)) for i, words in read}
        self._waiting = known
        return known


class _WaitingChunk(NamedTuple):
    checksum: int
    words: list[str]
    distinct: frozenset[str]


def add(db: sqlite3.Connection, added: Sequence[StoredPiece]) -> None:
    """Adds chunks, by id, inside the transaction of their commit."""
    words = [(stored.piece.id, encode_terms(stored.terms)) for stored in added]
    if not words:
        return
    (first,) = db.execute("SELECT coalesce(min(id), ?) FROM waiting", (words[0][0],)).fetchone()
    if words[-1][0] - first < WAITING_MAX:
        db.executemany(
            "INSERT INTO waiting VALUES (?, ?, ?)", [(i, blob_checksum(i, text.encode()), text) for i, text in words]
        )
        return
    db.execute("INSERT INTO terms (rowid, words) SELECT id, words FROM waiting ORDER BY id")
    db.execute("DELETE FROM waiting")
    db.executemany("INSERT INTO terms (rowid, words) VALUES (?, ?)", words)


def hits(db: sqlite3.Connection, terms: Sequence[str], cap: int, cache: TermCache) -> dict[str, TermHits]:
    """Returns where terms occur; see `Store.term_hits`."""
    with snapshot(db):  # another process may move the waiting chunks into the index between the reads
        return _hits(db, terms, cap, cache)


def _hits(db: sqlite3.Connection, terms: Sequence[str], cap: int, cache: TermCache) -> dict[str, TermHits]:
    found: dict[str, TermHits] = {}
    waiting, last = cache.waiting(db), _last_indexed(db)
    for term in dict.fromkeys(terms):
        token = encode_term(term)
        indexed = cache.count(db, token, last)
        not_indexed = [(piece, chunk.words) for piece, chunk in waiting.items() if token in chunk.distinct]
        df = indexed + len(not_indexed)
        if df > cap:
            found[term] = TermHits(df, capped=True)
        elif df:
            places = [_postings(db, token)] if indexed else []
            places += [
                ([piece] * len(at), at)
                for piece, words in not_indexed
                if (at := [i for i, word in enumerate(words) if word == token])
            ]
            found[term] = TermHits(df, *(places[0] if len(places) == 1 else map(_joined, zip(*places, strict=True))))
    return found


def _last_indexed(db: sqlite3.Connection) -> int:
    """Returns the id of the last chunk that is in the index; those after it wait."""
    select = "SELECT coalesce((SELECT min(id) FROM waiting), (SELECT next_piece FROM conversation), 1) - 1"
    last: int = db.execute(select).fetchone()[0]
    return last


def counts(db: sqlite3.Connection, terms: Sequence[str]) -> dict[str, int]:
    """Returns how many chunks contain each term; leaves out terms that occur nowhere."""
    with snapshot(db):
        waiting = [set(words) for _, words in read_waiting(db)]
        tokens = {term: encode_term(term) for term in terms}
        found = {
            term: _indexed_count(db, token) + sum(token in words for words in waiting) for term, token in tokens.items()
        }
    return {term: count for term, count in found.items() if count}


def vocabulary(db: sqlite3.Connection) -> list[str]:
    """Returns the terms that consist of letters only."""
    with snapshot(db):
        tokens = {token for (token,) in db.execute("SELECT term FROM terms_counted")}
        tokens.update(token for _, words in read_waiting(db) for token in words)
    return [token for token in tokens if is_word(token)]


def _indexed_count(db: sqlite3.Connection, token: str) -> int:
    """Returns how many of the chunks in the index contain the token."""
    row = db.execute("SELECT doc FROM terms_counted WHERE term = ?", (token,)).fetchone()
    return row[0] if row else 0


def read_waiting(db: sqlite3.Connection, first: int = 0) -> list[tuple[int, list[str]]]:
    """Returns the terms of the chunks from id `first` on that are not in the index yet."""
    found: list[tuple[int, list[str]]] = []
    for key, checksum, words in db.execute(
        "SELECT id, checksum, words FROM waiting WHERE id >= ? ORDER BY id", (first,)
    ):
        if not isinstance(words, str) or not is_sound_blob(key, checksum, words.encode()):
            raise mismatch(f"the terms of piece number {key}")
        found.append((key, words.split(" ")))
    return found


def _postings(db: sqlite3.Connection, token: str) -> tuple[Any, Any]:
    """Returns where a token occurs in the index, as arrays or lists."""
    # Reading one row with two long texts is over three times faster than reading a row per occurrence.
    docs, offsets = db.execute(
        "SELECT group_concat(doc), group_concat(offset) FROM terms_placed WHERE term = ?", (token,)
    ).fetchone()
    found, places = _numbers(docs or ""), _numbers(offsets or "")
    if len(found) != len(places):
        raise BrokenHistory("The index has places without pieces.")
    return found, places


def _numbers(joined: str) -> Any:
    """Returns numbers that are joined by commas."""
    if "numpy" not in sys.modules and len(joined) <= LIST_CHARS_MAX:
        return [int(number) for number in joined.split(",")] if joined else []
    import numpy as np

    # Arrays take a fifth of the time that lists made by parsing JSON and then arrays of them take.
    return np.fromstring(joined, np.int64, sep=",")


def _joined(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, list) for part in parts):
        return list(chain.from_iterable(parts))
    import numpy as np

    return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])
