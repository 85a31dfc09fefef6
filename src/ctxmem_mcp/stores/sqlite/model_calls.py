"""Calls of a model, as rows of the conversation's file: what is under way, what came of it, what it cost.

The row of a call that has not ended is the lock: there is one at most, whichever process began it, and it is not held
by a connection, so nothing waits for a model. A day's total stands in the catalog. It can be computed from the files,
but for the cost of conversations that were forgotten since.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.models import EXTRACTIVE, Summary
from ctxmem_mcp.stores.base import LOST, CallRefusal, ModelCall, SpendLimits
from ctxmem_mcp.stores.sqlite.catalog import SUFFIX, Catalog, reading_only, side_files
from ctxmem_mcp.stores.sqlite.commits import join_summary, living_node
from ctxmem_mcp.stores.sqlite.compression import Bodies
from ctxmem_mcp.stores.sqlite.connection import transaction

_DAY_SECONDS = 86_400

# ---------------------------------------------------------------- the conversation's file, on its thread


def begin(
    conversation_id: str, call: ModelCall, caps: SpendLimits, now: float, db: sqlite3.Connection
) -> ModelCall | CallRefusal:
    """The call with its number, its tokens set aside; or what is in its way."""
    with transaction(db):
        node = living_node(db, conversation_id, call.digest, now)
        db.execute(
            "UPDATE model_calls SET outcome = ? WHERE outcome = '' AND begun <= ?",
            (LOST, now - caps.lost_after_seconds),
        )
        if db.execute("SELECT 1 FROM model_calls WHERE outcome = ''").fetchone():
            return CallRefusal.BUSY
        if db.execute("SELECT 1 FROM summaries WHERE node = ? AND author <> ?", (node, EXTRACTIVE)).fetchone():
            return CallRefusal.ALREADY_WRITTEN
        (cost,) = db.execute("SELECT coalesce(sum(tokens_in + tokens_out), 0) FROM model_calls").fetchone()
        if cost + call.tokens > caps.tokens_per_conversation:
            return CallRefusal.CONVERSATION_LIMIT
        number = db.execute(
            "INSERT INTO model_calls VALUES (NULL, ?, ?, ?, ?, ?, '')",
            (node, call.author, call.begun, call.tokens_in, call.tokens_out),
        ).lastrowid
        assert number is not None
        return replace(call, number=number)


def end(
    conversation_id: str, call: ModelCall, summary: Summary | None, bodies: Bodies, now: float, db: sqlite3.Connection
) -> int:
    """Writes what came of a call; gives how many tokens more it cost than were set aside."""
    try:
        with transaction(db):
            node = living_node(db, conversation_id, call.digest, now)
            had = db.execute(
                "SELECT tokens_in + tokens_out FROM model_calls WHERE number = ?", (call.number,)
            ).fetchone()
            if had is None:
                return 0
            _write(db, call)
            if summary is not None and not _written(db, node, summary.author):
                join_summary(db, node, summary, bodies, now)
            return call.cost - int(had[0])
    except BaseException:
        bodies.forget_dictionary()
        raise


def _write(db: sqlite3.Connection, call: ModelCall) -> None:
    if call.outcome:
        db.execute(
            "UPDATE model_calls SET tokens_in = ?, tokens_out = ?, outcome = ? WHERE number = ?",
            (call.tokens_in, call.tokens_out, call.outcome, call.number),
        )
    else:
        db.execute("DELETE FROM model_calls WHERE number = ?", (call.number,))


def _written(db: sqlite3.Connection, node: int, author: str) -> bool:
    """Whether somebody else wrote a summary of the node."""
    others = "SELECT 1 FROM summaries WHERE node = ? AND author NOT IN (?, ?)"
    return db.execute(others, (node, EXTRACTIVE, author)).fetchone() is not None


def of(db: sqlite3.Connection) -> list[ModelCall]:
    """All calls, oldest first."""
    found = db.execute(
        "SELECT digest, author, begun, tokens_in, tokens_out, outcome, number FROM model_calls JOIN nodes USING (node) "
        "ORDER BY number"
    )
    return [ModelCall(*row) for row in found]


# ---------------------------------------------------------------- the catalog, under its lock and on its thread


def set_aside(catalog: Catalog, call: ModelCall, tokens_per_day: int, db: sqlite3.Connection) -> bool:
    """Counts a call that has begun into its day's total; False, and nothing counted, where that would be too much."""
    total = _total(catalog, call.day, db)
    if total is None:
        total = _summed(catalog, call.day) - call.tokens  # it stands in its file already
    if fits := total + call.tokens <= tokens_per_day:
        total += call.tokens
    db.execute("INSERT OR REPLACE INTO spending VALUES (?, ?)", (call.day, total))
    return fits


def settle(day: int, more: int, db: sqlite3.Connection) -> None:
    db.execute("UPDATE spending SET tokens = tokens + ? WHERE day = ?", (more, day))


def spent(catalog: Catalog, day: int, db: sqlite3.Connection) -> int:
    total = _total(catalog, day, db)
    return _summed(catalog, day) if total is None else total


def _total(catalog: Catalog, day: int, db: sqlite3.Connection) -> int | None:
    row = db.execute("SELECT tokens FROM spending WHERE day = ?", (day,)).fetchone()
    return int(row[0]) if row else None


def _summed(catalog: Catalog, day: int) -> int:
    """A day's total from the files; those not written to since it began are not looked at."""
    paths = catalog.folder.glob(f"*{SUFFIX}")
    return sum(_summed_in(path, day) for path in paths if _written_since(path, day * _DAY_SECONDS))


def _written_since(path: Path, when: float) -> bool:
    try:
        return any(file.stat().st_mtime >= when for file in side_files(path)[:2] if file.exists())
    except OSError:
        return False


def _summed_in(path: Path, day: int) -> int:
    try:
        with reading_only(path) as file:
            (total,) = file.execute(
                "SELECT coalesce(sum(tokens_in + tokens_out), 0) FROM model_calls WHERE begun >= ? AND begun < ?",
                (day * _DAY_SECONDS, (day + 1) * _DAY_SECONDS),
            ).fetchone()
            return int(total)
    except (CtxmemError, sqlite3.Error, OSError):  # not ours, of an older format, or gone: no call of today is in it
        return 0
