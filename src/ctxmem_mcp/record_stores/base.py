"""The contract of a record store: what is stored beside the conversations of one principal."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ctxmem_mcp.sent_requests import SentRequest
    from ctxmem_mcp.usage_ledger import LedgerEntry

Record = dict[str, Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RedactionOrder:
    """A redaction that is not finished.

    Attributes:
        id: Its name in the store.
        day: The day in the note that replaces the turns.
        turns: The digests of the turns, by conversation.
    """

    id: str
    day: str
    turns: Mapping[str, Collection[bytes]]


def encode_turns(day: str, turns: Mapping[str, Collection[bytes]]) -> bytes:
    """Returns a redaction as JSON."""
    as_json = {"day": day, "turns": {one: [digest.hex() for digest in some] for one, some in turns.items()}}
    return json.dumps(as_json).encode()


def readable_orders(stored: Iterable[tuple[str, str, Callable[[], bytes]]]) -> list[RedactionOrder]:
    """Returns the redactions that can be read. An error is logged, so that one that can't be read stops no other.

    Args:
        stored: The id of each, its name in the log, and a function that returns its JSON.
    """
    orders = []
    for order_id, name, read in stored:
        try:
            orders.append(_decode_order(order_id, read()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.error("%s can't be read: %s", name, error)
    return orders


def _decode_order(order_id: str, raw: bytes) -> RedactionOrder:
    found: dict[str, Any] = json.loads(raw)
    turns = {one: {bytes.fromhex(digest) for digest in some} for one, some in found["turns"].items()}
    return RedactionOrder(order_id, found["day"], turns)


class RedactionOrders(Protocol):
    """Redactions in progress. Each is recorded before it begins, so that another process can finish it."""

    def lock(self, seconds: float) -> AbstractAsyncContextManager[bool]:
        """Lets one process at a time redact. Yields whether the lock was got within so many seconds."""

    async def add(self, day: str, turns: Mapping[str, Collection[bytes]]) -> RedactionOrder:
        """Records a redaction. It is durable when this returns."""

    async def all(self) -> Sequence[RedactionOrder]:
        """Returns all recorded redactions that can be read. An error is logged for each other one."""

    async def remove(self, order: RedactionOrder) -> None:
        """Removes the record of a finished redaction."""


class RecordStore(Protocol):
    """Records of sessions and of groups of sessions, by kind and id; the gateway's usage and requests.

    A change is durable when its method returns, except of usage and requests: a power failure may lose the last.
    """

    @property
    def redactions(self) -> RedactionOrders:
        """The redactions in progress."""

    async def put(self, kind: str, record_id: str, record: Record) -> None:
        """Stores a record, or replaces it. kind: SESSIONS or SPACES."""

    async def replace(self, kind: str, record_id: str, record: Record) -> bool:
        """Replaces a record, unless it was removed. Returns whether it is stored."""

    async def get(self, kind: str, record_id: str) -> Record | None:
        """Returns a record, or None if there is none. Any text is safe as an id."""

    async def all(self, kind: str) -> list[tuple[str, Record]]:
        """Returns all ids and records of a kind, in no particular order."""

    async def remove(self, kind: str, record_id: str) -> bool:
        """Removes a record. Returns whether it existed."""

    async def expired_sessions(self, now: float) -> Mapping[str, float]:
        """Returns the ids of session records that have expired, each with its time of expiry.

        The conversation of such a session may still be alive.
        """

    async def add_usage(self, entry: LedgerEntry) -> None:
        """Adds to the numbers of the entry's conversation and day."""

    async def usage(self, conversation_id: str | None = None) -> Sequence[LedgerEntry]:
        """Returns the entries of one conversation, or of all, oldest day first."""

    async def move_usage(self, conversation_id: str, target: str) -> None:
        """Adds the numbers of a conversation to those of another one, and removes them."""

    async def add_sent(self, sent: SentRequest) -> None:
        """Records a request, and removes the oldest of its conversation if there are too many."""

    async def sent(self, conversation_id: str) -> Sequence[SentRequest]:
        """Returns the recorded requests of a conversation, oldest first."""

    async def forget(self, conversation_ids: Collection[str]) -> None:
        """Removes the sessions and requests of these conversations, and moves their usage to FORGOTTEN."""

    async def adopt(
        self, usage: Sequence[LedgerEntry], sent: Sequence[SentRequest], records: Mapping[str, Mapping[str, Record]]
    ) -> None:
        """Takes over the contents of another store, and replaces nothing that is here.

        Args:
            usage: Entries. Of one that is here too, each number is the greater of the two.
            sent: Requests, those of a conversation in order. Ignored if the conversation has some here.
            records: By kind and id.
        """

    async def close(self) -> None:
        """Closes connections. The next use opens them again."""
