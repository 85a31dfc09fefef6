"""Creates and removes conversations' files, always under the catalog's lock and on its thread.

A file is first marked as forgotten in a transaction of its own: every process that still has it open sees the mark
before it writes to a file that no longer has a name. Then the file is unlinked with its side files.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ctxmem_mcp.errors import BrokenHistory, StoreUnavailable
from ctxmem_mcp.models import Turn
from ctxmem_mcp.results import Receipt
from ctxmem_mcp.stores.records import children_of
from ctxmem_mcp.stores.sqlite import queries
from ctxmem_mcp.stores.sqlite.catalog import Catalog
from ctxmem_mcp.stores.sqlite.commits import read_conversation, write_forgotten
from ctxmem_mcp.stores.sqlite.compression import TextCompression
from ctxmem_mcp.stores.sqlite.connection import is_damage, is_read_only, open_database, open_plain, transaction
from ctxmem_mcp.stores.sqlite.conversation_files import SIDE_FILES, SUFFIX, with_side_files
from ctxmem_mcp.stores.sqlite.file_open import check_writable, open_checked, open_image, release
from ctxmem_mcp.stores.sqlite.schema import migrate
from ctxmem_mcp.stores.tombstones import first_turns

_WIPED_TABLES = frozenset(
    "turns pieces nodes closings summaries runs dictionaries waiting model_calls vectors dictionary_copies "
    "extra".split()
)
# The suffix of a file that is still being created.
UNFINISHED_SUFFIX = ".new"
# A write-ahead log without its database is an orphan once it is this old.
ORPHAN_SECONDS = 3_600
# Of a copy of a damaged file, after the conversation's file name and before its time.
DAMAGED_SUFFIX = ".damaged"
# Of the folder in which a conversation is rebuilt, in the data directory.
REPAIR_PREFIX = "repair-"
# Of one in which turns are redacted. It holds a copy of them until it is removed.
REDACTION_PREFIX = f"{REPAIR_PREFIX}redact-"
# Marks a file that never got its first turn as forgotten, for a process that is about to write it.
_TOMBSTONE = """
INSERT INTO conversation (one, id, version, head, next_seq, next_piece, turns, tokens, words, nodes, title, salt,
    encoding, retention_days, created, updated, expires, frontier, runs, checksum)
VALUES (1, '', 0, 0, 1, 1, 0, 0, 0, 0, '', x'', '', 1, 0, 0, 0, x'', 0, 0)
"""


def forget(
    catalog: Catalog,
    db: sqlite3.Connection,
    conversation_id: str,
    path: Path,
    *,
    when: Callable[[float], bool] | None = None,
    remove_empty: bool = True,
    bury: Callable[[Iterable[Sequence[Turn]]], None] = lambda _: None,
) -> Receipt | None:
    """Removes a conversation's file. The caller holds the catalog's lock.

    Args:
        db: The catalog's connection.
        when: Given the time at which the conversation expires, whether to remove it. One that is marked as forgotten
            is removed in any case. None: remove it, readable or not.
        remove_empty: Remove an empty file too. The process that created it is about to write to it, or was killed.
        bury: Writes the conversation's tombstone before anybody can see that it is gone. Given the first turns of each
            branch, as far as they can be read.

    Returns:
        The receipt, or None if no conversation was removed.

    Raises:
        StoreUnavailable: The file is damaged, so that its expiry can't be read.
    """
    # The sweep of files without a conversation passes no id, and must leave what a repair has just moved aside.
    copies = damaged_copies(path) if conversation_id else []
    if not os.path.lexists(path):
        _delete_files(path)
        catalog.remove(db, [path.name])
        return _forget_copies(conversation_id, path, copies, bury) if copies else None
    damaged = False
    check_writable(path)
    try:
        counts = _mark_or_count(path, when, remove_empty, bury)
    except (sqlite3.Error, BrokenHistory) as error:
        if isinstance(error, sqlite3.Error) and not is_damage(error):
            raise
        if when is not None:  # as an error of the catalog's connection it would mean that the catalog is damaged
            raise StoreUnavailable(
                f"{path} is damaged ({error}).",
                f"Run ctxmem-mcp repair {conversation_id}, restore the file from a backup, or forget the conversation.",
            ) from error
        damaged = True
        bury([])
        counts = (0, 0)  # what a user asks to be forgotten is removed, readable or not
    if counts is None:
        return None
    turns, nodes = counts
    size = 0
    warnings = hard_link_warnings(path)
    if damaged:
        warnings.append(f"{path.name} was unreadable, so its turns and nodes were not counted")
    for file in [*with_side_files(path), *copies]:
        with contextlib.suppress(FileNotFoundError):
            size += file.stat().st_size
            _unlink(file, path)
    _delete_from_catalog(catalog, db, path.name)
    return Receipt(conversation_id, turns, nodes, size, warnings=warnings) if turns or damaged else None


def _forget_copies(
    conversation_id: str, path: Path, copies: Sequence[Path], bury: Callable[[Iterable[Sequence[Turn]]], None]
) -> Receipt:
    """Removes the damaged files of a conversation that a repair has moved aside because no turn could be read."""
    bury([])
    warnings = [*hard_link_warnings(path), "the damaged files were unreadable, so their turns were not counted"]
    size = sum(file.stat().st_size for file in copies)
    for file in copies:
        file.unlink(missing_ok=True)
    return Receipt(conversation_id, 0, 0, size, warnings=warnings)


def remove_expired(
    catalog: Catalog, db: sqlite3.Connection, conversation_id: str, path: Path, expires: float | None
) -> Receipt | None:
    """Removes a conversation's file if it still expires at that time; with None, only one without a conversation."""
    return forget(catalog, db, conversation_id, path, when=lambda at: at == expires)


