"""The index over all conversations: which of them, and where in each, contain a term. A cache beside the catalog.

Its unit is a block of up to eight chunks of one conversation, so that terms count as near each other if they are a few
turns apart. Blocks are kept in shards, an FTS5 table each, which are only ever added to or dropped: FTS5 can't remove
what it does not store. When a conversation is forgotten, its shard is dropped, and the pages are overwritten
(secure_delete); the other conversations of the shard are read again later.

Everything runs on the catalog's thread. Writes happen under the catalog's lock, so that nothing forgotten comes back.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ctxmem_mcp.errors import StoreReadOnly
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.stores.encoding import encode_term
from ctxmem_mcp.stores.records import BLOCK_BITS, BLOCK_CHUNKS, block_of
from ctxmem_mcp.stores.sqlite.connection import is_damage, open_database, transaction
from ctxmem_mcp.stores.sqlite.conversation_files import inode_of, with_side_files
from ctxmem_mcp.stores.sqlite.file_open import check_writable

log = logging.getLogger(__name__)

FILE = "search.db"
# A shard takes no more conversations once it has this many blocks: some eight million tokens. Each shard adds a look-up
# for each term, and is read again after one of its conversations was forgotten.
SHARD_BLOCKS = 4_096
# A conversation with more chunks is not indexed but searched on its own: reading it would take seconds.
CHUNKS_READ_MAX = 20_000
# The blocks of so many terms are cached: some 10 MB. Common terms, whose blocks take long to read, are in nearly every
# query.
PLACES_CACHED = 512
# A statement looks a term up in so many shards; SQLite joins up to 500. One for each shard took five times as long.
SHARDS_AT_ONCE = 64
_VERSION = 2
# The value for a shard in which a term was not looked up, instead of its blocks.
_NOT_READ: tuple[int | None, Any] = (None, None)
_SCHEMA = f"""
CREATE TABLE indexed (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, id TEXT NOT NULL, shard INTEGER NOT NULL,
    fingerprint TEXT NOT NULL, created REAL NOT NULL, chunks INTEGER NOT NULL
);
CREATE TABLE shards (shard INTEGER PRIMARY KEY, blocks INTEGER NOT NULL);
PRAGMA user_version = {_VERSION};
"""
_TABLE = """
CREATE VIRTUAL TABLE blocks_{} USING fts5 (
    words, content = '', columnsize = 0, detail = none, tokenize = "ascii tokenchars '=@._-/'"
)"""


class IndexedFile(NamedTuple):
    """What the index holds of a conversation's file. id: the conversation's. chunks: the last chunk indexed."""

    number: int
    id: str
    shard: int
    fingerprint: str
    created: float
    chunks: int


class ReadBlocks(NamedTuple):
    """The parts of a conversation that the index needs.

    id: The conversation's.
    created: When it was created.
    last: Its last chunk.
    blocks: The encoded terms of each block, by the block's first chunk.
    is_too_large: It has more than CHUNKS_READ_MAX chunks, and was not read.
    """

    id: str
    created: float
    last: int
    blocks: Mapping[int, Sequence[str]]
    is_too_large: bool = False


class SearchIndex:
    """The open index; opened on first use. One that is damaged, deleted or of another format is created again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._version = 0
        self._files: dict[str, IndexedFile] = {}
        self._additions = 0
        self._marked: tuple[Mapping[str, IndexedFile], int, Mapping[int, int]] | None = None
        # The blocks of a term in each shard, with the shard's mark of that moment.
        self._places: LRU[str, dict[int, tuple[int, Any]]] = LRU(PLACES_CACHED)

    def files(self) -> Mapping[str, IndexedFile]:
        """Returns what is indexed, by file name. Empty if the index can't be used."""
        db = self._open()
        if db is None:
            return {}
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if version != self._version:  # another process has written
            self._version = version
            rows = db.execute("SELECT name, number, id, shard, fingerprint, created, chunks FROM indexed")
            self._files = {row[0]: IndexedFile(*row[1:]) for row in rows}
        return self._files

    @property
    def state(self) -> tuple[Mapping[str, IndexedFile], int]:
        """What `files` returns, and what grows with each conversation that is added to it."""
        return self.files(), self._additions

    def add(self, name: str, seen: str, read: ReadBlocks) -> None:
        """Adds blocks of a conversation. The caller holds the catalog's lock.

        Args:
            name: Its file.
            seen: The file's fingerprint before it was read.
            read: The parts of it that the index needs.
        """
        db = self._open()
        if db is None:
            return
        known = self.files().get(name)
        with transaction(db):
            shard = self._shard(db, known)
            if known is None:
                (number,) = db.execute("SELECT coalesce(max(number), 0) + 1 FROM indexed").fetchone()
            else:
                number = known.number
            db.executemany(
                f"INSERT INTO blocks_{shard} (rowid, words) VALUES (?, ?)",
                [(number << BLOCK_BITS | first, " ".join(words)) for first, words in sorted(read.blocks.items())],
            )
            file = IndexedFile(number, read.id, shard, seen, read.created, read.last)
            db.execute("INSERT OR REPLACE INTO indexed VALUES (?, ?, ?, ?, ?, ?, ?)", (number, name, *file[1:]))
            new = _blocks(read.last) - _blocks(known.chunks if known else 0)
            db.execute("UPDATE shards SET blocks = blocks + ? WHERE shard = ?", (new, shard))
        self._files[name] = file
        self._additions += 1

    def _shard(self, db: sqlite3.Connection, known: IndexedFile | None) -> int:
        """Returns the shard to add to: that of the conversation, else the newest with room, else a new one."""
        if known is not None:
            return known.shard
        row = db.execute("SELECT shard, blocks FROM shards ORDER BY shard DESC LIMIT 1").fetchone()
        if row is not None and row[1] < SHARD_BLOCKS:
            return int(row[0])
        shard = row[0] + 1 if row else 1
        db.execute(_TABLE.format(shard))
        db.execute("INSERT INTO shards VALUES (?, 0)", (shard,))
        return int(shard)

    def remove(self, names: Collection[str]) -> None:
        """Removes conversations, with all else that is in their shards. The caller holds the catalog's lock.

        If the index can't be changed, it is deleted.
        """
        if not os.path.lexists(self.path):
            return
        try:
            db = self._open()
            if db is not None:
                self._drop_shards(db, {file.shard for name in names if (file := self.files().get(name))})
                return
        except sqlite3.Error as error:
            log.info("%s can't be changed, so it is deleted: %s", self.path, error)
        self.delete()

    def _drop_shards(self, db: sqlite3.Connection, shards: Collection[int]) -> None:
        if not shards:
            return
        db.execute("PRAGMA synchronous = FULL")  # what is forgotten stays so after a power failure
        with transaction(db):
            for shard in shards:
                db.execute(f"DROP TABLE IF EXISTS blocks_{shard}")
                db.execute("DELETE FROM indexed WHERE shard = ?", (shard,))
                db.execute("DELETE FROM shards WHERE shard = ?", (shard,))
        db.execute("PRAGMA synchronous = OFF")
        self._files = {name: file for name, file in self._files.items() if file.shard not in shards}

    def find(self, terms: Sequence[str]) -> tuple[dict[str, Any], int]:
        """Returns the row ids of the blocks that contain each term, as arrays, and how many blocks there are."""
        import numpy as np

        db = self._open()
        if db is None:
            return {}, 0
        shards = db.execute("SELECT shard, blocks FROM shards").fetchall()
        marks = self._marks()
        current = {shard: marks[shard] for shard, _ in shards}
        found = {}
        for term in terms:
            if places := self._blocks_of(db, current, term):
                found[term] = np.concatenate(places)
        return found, sum(blocks for _, blocks in shards)

    def _blocks_of(self, db: sqlite3.Connection, marks: Mapping[int, int], term: str) -> list[Any]:
        """Returns the row ids of the blocks that contain a term, for each shard that has any; from the cache for those
        that are as they were."""
        import numpy as np

        if (cached := self._places.get(term)) is None:
            cached = self._places[term] = {}
        missing = [shard for shard, mark in marks.items() if cached.get(shard, _NOT_READ)[0] != mark]
        for start in range(0, len(missing), SHARDS_AT_ONCE):
            batch = missing[start : start + SHARDS_AT_ONCE]
            statement = " UNION ALL ".join(
                f"SELECT {shard}, group_concat(rowid) FROM blocks_{shard} WHERE blocks_{shard} MATCH ?1"
                for shard in batch
            )
            for shard, joined in db.execute(statement, (f'"{encode_term(term)}"',)):
                cached[shard] = marks[shard], np.fromstring(joined, np.int64, sep=",") if joined else None
        return [places for shard in marks if (places := cached[shard][1]) is not None]

    def _marks(self) -> Mapping[int, int]:
        """Returns a number for each shard that changes with what is indexed in it."""
        files = self.files()
        if self._marked is None or self._marked[0] is not files or self._marked[1] != self._additions:
            marks: defaultdict[int, int] = defaultdict(int)
            for file in files.values():
                marks[file.shard] ^= hash(file)
            self._marked = files, self._additions, marks
        return self._marked[2]

    def delete(self) -> None:
        """Deletes the index: it is made again from the conversations."""
        self.close()
        for file in with_side_files(self.path):
            file.unlink(missing_ok=True)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db, self._files, self._version = None, {}, 0
        self._places.clear()

    def _open(self) -> sqlite3.Connection | None:
        """Returns the open index; None if it can't be written, so that it may be out of date."""
        if self._db is not None and inode_of(self.path) == self._inode:
            return self._db
        self.close()
        try:
            check_writable(self.path)
            self._db = self._open_file()
        except StoreReadOnly:
            return None
        except sqlite3.OperationalError as error:
            if is_damage(error):
                self.delete()
                self._db = self._open_file()
            else:
                return None
        except sqlite3.DatabaseError:
            self.delete()
            self._db = self._open_file()
        self._inode = inode_of(self.path)
        return self._db

    def _open_file(self) -> sqlite3.Connection:
        db = open_database(self.path, "normal", journal="DELETE", create=True)
        try:
            db.execute("PRAGMA secure_delete = ON")
            db.execute("PRAGMA synchronous = OFF")  # a cache
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError("an index of another format")
            if version == 0:
                with transaction(db):
                    for statement in _SCHEMA.split(";\n"):
                        db.execute(statement)
            db.execute("SELECT count(*) FROM indexed").fetchone()
        except BaseException:
            db.close()
            raise
        return db


