"""Records each request that the gateway sent, by sizes, ids and a digest, in the file of the usage ledger.

No text is stored a second time: the turns are in the conversation, and a view can be computed again. Forgetting a
conversation, or one of its branches, removes its records. Functions are short and blocking, as those of the ledger.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from ctxmem_mcp.private_files import create_folder
from ctxmem_mcp.usage_ledger import FILE, open_ledger

# The newest of each conversation are kept.
REQUESTS_MAX = 1_000
# A view is for the beginning of a prompt, which has so many characters.
QUERY_CHARS_MAX = 2_000
_DIGEST_BYTES = 16
_log = logging.getLogger(__name__)
_TABLE = """CREATE TABLE IF NOT EXISTS sent (
    conversation TEXT NOT NULL, at REAL NOT NULL, first TEXT NOT NULL, last TEXT NOT NULL, view_end TEXT NOT NULL,
    view_query TEXT NOT NULL, view_budget INTEGER NOT NULL, view_digest BLOB NOT NULL, history INTEGER NOT NULL,
    system INTEGER NOT NULL, head INTEGER NOT NULL, rest INTEGER NOT NULL, tokens_in INTEGER, cached INTEGER)"""
_INDEX = "CREATE INDEX IF NOT EXISTS sent_by_conversation ON sent (conversation)"
_ADD = f"INSERT INTO sent VALUES ({', '.join('?' * 14)})"


@dataclass(frozen=True, slots=True)
class SentView:
    """The view in a compacted request, without the parts that were added to it since.

    Attributes:
        end: the id of the last turn that it covers.
        query: the id of the turn whose prompt it is for; empty if it has none.
        budget: its token budget.
        digest: of its text.
    """

    end: str = ""
    query: str = ""
    budget: int = 0
    digest: bytes = b""

    def matches(self, text: str) -> bool:
        """Returns whether the view's text was this."""
        return self.digest == digest_of(text)


NO_VIEW = SentView()


@dataclass(frozen=True, slots=True)
class SentRequest:
    """One request. The model got, in this order: the system prompt, pinned texts and the view, and the turns since.

    Attributes:
        conversation_id: where its messages are stored.
        at: when it was answered, in seconds since 1970.
        first, last: the ids of the first and last turn that were sent unchanged.
        view: the view before them; an empty one if the request was not compacted.
        history: tokens of the client's messages.
        system, head, rest: tokens of the system prompt, of pinned texts and view, and of the unchanged turns.
        tokens_in: input tokens that the upstream reported, or None. They include tools, which are in no turn.
        cached: those of them from its cache, or None.
    """

    conversation_id: str
    at: float
    first: str
    last: str
    view: SentView
    history: int
    system: int
    head: int
    rest: int
    tokens_in: int | None = None
    cached: int | None = None


def digest_of(text: str) -> bytes:
    """Returns the digest by which a view's text is recognised."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def add(folder: Path, sent: SentRequest) -> None:
    """Records a request, and removes the oldest of its conversation if there are too many."""
    create_folder(folder)
    with open_ledger(folder) as db:
        _create(db)
        db.execute(_ADD, _row(sent))
        db.execute(
            "DELETE FROM sent WHERE conversation = ? AND rowid <= (SELECT rowid FROM sent WHERE conversation = ? "
            "ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
            (sent.conversation_id, sent.conversation_id, REQUESTS_MAX),
        )


def adopt(folder: Path, requests: Sequence[SentRequest]) -> None:
    """Takes over another folder's records of one conversation, unless there are some here."""
    create_folder(folder)
    with open_ledger(folder) as db:
        _create(db)
        if db.execute("SELECT 1 FROM sent WHERE conversation = ?", (requests[0].conversation_id,)).fetchone() is None:
            db.executemany(_ADD, map(_row, requests))


def read(folder: Path, conversation_id: str) -> list[SentRequest]:
    """Returns the recorded requests of a conversation, oldest first."""
    if not (folder / FILE).exists():
        return []
    with open_ledger(folder) as db:
        _create(db)
        rows = db.execute("SELECT * FROM sent WHERE conversation = ? ORDER BY rowid", (conversation_id,)).fetchall()
    return [_from_row(*row) for row in rows]


def forget(folder: Path, conversation_ids: Collection[str]) -> None:
    """Removes the records of these conversations. A database error is logged, not raised."""
    if not conversation_ids or not (folder / FILE).exists():
        return
    try:
        with open_ledger(folder) as db:
            _create(db)
            db.executemany("DELETE FROM sent WHERE conversation = ?", [(one,) for one in conversation_ids])
    except sqlite3.Error as error:
        _log.warning("Requests of forgotten conversations may still be recorded: %s", error)


def _row(sent: SentRequest) -> tuple[object, ...]:
    return (sent.conversation_id, sent.at, sent.first, sent.last, *astuple(sent.view), sent.history, sent.system,
            sent.head, sent.rest, sent.tokens_in, sent.cached)  # fmt: skip


def _from_row(
    conversation: str, at: float, first: str, last: str, end: str, query: str, budget: int, digest: bytes, *sizes: int
) -> SentRequest:
    history, system, head, rest, tokens_in, cached = sizes
    view = SentView(end, query, budget, digest)
    return SentRequest(conversation, at, first, last, view, history, system, head, rest, tokens_in, cached)


def _create(db: sqlite3.Connection) -> None:
    db.execute(_TABLE)
    db.execute(_INDEX)