def _mark_or_count(
    path: Path,
    when: Callable[[float], bool] | None,
    remove_empty: bool,
    bury: Callable[[Iterable[Sequence[Turn]]], None],
) -> tuple[int, int] | None:
    """Marks the file as `_mark_forgotten` does. If the disk has no room for the mark, only counts: removing the file
    makes room, and other processes that have it open find at their next use that it has no name any more."""
    try:
        return _mark_forgotten(path, when, remove_empty, bury)
    except sqlite3.Error as error:
        if not is_read_only(error):
            raise
    try:
        image, _ = open_image(path)
    except StoreUnavailable:  # this process has it open
        if when is not None:
            raise
        bury([])
        return (0, 0)
    try:
        image.execute("PRAGMA query_only = ON")
        counts = _count(image, when, remove_empty)
        if counts is not None:
            bury(_first_turns(image))
        return counts
    finally:
        image.close()


def _delete_from_catalog(catalog: Catalog, db: sqlite3.Connection, name: str) -> None:
    """Deletes the row of a file that was removed. If the disk has no room even for that, deletes the catalog: it is a
    cache, and must not name what is forgotten."""
    try:
        catalog.remove(db, [name])
    except sqlite3.Error as error:
        if not is_read_only(error):
            raise
        _delete_files(catalog.path)


def _count(
    file: sqlite3.Connection, when: Callable[[float], bool] | None, remove_empty: bool
) -> tuple[int, int] | None:
    """Returns how many turns and nodes a file holds, or None if it is to stay."""
    row = file.execute("SELECT forgotten, turns FROM conversation").fetchone()
    if row is None:
        return (0, 0) if remove_empty else None
    if when is not None and not _may_be_removed(file, when):
        return None
    if row[0]:
        return (0, 0)
    nodes = 0
    with contextlib.suppress(sqlite3.DatabaseError):  # it is removed although its nodes are damaged
        (nodes,) = file.execute("SELECT count(*) FROM nodes").fetchone()
    return (row[1] if isinstance(row[1], int) else 0, nodes)


def _mark_forgotten(
    path: Path,
    when: Callable[[float], bool] | None,
    remove_empty: bool,
    bury: Callable[[Iterable[Sequence[Turn]]], None],
) -> tuple[int, int] | None:
    """Returns how many turns and nodes the file holds, or None if it is to stay."""
    file = open_checked(path, partial(open_plain, path))
    try:
        with transaction(file):
            counts = _count(file, when, remove_empty)
            if counts is None:
                return None
            row = file.execute("SELECT forgotten FROM conversation").fetchone()
            if row is None:
                file.execute(_TOMBSTONE)
            elif not row[0]:
                bury(_first_turns(file))
            write_forgotten(file)
            return counts
    finally:
        file.close()
        release(path)


def _first_turns(file: sqlite3.Connection) -> list[list[Turn]]:
    """The first turns of each branch; of a damaged conversation, those that can be read."""
    found: list[list[Turn]] = []
    try:
        row = read_conversation(file)
        if row is not None:
            compression = TextCompression()
            children = partial(children_of, queries.runs(file, row.runs), row.next_seq)
            found.extend(first_turns(children, lambda seq: queries.turns(file, [seq], compression, False)[0]))
    except (BrokenHistory, IndexError):
        pass
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
    return found


def _may_be_removed(file: sqlite3.Connection, when: Callable[[float], bool]) -> bool:
    """Whether it was forgotten or meets `when`. Its row is checked: one changed bit must not delete it."""
    try:
        row = read_conversation(file)
    except BrokenHistory as error:
        raise sqlite3.DatabaseError(error.message) from error
    return row is not None and (bool(row.forgotten) or when(row.expires))


def _unlink(file: Path, path: Path) -> None:
    try:
        file.unlink()
    except PermissionError:  # on Windows, if another process has it open: nothing readable may stay in it
        if file == path:
            _wipe(path)


