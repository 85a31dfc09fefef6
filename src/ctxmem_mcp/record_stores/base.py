"""The contract of a record store: what is stored beside the conversations of one principal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ctxmem_mcp.sent_requests import SentRequest
    from ctxmem_mcp.usage_ledger import LedgerEntry

Record = dict[str, Any]


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


class RedactionOrders(Protocol):
    """Redactions in progress. Each is recorded before it begins, so that another process can finish it."""

    def lock(self, seconds: float) -> AbstractAsyncContextManager[bool]:
        """Lets one process at a time redact. Yields whether the lock was got within so many seconds."""

    async def add(self, day: str, turns: Mapping[str, Collection[bytes]]) -> RedactionOrder:
        """Records a redaction. It is durable when this returns."""

    async def all(self) -> Sequence[RedactionOrder]:
        """Returns all recorded redactions."""

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
