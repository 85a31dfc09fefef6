"""The values that a store takes and returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from ctxmem_mcp.models import (
    Node,
    Piece,
    Summary,
    Turn,
    day_of,
    pickled_by_fields,
)
from ctxmem_mcp.stores.tombstones import ForgetGuard


@dataclass(frozen=True, slots=True)
class Run:
    """The turns first_seq, first_seq + 1, ... up to the next run's first_seq, or to the store's last turn.

    Attributes:
        first_seq: The seq of the first turn.
        parent_seq: The turn that the first one follows; 0 if the run begins the conversation.
        first_index: The index of the first turn in its chain.
        first_piece: The id of the first turn's first chunk.
    """

    first_seq: int
    parent_seq: int
    first_index: int
    first_piece: int


@dataclass(frozen=True, slots=True)
class State:
    """All that an append needs to know, in one read. Its size does not grow with the conversation's length.

    Attributes:
        version: Grows by one with each commit.
        head: The seq of the head turn; 0 before the first.
        next_seq: The seq of the next turn.
        next_piece: The id of the next chunk.
        runs: All runs, by first_seq.
        turns: Stored turns, on all branches.
        tokens: Tokens of these turns.
        words: Analysed terms of all chunks, for their mean length.
        nodes: Closed nodes.
        salt: Keys the hashes of turns and nodes.
        encoding: The encoding that tokens are counted in.
        retention_days: Days from the last append to expiry.
        created: When the conversation was created, in seconds since 1970; so are `updated` and `expires`.
        frontier: The open right edge of the tree at the head, as bytes that a store does not interpret.
        unindexed: The first seqs of the batches of turns that are stored but not indexed yet: chunks, nodes, summaries,
            languages and flags follow in a later commit. All turns from the first of them on are such turns.
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
    unindexed: tuple[int, ...] = ()

    @property
    def next_unindexed(self) -> int:
        """The seq of the first turn that is not indexed; that of the next turn if all are."""
        return self.unindexed[0] if self.unindexed else self.next_seq


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class StoredPiece:
    """A chunk, its analysed terms in order (for the index; never shown), and its vector.

    Attributes:
        vector: The chunk's embedding, as bytes that a store does not interpret; empty if it has none.
    """

    piece: Piece
    terms: Sequence[str]
    vector: bytes = b""


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Closing:
    """A node that closed when the turn `closer` (a seq) was stored, and the summary that it was created with."""

    node: Node
    closer: int
    summary: Summary


@dataclass(frozen=True, slots=True)
class Commit:
    """One atomic change.

    Attributes:
        state: The state after the change; its version is the expected stored version plus one.
        runs: The runs that this commit begins, or whose first chunk's id it changes.
        indexed: Turns that were stored before without chunks; their language, flags and chunks are stored now.
        guard: What it must not bring back if it creates the conversation. None: anything may be stored.
    """

    state: State
    turns: Sequence[Turn] = ()
    pieces: Sequence[StoredPiece] = ()
    closings: Sequence[Closing] = ()
    runs: Sequence[Run] = ()
    guard: ForgetGuard | None = None
    indexed: Sequence[Turn] = ()


@dataclass(frozen=True, slots=True)
class TermHits:
    """Where a term occurs.

    Attributes:
        df: Document frequency: how many chunks of the conversation contain the term, on all branches.
        pieces: The chunk id of each occurrence, ascending: a sequence or an array of integers. A store that returns an
            array saves its reader from making one of some thousand numbers.
        positions: Parallel to `pieces`: the position of the occurrence among the chunk's terms (0, 1, ...).
        capped: True if the term is too common to read its occurrences; then `pieces` and `positions` are empty.
    """

    df: int
    pieces: Sequence[int] = ()
    positions: Sequence[int] = ()
    capped: bool = False

    @property
    def chunks(self) -> list[int]:
        """The ids of the chunks, each once, ascending."""
        return sorted(set(map(int, self.pieces)))


@dataclass(frozen=True, slots=True)
class BlockHits:
    """Where terms occur in all conversations together. A block is a few adjacent chunks of one conversation.

    Attributes:
        places: For each term, its blocks, as (number of the conversation) << BLOCK_BITS | (id of its first chunk).
        ids: The conversation of each number, the most recently active first.
        blocks: How many blocks there are.
        behind: The conversations that are not in it yet, or not up to date, most recently active first.
        conversations: How many conversations there are, with those and `left_out`.
        unreadable: The files that can't be read, each with the reason.
        left_out: The conversations that can't be in it as they are, because they are too large or can't be read, most
            recently active first.
    """

    places: Mapping[str, Sequence[int]]
    ids: Mapping[int, str]
    blocks: int
    behind: Sequence[str]
    conversations: int
    unreadable: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[str] = ()


