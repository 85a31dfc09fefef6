"""Reads every row of a conversation's file as the readers do, and reports each fault instead of the first."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

from ctxmem_mcp.errors import BrokenHistory, CtxmemError
from ctxmem_mcp.stores.encoding import parse_summary
from ctxmem_mcp.stores.sqlite import checksums, queries, term_index
from ctxmem_mcp.stores.sqlite.commits import read_conversation
from ctxmem_mcp.stores.sqlite.compression import DICTIONARY_TABLES, TextCompression
from ctxmem_mcp.stores.sqlite.connection import translate_error

# The virtual machine's steps between two looks at the clock.
_STEPS = 10_000


def find_faults(db: sqlite3.Connection) -> list[str]:
    """Returns a sentence for each damaged row, table or page; empty if there is none."""
    faults: list[str] = []
    for check in (_pages, _counts, _bodies, _rows, _index):
        try:
            faults += check(db)
        except sqlite3.Error as error:
            translated = translate_error(error)
            if not isinstance(translated, BrokenHistory):
                raise translated from error
            faults.append(translated.message)
        except CtxmemError as error:
            faults.append(error.message)
    return list(dict.fromkeys(faults))


def find_quickly(db: sqlite3.Connection, until: float) -> list[str]:
    """Checks the pages' structure and the rows of state. Finds most damage, not all.

    Args:
        until: When to stop, on the monotonic clock.
    """
    db.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
    try:
        return [*_pages(db), *_counts(db)]
    except sqlite3.Error as error:
        translated = translate_error(error)
        return [translated.message] if isinstance(translated, BrokenHistory) else []
    except BrokenHistory as error:
        return [error.message]
    finally:
        db.set_progress_handler(None, 0)


def _pages(db: sqlite3.Connection) -> Iterator[str]:
    for (line,) in db.execute("PRAGMA quick_check(20)"):
        if line != "ok":
            yield f"SQLite's check of the pages: {line}."


def _counts(db: sqlite3.Connection) -> Iterator[str]:
    row = read_conversation(db)
    if row is None:
        return
    queries.runs(db, row.runs)
    for table, column, count in (
        ("turns", "seq", row.next_seq - 1), ("pieces", "id", row.next_piece - 1), ("closings", "closer", row.nodes)
    ):  # fmt: skip
        (found,) = db.execute(f"SELECT count({column}) FROM {table}").fetchone()
        if found != count:
            yield f"The table {table} has {found} rows instead of {count}."
    state = queries.state(db, row.id, float("-inf"))
    if state is not None:
        select = "SELECT seq FROM turns WHERE seq < ? AND pieces = 0 LIMIT 1"
        for (seq,) in db.execute(select, (state.next_unindexed,)):
            yield f"Turn number {seq} has no pieces."


def _bodies(db: sqlite3.Connection) -> Iterator[str]:
    compression = TextCompression()
    for table, columns, name in (
        ("turns", checksums.TURN_COLUMNS, "turn"), ("summaries", checksums.SUMMARY_COLUMNS, "summary")
    ):  # fmt: skip
        for *row, checksum, body in db.execute(f"SELECT {columns}, checksum, body FROM {table}"):
            what = f"{name} number {row[0]}"
            try:
                checksums.check_row(row, checksum, what)
                text = compression.decompress(db, row[-2], row[-1], body, what)
                if table == "summaries":
                    parse_summary(row[2], text)
            except BrokenHistory as error:
                yield error.message
    for table in DICTIONARY_TABLES:
        for number, checksum, body in db.execute(f"SELECT number, checksum, body FROM {table}"):
            if not checksums.is_sound_blob(number, checksum, body):
                yield f"Row {number} of the table {table} does not match its checksum."
    counts = {db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in DICTIONARY_TABLES}
    if len(counts) > 1:
        yield "A dictionary has no copy."


def _rows(db: sqlite3.Connection) -> Iterator[str]:
    reads: tuple[tuple[str, Callable[[Any], object]], ...] = (
        (f"SELECT {checksums.NODE_COLUMNS}, checksum FROM nodes", queries.read_node),
        (queries.CLOSINGS, queries.read_closing),
        (queries.PIECES, queries.read_piece),
    )
    for select, read in reads:
        for row in db.execute(select):
            try:
                read(row)
            except BrokenHistory as error:
                if select != queries.PIECES or _turn_is_sound(db, row[1]):
                    yield error.message
    for table, key, what in (("vectors", "id", "vector of piece number"), ("extra", "key", "extra")):
        body = "value" if table == "extra" else "body"
        for row in db.execute(f"SELECT {key}, checksum, {body} FROM {table}"):
            if not checksums.is_sound_blob(*row):
                yield f"The {what} {row[0]} does not match its checksum."
    for select, what in (
        ("SELECT node FROM nodes WHERE node NOT IN (SELECT node FROM summaries)", "Node number {} has no summary."),
        ("SELECT node FROM summaries WHERE node NOT IN (SELECT node FROM nodes)", "A summary is of no node: {}."),
        ("SELECT node FROM closings WHERE node NOT IN (SELECT node FROM nodes)", "A closing is of no node: {}."),
        (
            f"SELECT node FROM model_calls WHERE node <> {queries.GONE} AND node NOT IN (SELECT node FROM nodes)",
            "A call is about no node: {}.",
        ),
        ("SELECT id FROM pieces WHERE seq NOT IN (SELECT seq FROM turns)", "Piece number {} is of no turn."),
    ):
        for (key,) in db.execute(select):
            yield what.format(key)
    queries.model_calls(db)


def _turn_is_sound(db: sqlite3.Connection, seq: object) -> bool:
    """A piece's checksum covers fields of its turn, whose own fault is enough."""
    for *row, checksum in db.execute(f"SELECT {checksums.TURN_COLUMNS}, checksum FROM turns WHERE seq = ?", (seq,)):
        return bool(checksums.row_checksum(row) == checksum)
    return True


def _index(db: sqlite3.Connection) -> Iterator[str]:
    term_index.read_waiting(db)
    (last,) = db.execute("SELECT next_piece - 1 FROM conversation").fetchone() or (0,)
    db.execute("BEGIN")
    try:
        db.execute("INSERT INTO terms (terms) VALUES ('integrity-check')")
        (pieces, lowest, highest) = db.execute("SELECT count(doc), min(doc), max(doc) FROM terms_placed").fetchone()
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error):
            raise
        return
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    if pieces and not 1 <= lowest <= highest <= last:
        yield "The index has pieces that do not exist."
