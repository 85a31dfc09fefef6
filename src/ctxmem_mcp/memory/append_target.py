"""Where turns are appended, and what an append did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctxmem_mcp.models import NewTurn, Source, Turn
from ctxmem_mcp.stores.records import State
from ctxmem_mcp.stores.tombstones import ForgetGuard


@dataclass(frozen=True, slots=True)
class AppendTarget:
    """Where to append.

    Attributes:
        after: The id of the turn before; if None, the head if on_head, else the start.
        since: How many tombstone records there were when the turns were said, at the latest when the call began. A
            younger one of this conversation refuses them.
        source: Where the turns come from; None: one turn is appended as it is said.
        is_found: The conversation was found, or created, by its turns: the caller did not name it.
        moves_head: The last turn becomes the head. If not, an existing head stays.
        stored_at: When the turns were stored elsewhere, which they are kept from; None: now.
        may_shorten_retention: Fewer `retention_days` than those of the conversation may be set.
    """

    conversation_id: str
    after: str | None = None
    on_head: bool = True
    retention_days: int | None = None
    space: str | None = None
    since: int = 0
    source: Source | None = None
    is_found: bool = False
    moves_head: bool = True
    stored_at: float | None = None
    may_shorten_retention: bool = True

    def guard(self, turns: Sequence[NewTurn], start: int, known: int, digests: Sequence[bytes]) -> ForgetGuard:
        """Returns what the turns must not bring back, if they follow turn `start` and `known` of them are stored."""
        is_beginning = not start and self.source not in (None, Source.EVENTS)
        return ForgetGuard(
            self.since,
            is_recording=self.source in (Source.TRANSCRIPT, Source.EVENTS),
            beginning=turns if is_beginning else (),
            known=known,
            has_id=not self.is_found,
            new_digests=digests[known:],
            may_repeat=self.source is None,
            follows_head=self.source is Source.EVENTS or (self.source is None and self.after is None),
        )


@dataclass(frozen=True, slots=True)
class AppendOutcome:
    """What an append did.

    Attributes:
        before, after: the states of the conversation.
        start: id of the turn before the first one; None at the start of the conversation.
        known: seqs of the first turns, which were stored before.
        turns: the others, as they were stored.
        closed: ids of the nodes that they have closed; of several turns only if they were indexed at once.
    """

    before: State
    after: State
    start: str | None
    known: list[int]
    turns: Sequence[Turn] = ()
    closed: Sequence[str] = ()
    forked: bool = False
