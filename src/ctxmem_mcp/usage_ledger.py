"""The tokens that the gateway sent per conversation and day, in a small SQLite table beside the conversations.

It contains no text of a conversation. When a conversation is forgotten, its numbers stay under an empty id, because the
money was spent. Functions are short and blocking; run them in a thread where nothing may block.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.private_files import create_empty, create_folder

if TYPE_CHECKING:
    from ctxmem_mcp.settings import Settings

FILE = "spending.sqlite3"
# The conversation id under which the numbers of forgotten conversations are summed, per day.
FORGOTTEN = ""
_COUNTS = ("requests", "tokens_in", "tokens_out", "tokens_cached", "tokens_saved")
_BUSY_SECONDS = 5.0
_log = logging.getLogger(__name__)
_TABLE = """CREATE TABLE IF NOT EXISTS spent (
    day INTEGER NOT NULL, conversation TEXT NOT NULL, requests INTEGER NOT NULL, tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL, tokens_cached INTEGER NOT NULL, tokens_saved INTEGER NOT NULL,
    PRIMARY KEY (day, conversation)) WITHOUT ROWID"""
_ADD = """INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day, conversation) DO UPDATE SET
    requests = requests + excluded.requests, tokens_in = tokens_in + excluded.tokens_in,
    tokens_out = tokens_out + excluded.tokens_out, tokens_cached = tokens_cached + excluded.tokens_cached,
    tokens_saved = tokens_saved + excluded.tokens_saved"""

_ADOPT = """INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day, conversation) DO UPDATE SET
    requests = max(requests, excluded.requests), tokens_in = max(tokens_in, excluded.tokens_in),
    tokens_out = max(tokens_out, excluded.tokens_out), tokens_cached = max(tokens_cached, excluded.tokens_cached),
    tokens_saved = max(tokens_saved, excluded.tokens_saved)"""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """The usage of one conversation on one day.

    Attributes:
        day: days since 1970, UTC.
        conversation_id: FORGOTTEN for forgotten conversations.
        requests: the number of requests.
        tokens_in: tokens sent, including cached ones.
        tokens_out: tokens of the responses.
        tokens_cached: sent tokens that the upstream served from its cache.
        tokens_saved: tokens of the history that were not sent.
    """

    day: int
    conversation_id: str
    requests: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    tokens_saved: int


def add(folder: Path, entry: LedgerEntry) -> None:
    """Adds to the numbers of the entry's conversation and day."""
    create_folder(folder)
    with open_ledger(folder) as db:
        db.execute(_ADD, _row(entry))


def adopt(folder: Path, entries: Sequence[LedgerEntry]) -> None:
    """Takes over the entries of another ledger. Of one that is here too, each number is the greater of the two."""
    create_folder(folder)
    with open_ledger(folder) as db:
        db.executemany(_ADOPT, map(_row, entries))


def read(folder: Path, conversation_id: str | None = None) -> list[LedgerEntry]:
    """Returns the entries of one conversation, or of all, oldest day first."""
    if not (folder / FILE).exists():
        return []
    where, values = (" WHERE conversation = ?", (conversation_id,)) if conversation_id is not None else ("", ())
    with open_ledger(folder) as db:
        rows = db.execute(f"SELECT * FROM spent{where} ORDER BY day, conversation", values)
        return [LedgerEntry(*row) for row in rows]


def forget(folder: Path, conversation_ids: Collection[str]) -> None:
    """Moves the numbers of these conversations to FORGOTTEN. A database error is logged, not raised."""
    try:
        move(folder, conversation_ids, FORGOTTEN)
    except sqlite3.Error as error:
        _log.warning("The usage of forgotten conversations may still be stored under their ids: %s", error)


def move(folder: Path, conversation_ids: Collection[str], target: str) -> None:
    """Adds the numbers of these conversations to those of another one, and removes them."""
    if not conversation_ids or not (folder / FILE).exists():
        return
    with open_ledger(folder) as db:
        db.execute("BEGIN IMMEDIATE")  # nothing is added between reading and deleting
        for conversation_id in conversation_ids:
            rows = db.execute("SELECT * FROM spent WHERE conversation = ?", (conversation_id,)).fetchall()
            db.execute("DELETE FROM spent WHERE conversation = ?", (conversation_id,))
            db.executemany(_ADD, [(row[0], target, *row[2:]) for row in rows])


def without_names(entries: Sequence[LedgerEntry], conversation_ids: Collection[str]) -> list[LedgerEntry]:
    """Returns entries in which the numbers of these conversations are added to FORGOTTEN, per day."""
    summed: dict[tuple[int, str], LedgerEntry] = {}
    for entry in entries:
        name = FORGOTTEN if entry.conversation_id in conversation_ids else entry.conversation_id
        before = summed.get((entry.day, name), LedgerEntry(entry.day, name, 0, 0, 0, 0, 0))
        counts = {one: getattr(before, one) + getattr(entry, one) for one in _COUNTS}
        summed[entry.day, name] = LedgerEntry(entry.day, name, **counts)
    return list(summed.values())


def usage_report(entries: Sequence[LedgerEntry], settings: Settings) -> dict[str, Any]:
    """Returns the JSON of /v1/usage and of the usage resource: each day, the total, and the prices applied."""
    rows = [
        {
            "date": datetime.fromtimestamp(entry.day * 86_400, UTC).date().isoformat(),
            "conversation_id": entry.conversation_id or None,
            **{name: getattr(entry, name) for name in _COUNTS},
            "cost": cost(entry, settings),
        }
        for entry in entries
    ]
    total = {name: sum(getattr(entry, name) for entry in entries) for name in _COUNTS}
    prices = {"input": settings.price_in, "cached": settings.price_cached, "output": settings.price_out}
    return {
        "currency": "USD",
        "prices_per_million_tokens": prices,
        "total": {**total, "cost": round(sum(cost(entry, settings) for entry in entries), 6)},
        "data": rows,
    }


def cost(entry: LedgerEntry, settings: Settings) -> float:
    """Returns the cost in dollars: cached input, other input and output at their prices."""
    cached = min(entry.tokens_cached, entry.tokens_in)
    uncached = entry.tokens_in - cached
    dollars = uncached * settings.price_in + cached * settings.price_cached + entry.tokens_out * settings.price_out
    return round(dollars / 1_000_000, 6)


def _row(entry: LedgerEntry) -> tuple[int | str, ...]:
    return (
        entry.day, entry.conversation_id, entry.requests, entry.tokens_in, entry.tokens_out, entry.tokens_cached,
        entry.tokens_saved,
    )  # fmt: skip


@contextmanager
def open_ledger(folder: Path) -> Iterator[sqlite3.Connection]:
    """Opens the table for one transaction."""
    create_empty(folder / FILE)
    with closing(sqlite3.connect(folder / FILE, timeout=_BUSY_SECONDS)) as db:
        db.execute("PRAGMA secure_delete = ON")
        db.execute(_TABLE)
        with db:
            yield db
