"""What the gateway sent for each conversation on each day, in tokens: a small table beside the conversations.

No word of a conversation stands in it. When one is forgotten, its numbers stay with the day, under no name: the money
was spent. Calls are short and blocking; who must not wait makes them on a thread.
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

if TYPE_CHECKING:
    from ctxmem_mcp.settings import Settings

FILE = "spending.sqlite3"
# Of the day's whole, what conversations cost that are gone.
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


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens of a conversation on a day (since 1970, UTC). tokens_in: sent, the cached ones (as the upstream says)
    included. tokens_saved: of the history, those that were not sent."""

    day: int
    conversation_id: str
    requests: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    tokens_saved: int


def add(folder: Path, spent: Spent) -> None:
    """Adds to what the conversation cost on that day."""
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(folder) as db:
        db.execute(_ADD, _row(spent))


def read(folder: Path, conversation_id: str | None = None) -> list[Spent]:
    """All days, oldest first; of one conversation, or of all."""
    if not (folder / FILE).exists():
        return []
    where, values = (" WHERE conversation = ?", (conversation_id,)) if conversation_id is not None else ("", ())
    with _opened(folder) as db:
        return [Spent(*row) for row in db.execute(f"SELECT * FROM spent{where} ORDER BY day, conversation", values)]


def forget(folder: Path, conversation_ids: Collection[str]) -> None:
    """Leaves the numbers of these conversations under no name."""
    if not conversation_ids or not (folder / FILE).exists():
        return
    try:
        with _opened(folder) as db:
            for conversation_id in conversation_ids:
                rows = db.execute("SELECT * FROM spent WHERE conversation = ?", (conversation_id,)).fetchall()
                db.execute("DELETE FROM spent WHERE conversation = ?", (conversation_id,))
                db.executemany(_ADD, [(row[0], FORGOTTEN, *row[2:]) for row in rows])
    except sqlite3.Error as error:
        _log.warning("What forgotten conversations cost may still stand under their ids: %s", error)


def told(spent: Sequence[Spent], settings: Settings) -> dict[str, Any]:
    """The account as the gateway and the usage resource give it: each day, their sum, and the prices it was made at."""
    rows = [
        {
            "date": datetime.fromtimestamp(s.day * 86_400, UTC).date().isoformat(),
            "conversation_id": s.conversation_id or None,
            **{name: getattr(s, name) for name in _COUNTS},
            "cost": cost(s, settings),
        }
        for s in spent
    ]
    total = {name: sum(getattr(s, name) for s in spent) for name in _COUNTS}
    prices = {"input": settings.price_in, "cached": settings.price_cached, "output": settings.price_out}
    return {
        "currency": "USD",
        "prices_per_million_tokens": prices,
        "total": {**total, "cost": round(sum(cost(s, settings) for s in spent), 6)},
        "data": rows,
    }


def cost(spent: Spent, settings: Settings) -> float:
    """Dollars: what was cached at its own price, the rest of what was sent, and what was answered."""
    cached = min(spent.tokens_cached, spent.tokens_in)
    fresh = spent.tokens_in - cached
    dollars = fresh * settings.price_in + cached * settings.price_cached + spent.tokens_out * settings.price_out
    return round(dollars / 1_000_000, 6)


def _row(spent: Spent) -> tuple[int | str, ...]:
    return (
        spent.day, spent.conversation_id, spent.requests, spent.tokens_in, spent.tokens_out, spent.tokens_cached,
        spent.tokens_saved,
    )  # fmt: skip


@contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """The table, in one transaction."""
    with closing(sqlite3.connect(folder / FILE, timeout=_BUSY_SECONDS)) as db:
        db.execute("PRAGMA secure_delete = ON")
        db.execute(_TABLE)
        with db:
            yield db