def read_blocks(db: sqlite3.Connection, known: IndexedFile | None) -> ReadBlocks | None:
    """Reads the terms of an open conversation's chunks that are not indexed yet.

    Returns:
        None if the file holds no conversation, or a conversation other than the one indexed.
    """
    row = db.execute("SELECT id, created FROM conversation WHERE NOT forgotten").fetchone()
    if row is None:
        return None
    (last,) = db.execute("SELECT coalesce(max(id), 0) FROM pieces").fetchone()
    after = known.chunks if known else 0
    if known and (known.created != row[1] or last < after):
        return None
    if last > CHUNKS_READ_MAX:
        return ReadBlocks(row[0], row[1], after, {}, True)
    return ReadBlocks(row[0], row[1], last, _terms_in_blocks(db, after, last))


def _blocks(chunks: int) -> int:
    return -(-chunks // BLOCK_CHUNKS)


def _terms_in_blocks(db: sqlite3.Connection, after: int, last: int) -> dict[int, list[str]]:
    """Reads the terms of the chunks after one up to the last, by the first chunk of each block.

    A block that was indexed when it had fewer chunks is added once more, with the terms of the others: FTS5 returns a
    row for a term if either has it.
    """
    blocks: dict[int, list[str]] = {}
    waiting = db.execute("SELECT id, words FROM waiting WHERE id > ?", (after,)).fetchall()
    if len(waiting) < last - after:
        rows = db.execute(
            "SELECT term, group_concat(DISTINCT (doc - 1) / ?) FROM terms_placed WHERE doc > ? GROUP BY term",
            (BLOCK_CHUNKS, after),
        )
        for term, places in rows:
            for place in places.split(","):
                blocks.setdefault(1 + int(place) * BLOCK_CHUNKS, []).append(term)
    for chunk, words in waiting:
        blocks.setdefault(block_of(chunk), []).extend(dict.fromkeys(words.split(" ")))
    return blocks
