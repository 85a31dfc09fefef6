"""Model calls as rows of the conversation's file: their progress, outcome and cost.

The row of a call that has not ended is the lock: there is at most one, whichever process began it, and no connection
holds it, so nothing waits for a model. A day's total is in the catalog. It can be computed from the files, except for
the cost of conversations that were forgotten since.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from ctxmem_mcp.errors import BrokenHistory, CtxmemError
from ctxmem_mcp.models import EXTRACTIVE, Summary
from ctxmem_mcp.stores.records import LOST, CallRefusal, ModelCall, SpendLimits
from ctxmem_mcp.stores.sqlite.catalog import Catalog
from ctxmem_mcp.stores.sqlite.commits import insert_summary, node_number
from ctxmem_mcp.stores.sqlite.compression import TextCompression
from ctxmem_mcp.stores.sqlite.connection import transaction
from ctxmem_mcp.stores.sqlite.conversation_files import SUFFIX, with_side_files
from ctxmem_mcp.stores.sqlite.file_open import open_read_only

_DAY_SECONDS = 86_400


# ---------------------------------------------------------------- the conversation's file, on its thread


def begin(
    conversation_id: str, call: ModelCall, limits: SpendLimits, now: float, db: sqlite3.Connection
) -> ModelCall | CallRefusal:
    """Inserts the call with its tokens reserved. Returns it with its number, or why it may not begin."""
    with transaction(db):
        node = node_number(db, conversation_id, call.digest, now)
        db.execute(
            "UPDATE model_calls SET outcome = ? WHERE outcome = '' AND begun <= ?",
            (LOST, now - limits.lost_after_seconds),
        )
        if db.execute("SELECT 1 FROM model_calls WHERE outcome = ''").fetchone():
            return CallRefusal.BUSY
        if db.execute("SELECT 1 FROM summaries WHERE node = ? AND author <> ?", (node, EXTRACTIVE)).fetchone():
            return CallRefusal.ALREADY_WRITTEN
        (cost,) = db.execute("SELECT coalesce(sum(tokens_in + tokens_out), 0) FROM model_calls").fetchone()
        if cost + call.tokens > limits.tokens_per_conversation:
            return CallRefusal.CONVERSATION_LIMIT
        number = db.execute(
            "INSERT INTO model_calls VALUES (NULL, ?, ?, ?, ?, ?, '')",
            (node, call.author, call.started, call.tokens_in, call.tokens_out),
        ).lastrowid
        assert number is not None
        return replace(call, number=number)


def end(
    conversation_id: str,
    call: ModelCall,
    summary: Summary | None,
    compression: TextCompression,
    now: float,
    db: sqlite3.Connection,
) -> int:
    """Records how a call ended. Returns its cost minus the tokens that were reserved for it."""
    try:
        with transaction(db):
            node = node_number(db, conversation_id, call.digest, now)
            reserved = db.execute(
                "SELECT tokens_in + tokens_out FROM model_calls WHERE number = ?", (call.number,)
            ).fetchone()
            if reserved is None:
                return 0
            if not isinstance(reserved[0], int):
                raise BrokenHistory(f"Model call number {call.number} has a field of the wrong type.")
            _update_row(db, call)
            if summary is not None and not _has_other_author(db, node, summary.author):
                insert_summary(db, node, summary, compression, now)
            return call.cost - int(reserved[0])
    except BaseException:
        compression.forget_dictionaries()
        raise


def _update_row(db: sqlite3.Connection, call: ModelCall) -> None:
    if call.outcome:
        db.execute(
            "UPDATE model_calls SET tokens_in = ?, tokens_out = ?, outcome = ? WHERE number = ?",
            (call.tokens_in, call.tokens_out, call.outcome, call.number),
        )
    else:
        db.execute("DELETE FROM model_calls WHERE number = ?", (call.number,))


def _has_other_author(db: sqlite3.Connection, node: int, author: str) -> bool:
    """Whether somebody else wrote a summary of the node."""
    others = "SELECT 1 FROM summaries WHERE node = ? AND author NOT IN (?, ?)"
    return db.execute(others, (node, EXTRACTIVE, author)).fetchone() is not None


# ---------------------------------------------------------------- the catalog, under its lock and on its thread


def reserve(catalog: Catalog, call: ModelCall, tokens_per_day: int, db: sqlite3.Connection) -> bool:
    """Adds a call that has begun to its day's total; returns False and adds nothing if that exceeds the limit."""
    total = _stored_total(call.day, db)
    if total is None:
        total = _sum_files(catalog, call.day) - call.tokens  # the call is in its file already
    if fits := total + call.tokens <= tokens_per_day:
        total += call.tokens
    db.execute("INSERT OR REPLACE INTO spending VALUES (?, ?)", (call.day, total))
    return fits


def adjust(day: int, difference: int, db: sqlite3.Connection) -> None:
    """Adds to a day's total what a call cost beyond its reserved tokens."""
    db.execute("UPDATE spending SET tokens = tokens + ? WHERE day = ?", (difference, day))


def spent(catalog: Catalog, day: int, db: sqlite3.Connection) -> int:
    total = _stored_total(day, db)
    return _sum_files(catalog, day) if total is None else total


def _stored_total(day: int, db: sqlite3.Connection) -> int | None:
    row = db.execute("SELECT tokens FROM spending WHERE day = ?", (day,)).fetchone()
    return int(row[0]) if row else None


def _sum_files(catalog: Catalog, day: int) -> int:
    """A day's total from the files; those not written to since the day began are not opened."""
    paths = catalog.folder.glob(f"*{SUFFIX}")
    return sum(_sum_file(path, day) for path in paths if _written_since(path, day * _DAY_SECONDS))


def _written_since(path: Path, seconds: float) -> bool:
    try:
        return any(file.stat().st_mtime >= seconds for file in with_side_files(path)[:2] if file.exists())
    except OSError:
        return False


def _sum_file(path: Path, day: int) -> int:
    try:
        with open_read_only(path) as file:
            (total,) = file.execute(
                "SELECT coalesce(sum(tokens_in + tokens_out), 0) FROM model_calls WHERE begun >= ? AND begun < ?",
                (day * _DAY_SECONDS, (day + 1) * _DAY_SECONDS),
            ).fetchone()
            return int(total)
    except (CtxmemError, sqlite3.Error, OSError):  # not ours, of an older format, or gone: it has no call of today
        return 0