# A block is so many chunks, the first of which has an id 1 + a multiple of their number.
BLOCK_CHUNKS, BLOCK_BITS = 8, 32


def block_of(chunk: int) -> int:
    """Returns the id of the first chunk of the block that a chunk is in."""
    return chunk - (chunk - 1) % BLOCK_CHUNKS


class CallRefusal(Enum):
    """Why a model call may not begin. The values are for log messages."""

    BUSY = "another model call about this conversation is in progress"
    ALREADY_WRITTEN = "the node already has a written summary"
    DAY_LIMIT = "the day's token limit is reached"
    CONVERSATION_LIMIT = "the conversation's token limit is reached"


@dataclass(frozen=True, slots=True)
class SpendLimits:
    """Limits on model calls. Tokens are those of requests and responses together.

    Attributes:
        tokens_per_day: For the whole store, per day in UTC.
        tokens_per_conversation: For one conversation, over its lifetime.
        lost_after_seconds: A call that has not ended after this time never will: its process is gone.
    """

    tokens_per_day: int
    tokens_per_conversation: int
    lost_after_seconds: float


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A call of a model about a node.

    Until it ends, its tokens are the ones reserved for it, and they count as spent.

    Attributes:
        digest: The node's digest; empty if the node was removed with its branch.
        author: The author of the summary that it is for.
        started: Seconds since 1970.
        outcome: Empty while the call is in progress.
        number: Assigned by the store when the call begins.
    """

    digest: bytes
    author: str
    started: float
    tokens_in: int
    tokens_out: int
    outcome: str = ""
    number: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    @property
    def cost(self) -> int:
        """Its tokens once it has ended; 0 without an outcome."""
        return self.tokens if self.outcome else 0

    @property
    def day(self) -> int:
        """The day on which it started: days since 1970, in UTC."""
        return day_of(self.started)


# Outcomes of a call: its summary was added to the node; its process is gone.
KEPT, LOST = "kept", "lost"


def children_of(runs: Sequence[Run], next_seq: int, seq: int) -> list[int]:
    """Returns the seqs of the turns that follow `seq` (0: the first turns of the conversation), oldest first."""
    following = [run.first_seq for run in runs if run.parent_seq == seq]
    if 0 < seq < next_seq - 1 and not any(run.first_seq == seq + 1 for run in runs):
        following.insert(0, seq + 1)
    return following


# The key of `Store.extra` under which an exported conversation's origin is stored, as JSON in UTF-8.
ORIGIN = "origin"


# The key of `Store.extra` with a keyed hash of each redacted turn's content, by the turn's digest.
REDACTED_MARKS = "redacted"


# The key of `Store.extra` under which a conversation's agent is stored, as its id in UTF-8.
AGENT = "agent"


# The key under which the project that it was captured in is stored; see `Project.record`.
PROJECT = "project"
# The keys of extras that hold the generation of the dense vectors, and the vector of a chunk. They do not outlive a
# rebuild of the conversation.
DENSE_PREFIX = "dense:"
DENSE_GENERATION = DENSE_PREFIX + "generation"
GENERATION_BYTES = 8


def dense_key(piece: int) -> str:
    """Returns the key of the extra that holds a chunk's dense vector."""
    return f"{DENSE_PREFIX}{piece}"


@dataclass(frozen=True, slots=True)
class SalvagedSummary:
    """A written summary, and the digest of its node."""

    digest: bytes
    summary: Summary


@dataclass(frozen=True, slots=True)
class Salvage:
    """The readable parts of a conversation, from which it is built again.

    Attributes:
        conversation_id: None if its state is lost.
        forgotten: It was forgotten; nothing of it may be stored again.
        state: The fields of its State but conversation_id and runs, by name; None if they are lost.
        turns: By seq.
        lost: By seq, turns of which only the content is lost.
        runs: By first_seq.
        summaries: The written ones, oldest first.
    """

    conversation_id: str | None
    forgotten: bool
    state: Mapping[str, Any] | None
    turns: Mapping[int, Turn]
    lost: Mapping[int, Turn]
    runs: Mapping[int, Run]
    summaries: Sequence[SalvagedSummary]

    @classmethod
    def of_undamaged(cls, state: State, turns: Iterable[Turn], summaries: Sequence[SalvagedSummary]) -> Salvage:
        """Returns all of a conversation that can be read whole."""
        named = {
            one.name: getattr(state, one.name) for one in fields(state) if one.name not in ("conversation_id", "runs")
        }
        runs = {run.first_seq: run for run in state.runs}
        return cls(state.conversation_id, False, named, {turn.seq: turn for turn in turns}, {}, runs, summaries)
