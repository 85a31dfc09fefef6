"""Brings the index over all conversations up to date with their files, and reads it. Runs on the catalog's thread."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.stores.records import BlockHits
from ctxmem_mcp.stores.sqlite.catalog_contents import CatalogContents
from ctxmem_mcp.stores.sqlite.connection import is_damage, transaction
from ctxmem_mcp.stores.sqlite.file_open import open_read_only
from ctxmem_mcp.stores.sqlite.search_index import read_blocks

log = logging.getLogger(__name__)

# So many files are read before the catalog's lock is released for other processes.
FILES_AT_ONCE = 8


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
    ids, total = catalog.numbered(db, now)
    files = catalog.list_files(db) if behind else ()
    late = [file.info.conversation_id for file in files if file.name in behind and file.expires > now]
    return BlockHits(places, ids, blocks, late, total, dict(catalog.unreadable))


def _update(catalog: CatalogContents, db: sqlite3.Connection, seen: Mapping[str, str], seconds: float) -> set[str]:
    """Indexes files that changed for at most so many seconds, some in any case if these are more than 0. Returns the
    names of those that are not up to date."""
    until = time.monotonic() + seconds
    index = catalog.index
    if catalog.is_indexed(seen):
        return set()
    if gone := [name for name in index.files() if name not in seen]:
        with transaction(db):
            index.remove(gone)
    indexed = index.files()
    changed = [name for name, now in seen.items() if name not in indexed or indexed[name].fingerprint != now]
    behind = set(changed)
    if changed:  # the last active first, so that those of one time are in one shard
        newest = dict(db.execute("SELECT name, happened FROM files"))
        changed.sort(key=lambda name: newest.get(name, 0.0), reverse=True)
    for start in range(0, len(changed), FILES_AT_ONCE):
        if seconds <= 0 or (start and time.monotonic() > until):
            break
        with transaction(db):  # nobody removes a file while it is read and added
            for name in changed[start : start + FILES_AT_ONCE]:
                if _index_file(catalog, name, seen[name]):
                    behind.discard(name)
    late = {name for name in behind | (seen.keys() - index.files().keys()) if name in seen}
    if not late:
        catalog.note_indexed(seen)
    return late


def _index_file(catalog: CatalogContents, name: str, seen: str) -> bool:
    """Adds what is new in a file. Returns whether all of it is in the index then."""
    index = catalog.index
    known = index.files().get(name)
    try:
        with open_read_only(catalog.folder / name) as file:
            read = read_blocks(file, known)
            if read is None and known:  # the conversation was replaced
                index.remove([name])
                read = read_blocks(file, None)
    except (sqlite3.Error, CtxmemError, OSError):  # listings report it
        return False
    if read is None or read.is_too_large:
        return False
    index.add(name, seen, read)
    return name in index.files()
