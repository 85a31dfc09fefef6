"""Brings the index over all conversations up to date with their files, and reads it. Runs on the catalog's thread."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from math import inf

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.stores.records import BlockHits
from ctxmem_mcp.stores.sqlite.catalog_contents import CatalogContents, LeftOutFile
from ctxmem_mcp.stores.sqlite.connection import is_damage, transaction
from ctxmem_mcp.stores.sqlite.file_open import open_read_only
from ctxmem_mcp.stores.sqlite.search_index import read_blocks

log = logging.getLogger(__name__)

# A file that could not be read is tried again once it has changed, or with the first change to another so many seconds
# later.
READ_AGAIN_SECONDS = 600.0


def find_blocks(
    catalog: CatalogContents,
    db: sqlite3.Connection,
    terms: Sequence[str],
    now: float,
    seconds: float,
    *,
    listed: bool = False,
) -> BlockHits:
    """Returns where terms occur in all conversations; see `IndexedStore`.

    Args:
        catalog: The catalog.
        db: Its connection.
        terms: The terms.
        now: Seconds since 1970. Conversations that have expired by then are not named.
        seconds: For how long conversations that changed are read.
        listed: The caller has listed the conversations just now.
    """
    seen = catalog.refresh(db, listed=listed)
    try:
        behind = _update(catalog, db, seen, seconds)
        places, blocks = catalog.index.find(terms)
    except sqlite3.Error as error:
        if is_damage(error):
            catalog.index.delete()
        log.info("The index over all conversations can't be used: %s", error)
        behind, places, blocks = set(seen), {}, 0
    left_out = catalog.left_out.keys() - behind
    ids, total = catalog.numbered(db, now)
    files = [file for file in catalog.list_files(db) if file.expires > now] if behind or left_out else []
    return BlockHits(
        places,
        ids,
        blocks,
        [file.info.conversation_id for file in files if file.name in behind],
        total,
        dict(catalog.unreadable),
        [file.info.conversation_id for file in files if file.name in left_out],
    )


def _update(catalog: CatalogContents, db: sqlite3.Connection, seen: Mapping[str, str], seconds: float) -> set[str]:
    """Indexes files that changed for at most so many seconds, one in any case if these are more than 0. Returns the
    names of those that are not up to date, without those that can't be indexed as they are."""
    until = time.monotonic() + seconds
    index = catalog.index
    if catalog.is_indexed(seen):
        return set()
    if gone := [name for name in index.files() if name not in seen]:
        with transaction(db):
            index.remove(gone)
    left_out = catalog.left_out
    for name in [name for name, file in left_out.items() if seen.get(name) != file.fingerprint]:
        del left_out[name]
    indexed = index.files()
    changed = [name for name, now in seen.items() if name not in indexed or indexed[name].fingerprint != now]
    for number, name in enumerate(_in_order(catalog, db, changed) if seconds > 0 else ()):
        if number and time.monotonic() > until:
            break
        with transaction(db):  # nobody removes a file while it is read and added; others get the lock between two
            _index_file(catalog, name, seen[name])
    indexed = index.files()  # if one was replaced, the others of its shard are gone too
    late = {name for name, now in seen.items() if name not in indexed or indexed[name].fingerprint != now}
    late -= left_out.keys()
    if not late:
        catalog.note_indexed(seen)
    return late


def _in_order(catalog: CatalogContents, db: sqlite3.Connection, names: Sequence[str]) -> list[str]:
    """Returns the files to read: the last active first, so that those of one time are in one shard; at the end those
    that could not be read, if it is time to try again."""
    if not names:
        return []
    left_out, now = catalog.left_out, time.monotonic()
    newest = dict(db.execute("SELECT name, happened FROM files"))
    due = [name for name in names if name not in left_out or left_out[name].read_again < now]
    return sorted(due, key=lambda name: (name in left_out, -newest.get(name, 0.0)))


def _index_file(catalog: CatalogContents, name: str, seen: str) -> None:
    """Adds what is new in a file, or notes that it can't be indexed as it is."""
    index = catalog.index
    known = index.files().get(name)
    read_again = time.monotonic() + READ_AGAIN_SECONDS
    try:
        with open_read_only(catalog.folder / name) as file:
            read = read_blocks(file, known)
            if read is None and known:  # the conversation was replaced
                index.remove([name])
                read = read_blocks(file, None)
    except (sqlite3.Error, CtxmemError, OSError):  # listings report it
        read = None
    if read is None or read.is_too_large:
        catalog.left_out[name] = LeftOutFile(seen, inf if read else read_again)
        return
    catalog.left_out.pop(name, None)
    index.add(name, seen, read)
