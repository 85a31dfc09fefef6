"""What the gateway sent for each conversation on each day, in tokens: a small table beside the conversations.

No word of a conversation stands in it. When one is forgotten, its numbers stay with the day, under no name: the money
was spent. Calls are short and blocking; who must not wait makes them on a thread.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

FILE = "spending.sqlite3"
# Of the day's whole, what conversations cost that are gone.
FORGOTTEN = ""
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
