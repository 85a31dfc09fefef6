"""What every store keeps, and the verbs it answers. Values in, values out; no thinking here.

A store keeps conversations; each has turns in the order they were stored (seq 1, 2, ...), grouped in *runs*:
stretches of turns stored one after the other, each the child of the one before. A branch is a chain of runs,
so a conversation that never forked is one run. The only thing that needs coordination is the head: `commit`
compares the version it was computed from and swaps, in one durable transaction, or raises HeadMoved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import ConversationInfo, Node, Piece, Receipt, Summary, Turn, iso


@dataclass(frozen=True, slots=True)
class Run:
    """Turns first_seq, first_seq + 1, ... up to the next run's first_seq (or the store's last turn).

    parent_seq: the turn the run's first one follows, 0 where it begins the conversation.
    first_piece: the id of its first turn's first piece.
    """

    first_seq: int
    parent_seq: int
    first_index: int
    first_piece: int


@dataclass(frozen=True, slots=True)
class State:
    """All that an append needs to know, read in one go. Small, whatever the conversation's length.

    version: grows by one with each commit. head: seq of the head turn, 0 before the first.
    next_*: what the next turn, piece would get. words: analysed terms over all pieces (for mean length).
    frontier: the open right edge at the head, as memory wrote it (opaque bytes). times: seconds since 1970.
    """

    conversation_id: str
    version: int
    head: int
    next_seq: int
    next_piece: int
    runs: tuple[Run, ...]
    turns: int
    tokens: int
    words: int
    nodes: int
    title: str
    space: str | None
    salt: bytes
    encoding: str
    retention_days: int
    created: float
    updated: float
    expires: float
    frontier: bytes = b""


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """A piece and its analysed terms in order (what the index keeps; never shown).

    vector: what it means, as bytes that a store does not look into; empty where that is not kept.
    """

    piece: Piece
    terms: Sequence[str]
    vector: bytes = b""


@dataclass(frozen=True, slots=True)
class Closing:
    """A node that closed when the turn `closer` (a seq) arrived, with the summary it was born with."""

    node: Node
    closer: int
    summary: Summary


@dataclass(frozen=True, slots=True)
class Commit:
    """One atomic change. `state` is the state afterwards; its version is the expected one plus one."""

    state: State
    turns: Sequence[Turn] = ()
    pieces: Sequence[StoredPiece] = ()
    closings: Sequence[Closing] = ()
    runs: Sequence[Run] = ()  # begun by this commit


@dataclass(frozen=True, slots=True)
class TermHits:
    """Where a term stands. df: pieces that hold it, over the whole store (all branches).

    pieces/positions: parallel, one entry per occurrence, pieces ascending: the piece id, and the place of the
    occurrence among the piece's terms (0, 1, ...). `capped` is true where occurrences were left out because the
    term is too common to read through; then pieces/positions are empty.
    """

    df: int
    pieces: Sequence[int] = ()
    positions: Sequence[int] = ()
    capped: bool = False


class CallRefusal(Enum):
    """Why a call of a model may not begin."""

    BUSY = "another call about this conversation is under way"
    ALREADY_WRITTEN = "somebody wrote a better summary of this node already"
    DAY_LIMIT = "the day's tokens are spent"
    CONVERSATION_LIMIT = "the conversation's tokens are spent"


@dataclass(frozen=True, slots=True)
class SpendLimits:
    """Tokens, in and out, that calls of models may cost, over the whole store in a day (UTC) and for a conversation.

    lost_after_seconds: a call that began so long ago and has not ended never will; its process is gone.
    """

    tokens_per_day: int
    tokens_per_conversation: int
    lost_after_seconds: float


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A call of a model about a node. number: given by the store when it begins. outcome: "" while it is under way;
    until it has ended, its tokens are those set aside for it, and count as spent."""

    digest: bytes
    author: str
    begun: float
    tokens_in: int
    tokens_out: int
    outcome: str = ""
    number: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    @property
    def cost(self) -> int:
        """What it cost, once it has ended: nothing without an outcome."""
        return self.tokens if self.outcome else 0

    @property
    def day(self) -> int:
        """The day it began, in UTC, since 1970."""
        return day_of(self.begun)


# Outcomes of a call: its summary joined the node; its process is gone.
KEPT, LOST = "kept", "lost"