def _wipe(path: Path) -> None:
    file = open_plain(path)
    try:
        file.execute("PRAGMA secure_delete = ON")
        with transaction(file):
            tables = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in _WIPED_TABLES.intersection(tables):
                file.execute(f"DELETE FROM {table}")
            file.execute("INSERT INTO terms (terms) VALUES ('delete-all')")
            file.execute("UPDATE conversation SET id = '', title = '', space = NULL, salt = x''")
        file.execute("VACUUM")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        file.close()


def _create_empty(path: Path) -> None:
    created = open_database(path, "full", create=True)
    try:
        migrate(created)
        created.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        created.close()


def ensure_file(catalog: Catalog, db: sqlite3.Connection, conversation_id: str, path: Path) -> None:
    """Creates the conversation's file if there is none. The caller holds the catalog's lock.

    Afterwards the file at `path` is empty, or holds a conversation that was not forgotten.
    """
    if os.path.lexists(path):
        forget(catalog, db, conversation_id, path, when=lambda _: False, remove_empty=False)
        if path.exists():
            return
    _delete_files(path)  # SQLite would take a write-ahead log left by an earlier file for the new one's
    unfinished = path.with_name(path.name + UNFINISHED_SUFFIX)
    _delete_files(unfinished)
    try:
        _create_empty(unfinished)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        raise StoreUnavailable(  # not BrokenHistory: there is nothing yet that could be restored
            f"A new file was not read back as it was written ({error}); nothing was stored.",
            "The disk or the file system fails; check them, and try again.",
        ) from error
    os.replace(unfinished, path)
    sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left: unfinished files and repairs, and side files without a database.

    The caller holds the catalog's lock, so nobody is creating a file. A side file may also be left of a database that
    the user removed.
    """
    for entry in folder.glob(f"*{UNFINISHED_SUFFIX}"):
        _delete_files(entry)
    for entry in folder.parent.glob(f"{REPAIR_PREFIX}*"):
        if _is_orphan(entry):
            shutil.rmtree(entry, ignore_errors=True)
    for suffix in SIDE_FILES[1:]:
        for entry in folder.glob(f"*{SUFFIX}{suffix}"):
            if not entry.with_name(entry.name.removesuffix(suffix)).exists() and _is_orphan(entry):
                entry.unlink(missing_ok=True)


def remove_unfinished_redactions(data_dir: Path) -> None:
    """Removes the folders in which killed processes were redacting turns."""
    for folder in data_dir.glob(f"{REDACTION_PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _is_orphan(file: Path) -> bool:
    """Whether it is old: a repair may be running, and a copied side file may arrive before its database."""
    try:
        return file.stat().st_ctime <= time.time() - ORPHAN_SECONDS
    except OSError:
        return False


def _delete_files(path: Path) -> None:
    for file in with_side_files(path):
        file.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes a file's new name durable, on systems that can sync folders."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def damaged_copies(path: Path) -> list[Path]:
    """The copies of a conversation's damaged files that repairs have kept."""
    return list(path.parent.glob(f"{glob.escape(path.name)}{DAMAGED_SUFFIX}-*"))


def hard_link_warnings(path: Path) -> list[str]:
    """Returns a sentence for each of a conversation's files that has another name: removing this one leaves its bytes.

    They are not overwritten: such a name is most often in a backup, which the user has made.
    """
    warnings = []
    for file in [*with_side_files(path), *damaged_copies(path)]:
        with contextlib.suppress(FileNotFoundError):
            state = file.lstat()
            if state.st_nlink > 1:
                warnings.append(
                    f"{file.name} has {state.st_nlink - 1} more hard links, which still hold its bytes; "
                    f"`find / -xdev -inum {state.st_ino}` lists them"
                )
    return warnings


def remove_damaged_copies(path: Path) -> None:
    """Removes the copies of a conversation's damaged files that repairs have kept."""
    for file in damaged_copies(path):
        file.unlink(missing_ok=True)


def verify_removal(catalog: Catalog, db: sqlite3.Connection, receipt: Receipt, path: Path) -> Receipt:
    """Returns the receipt with the checks that passed. To be called after the removal was committed.

    Args:
        catalog: The catalog.
        db: The catalog's connection.
        path: Where the conversation's file was.
    """
    passed = []
    if not any(file.exists() for file in with_side_files(path)) and not damaged_copies(path):
        passed.append(f"neither the file {path.name} nor its write-ahead log or another side file exists")
    rows = db.execute("SELECT count(*) FROM files WHERE name = ?", (path.name,)).fetchone()[0]
    rows += db.execute("SELECT count(*) FROM roots WHERE name = ?", (path.name,)).fetchone()[0]
    if not rows and path.name not in catalog.index.files():
        passed.append("neither the catalog nor the index over all conversations has a row of it")
    # The file's bytes as SQLite reads them: closing another descriptor would drop this process's locks on the file.
    if receipt.conversation_id.encode() not in db.serialize():
        passed.append("the catalog's bytes do not contain its id")
    return replace(receipt, checked=passed)