def day_of(now: float) -> int:
    return int(now // 86_400)


@dataclass(frozen=True, slots=True)
class Page:
    conversations: list[ConversationInfo] = field(default_factory=list)
    next_cursor: str | None = None


def branches_of(state: State) -> int:
    """How many branches there are: turns that nothing follows."""
    parents = {run.parent_seq for run in state.runs}
    ends = [run.first_seq - 1 for run in state.runs[1:]] + [state.next_seq - 1]
    return sum(end not in parents for end in ends)


def info_of(state: State, head: str | None, size: int) -> ConversationInfo:
    """A state as a line of a listing. head: the head turn's id; size: bytes kept."""
    return ConversationInfo(
        conversation_id=state.conversation_id,
        title=state.title,
        space=state.space,
        turns=state.turns,
        tokens=state.tokens,
        branches=branches_of(state),
        head=head,
        created_at=iso(state.created),
        last_activity=iso(state.updated),
        expires_at=iso(state.expires),
        retention_days=state.retention_days,
        bytes=size,
    )


def page_of(infos: Iterable[tuple[float, ConversationInfo]], limit: int, cursor: str | None) -> Page:
    """One page of a listing, last active first. Each comes with the instant of its last activity: many are stored
    within one second. A cursor names the last one of the page before."""
    ordered = sorted((-updated, info.conversation_id, info) for updated, info in infos)
    if cursor is not None:
        after = _parsed(cursor)
        ordered = [placed for placed in ordered if placed[:2] > after]
    page = ordered[:limit]
    more = len(ordered) > len(page) and page
    return Page([info for _, _, info in page], f"{-page[-1][0]!r}/{page[-1][1]}" if more else None)


def _parsed(cursor: str) -> tuple[float, str]:
    when, _, conversation_id = cursor.partition("/")
    try:
        return -float(when), conversation_id
    except ValueError:
        raise InvalidArgument("cursor", f"is {cursor!r}", "Take next_cursor from the page before.") from None


class Store(Protocol):
    """Keeps conversations. Every verb may raise StoreUnavailable; those that take a conversation raise
    UnknownConversation where it is not there, has expired or was forgotten.

    `now` is always passed in (seconds since 1970): stores read no clock. A cancelled caller leaves either the
    whole commit or nothing.
    """

    async def load(self, conversation_id: str, now: float) -> State | None:
        """The current state, or None where there is no such (living) conversation. Cheap: one row, few runs."""
        ...

    async def commit(self, commit: Commit, now: float) -> None:
        """Writes all of it durably or nothing. state.version == 1 creates the conversation (an expired file
        that still lies there is swept first). Raises HeadMoved where the stored version is not one less, or is of
        a conversation created at another time: forgotten and begun anew, its versions begin anew too."""
        ...

    async def turns(self, conversation_id: str, seqs: Sequence[int], *, metadata_only: bool = False) -> list[Turn]:
        """These turns, in the order asked for; batched. Unknown seqs are left out. metadata_only: everything but their
        content (which is then ''), for layout and ranking; costs a fraction."""
        ...

    async def digests(self, conversation_id: str, first_seq: int, last_seq: int) -> list[bytes]:
        """Digests of the turns first_seq..last_seq (both included), without their contents."""
        ...

    async def nodes(self, conversation_id: str, digests: Sequence[bytes]) -> dict[bytes, Node]: ...

    async def closings(self, conversation_id: str, first_seq: int, last_seq: int) -> list[tuple[int, Node]]:
        """(closer, node) of every node closed by the arrival of a turn in first_seq..last_seq, in order."""
        ...

    async def nodes_over(self, conversation_id: str, first: int, last: int) -> list[tuple[int, Node]]:
        """(closer, node) of every closed node whose span is exactly first..last, on whichever branch."""
        ...

    async def summaries(self, conversation_id: str, digests: Sequence[bytes]) -> Mapping[bytes, list[Summary]]:
        """All summaries of these nodes, oldest first (the extractive one is born with the node)."""
        ...

    async def add_summary(self, conversation_id: str, digest: bytes, summary: Summary, now: float) -> None:
        """Joins a summary to a node; one per author, a later one of the same author takes its place."""
        ...

    async def begin_call(
        self, conversation_id: str, call: ModelCall, caps: SpendLimits, now: float
    ) -> ModelCall | CallRefusal:
        """Sets the call's tokens aside, and gives it its number; or says what is in its way. There is one call at a
        time about a conversation, over all processes; calls that were lost are marked so."""
        ...

    async def end_call(self, conversation_id: str, call: ModelCall, summary: Summary | None, now: float) -> None:
        """What a call cost in the end, and its outcome; without one it leaves no trace. The summary it brought joins
        its node in the same transaction, unless somebody else wrote one meanwhile."""
        ...

    async def model_calls(self, conversation_id: str) -> list[ModelCall]:
        """All calls about a conversation's nodes, oldest first."""
        ...

    async def spent(self, day: int) -> int:
        """The tokens that calls begun on this day cost, over all conversations, forgotten ones included."""
        ...

    async def pieces(self, conversation_id: str, ids: Sequence[int]) -> dict[int, Piece]:
        """These pieces' facts, batched."""
        ...

    async def pieces_of(self, conversation_id: str, seqs: Sequence[int]) -> dict[int, list[Piece]]:
        """All pieces of these turns, by seq, in order."""
        ...

    async def vectors(self, conversation_id: str, ids: Sequence[int]) -> dict[int, bytes]:
        """The vectors of these pieces, batched; those that have none are left out."""
        ...

    async def term_hits(self, conversation_id: str, terms: Sequence[str], cap: int) -> Mapping[str, TermHits]:
        """Where each term stands; terms in more than `cap` pieces come back capped, with their df only.
        A term that stands nowhere is left out."""
        ...

    async def find(self, root: bytes, now: float) -> list[str]:
        """Ids of the living conversations that have a first turn with this digest, last active first."""
        ...

    async def conversations(
        self, now: float, space: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> Page:
        """Living conversations, last active first."""
        ...

    async def forget(self, conversation_id: str) -> Receipt:
        """Removes every byte of it and checks that nothing is left."""
        ...

    async def sweep(self, now: float) -> list[str]:
        """Forgets what has expired; gives the ids."""
        ...

    async def close(self) -> None: ...
