"""The store contract: the values that a store holds and the operations that it offers.

A store holds conversations. The turns of a conversation are numbered in the order in which they were stored (seq 1,
2, ...) and grouped in *runs*: stretches of consecutive turns, each the child of the one before. A branch is a chain of
runs, so a conversation that never forked is one run. Only the head needs coordination: `commit` compares the stored
version with the one that the commit was computed from and swaps, in one durable transaction, or raises HeadMoved.

A store decides nothing: it takes values and returns values. To write one, implement `Store` and run
`ctxmem_mcp.stores.testing.StoreContract` against it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeVar, runtime_checkable

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import (
    ConversationInfo,
    ConversationPage,
    NewTurn,
    Node,
    Piece,
    Receipt,
    Summary,
    Turn,
    day_of,
    iso,
    parse_iso,
    pickled_by_fields,
)
from ctxmem_mcp.projects import Project
from ctxmem_mcp.stores.tombstones import ForgetGuard, RedactedTurn, RemovedBranch
from ctxmem_mcp.text.media import shown_text


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
        pieces: The chunk id of each occurrence, ascending.
        positions: Parallel to `pieces`: the position of the occurrence among the chunk's terms (0, 1, ...).
        capped: True if the term is too common to read its occurrences; then `pieces` and `positions` are empty.
    """

    df: int
    pieces: Sequence[int] = ()
    positions: Sequence[int] = ()
    capped: bool = False


@dataclass(frozen=True, slots=True)
class BlockHits:
    """Where terms occur in all conversations together. A block is a few adjacent chunks of one conversation.

    Attributes:
        places: For each term, its blocks, as (number of the conversation) << BLOCK_BITS | (id of its first chunk).
        ids: The conversation of each number, the most recently active first.
        blocks: How many blocks there are.
        behind: The conversations that are not in it, or not up to date, most recently active first.
        conversations: How many conversations there are, with those.
        unreadable: The files that can't be read, each with the reason.
    """

    places: Mapping[str, Sequence[int]]
    ids: Mapping[int, str]
    blocks: int
    behind: Sequence[str]
    conversations: int
    unreadable: Mapping[str, str] = field(default_factory=dict)


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


def count_branches(state: State) -> int:
    """The number of branches, which is the number of turns without a child."""
    parents = {run.parent_seq for run in state.runs}
    ends = [run.first_seq - 1 for run in state.runs[1:]] + [state.next_seq - 1]
    return sum(end not in parents for end in ends)


# When the last turn happened is read from this many of the last stored ones: results of tools often have no time.
TIMED_TURNS_MAX = 20


def last_happened(state: State, last_turns: Iterable[tuple[object, object]]) -> float:
    """Returns when the last stored turn happened, in seconds since 1970.

    That is its own time, else that of the nearest turn before it that was stored with it, else when it was stored. A
    turn did not happen after it was stored, whatever its time says.

    Args:
        state: The conversation's state.
        last_turns: `said_at` and `stored_at` of the last stored turns, newest first.
    """
    stored: object = None
    for said_at, stored_at in last_turns:
        stored = stored_at if stored is None else stored
        if stored_at != stored:
            break
        said = parse_iso(said_at) if isinstance(said_at, str) else None
        if said is not None:
            return min(said, state.updated)
    return stored if isinstance(stored, float) and 0.0 < stored < state.updated else state.updated


# The key of `Store.extra` under which an exported conversation's origin is stored, as JSON in UTF-8.
ORIGIN = "origin"
# The key of `Store.extra` with a keyed hash of each redacted turn's content, by the turn's digest.
REDACTED_MARKS = "redacted"
# The key of `Store.extra` under which a conversation's agent is stored, as its id in UTF-8.
AGENT = "agent"
# The key under which the project that it was captured in is stored; see `Project.record`.
PROJECT = "project"
# So much of the agent's last words is listed.
ENDED_CHARS = 160


def find_last_words(last_turns: Iterable[Turn]) -> Turn | None:
    """Returns the last of these turns, newest first, in which the agent speaks; contents are not read."""
    return next((t for t in last_turns if t.role == "assistant" and not t.name and t.call_id is None), None)


def shorten_ending(text: str) -> str:
    """Returns the beginning of the agent's last words on one line, to the end of a sentence if one ends in time."""
    line = " ".join(shown_text(text[: 4 * ENDED_CHARS]).split())
    if len(line) <= ENDED_CHARS:
        return line
    end = max(line.rfind(mark, ENDED_CHARS // 3, ENDED_CHARS) for mark in (". ", "! ", "? "))
    return line[: end + 1] if end > 0 else line[:ENDED_CHARS].rstrip() + "…"


def to_info(
    state: State, head: str | None, size: int, happened: float, agent: bytes | None, ended: str | None
) -> ConversationInfo:
    """A state as an entry of a listing.

    Args:
        state: The conversation's state.
        head: The head turn's id.
        size: The bytes that the conversation takes.
        happened: When its last turn happened, in seconds since 1970.
        agent: What is stored under the key AGENT.
        ended: The agent's last words, if there are any among the last turns.
    """
    return ConversationInfo(
        conversation_id=state.conversation_id,
        title=state.title,
        space=state.space,
        turns=state.turns,
        tokens=state.tokens,
        branches=count_branches(state),
        head=head,
        created_at=iso(state.created),
        last_activity=iso(happened),
        expires_at=iso(state.expires),
        retention_days=state.retention_days,
        bytes=size,
        agent=agent.decode("utf-8", "replace") if agent else None,
        ended=None if ended is None else shorten_ending(ended),
    )


def paginate(infos: Iterable[tuple[float, ConversationInfo]], limit: int, cursor: str | None) -> ConversationPage:
    """One page of a listing, the most recently active first.

    Args:
        infos: Each with the time of its last activity in seconds since 1970, unrounded: many may happen within one
            second, and ConversationInfo rounds to seconds.
        cursor: Names the last entry of the previous page.

    Raises:
        InvalidArgument: The cursor is malformed.
    """
    ordered = sorted((-updated, info.conversation_id, info) for updated, info in infos)
    if cursor is not None:
        after = _parse_cursor(cursor)
        ordered = [entry for entry in ordered if entry[:2] > after]
    page = ordered[:limit]
    more = len(ordered) > len(page) and page
    return ConversationPage([info for _, _, info in page], f"{-page[-1][0]!r}/{page[-1][1]}" if more else None)


def _parse_cursor(cursor: str) -> tuple[float, str]:
    updated, _, conversation_id = cursor.partition("/")
    try:
        return -float(updated), conversation_id
    except ValueError:
        raise InvalidArgument("cursor", f"is {cursor!r}", "Take next_cursor from the previous page.") from None


@dataclass(frozen=True, slots=True)
class SalvagedSummary:
    """A written summary, and the digest of its node."""

    digest: bytes
    summary: Summary


@dataclass(frozen=True, slots=True)
class Salvage:
    """What could be read of a damaged conversation.

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


T = TypeVar("T")


class Store(Protocol):
    """Stores conversations.

    Every operation may raise StoreUnavailable. Those that take a conversation_id raise UnknownConversation if there is
    no such conversation, or if it was forgotten; those that take `now` too also if it has expired by then. Reading
    damaged data raises BrokenHistory.

    `now` is always passed in (seconds since 1970): a store reads no clock. If a caller is cancelled, a commit is stored
    whole or not at all.
    """

    async def load(self, conversation_id: str, now: float) -> State | None:
        """Returns the current state, or None if there is no such conversation or it has expired.

        Cheap: one row and a few runs.
        """
        ...

    async def commit(self, commit: Commit, now: float) -> None:
        """Writes the whole commit durably, or nothing of it.

        A commit whose state.version is 1 creates the conversation. Whether it has expired does not matter: only `sweep`
        removes what has, since a single reading of a clock may be wrong.

        Args:
            now: When summaries that come with the commit were written.

        Raises:
            HeadMoved: The stored version is not state.version - 1, or belongs to a conversation created at another
                time: one that was forgotten and created again counts its versions from the start.
            Forgotten: It would create a conversation that `commit.guard` refuses.
        """
        ...

    async def turns(self, conversation_id: str, seqs: Sequence[int], *, metadata_only: bool = False) -> list[Turn]:
        """Returns these turns in the order of `seqs`, in one batched read. Unknown seqs are left out.

        Args:
            metadata_only: Leave `content` empty. Costs a fraction; enough for layout and ranking.
        """
        ...

    async def digests(self, conversation_id: str, first_seq: int, last_seq: int) -> list[bytes]:
        """Returns the digests of the turns first_seq..last_seq (both included) without reading their contents."""
        ...

    async def nodes(self, conversation_id: str, digests: Sequence[bytes]) -> dict[bytes, Node]:
        """Returns closed nodes by digest. Unknown digests are left out."""
        ...

    async def closings(self, conversation_id: str, first_seq: int, last_seq: int) -> list[tuple[int, Node]]:
        """Returns (closer, node) for every node closed by a turn in first_seq..last_seq, by closer, then by level."""
        ...

    async def nodes_over(self, conversation_id: str, first: int, last: int) -> list[tuple[int, Node]]:
        """Returns (closer, node) for every closed node that spans exactly first..last (indexes), on any branch."""
        ...

    async def summaries(self, conversation_id: str, digests: Sequence[bytes]) -> Mapping[bytes, list[Summary]]:
        """Returns all summaries of these nodes, oldest first; the extractive one is created with the node."""
        ...

    async def add_summary(self, conversation_id: str, digest: bytes, summary: Summary, now: float) -> None:
        """Adds a summary to a node. It replaces an earlier summary by the same author.

        Raises:
            UnknownNode: The conversation has no node with this digest.
        """
        ...

    async def begin_call(
        self, conversation_id: str, call: ModelCall, limits: SpendLimits, now: float
    ) -> ModelCall | CallRefusal:
        """Reserves the call's tokens and assigns its number, or returns why it may not begin.

        At most one call about a conversation is in progress at a time, over all processes. Calls that have not ended
        after limits.lost_after_seconds get the outcome LOST.

        Raises:
            UnknownNode: The conversation has no node with the call's digest.
        """
        ...

    async def end_call(self, conversation_id: str, call: ModelCall, summary: Summary | None, now: float) -> None:
        """Records the cost and the outcome of a call; a call without an outcome leaves no trace.

        In the same transaction `summary` is added to the node, unless somebody else has written one since.
        """
        ...

    async def model_calls(self, conversation_id: str) -> list[ModelCall]:
        """Returns all calls about the conversation's nodes, oldest first."""
        ...

    async def spent(self, day: int) -> int:
        """Returns the tokens of all calls that started on this day (days since 1970, in UTC).

        Calls about conversations that were forgotten since are included.
        """
        ...

    async def pieces(self, conversation_id: str, ids: Sequence[int]) -> dict[int, Piece]:
        """Returns chunks by id, in one batched read. Unknown ids are left out."""
        ...

    async def pieces_of(self, conversation_id: str, seqs: Sequence[int]) -> dict[int, list[Piece]]:
        """Returns all chunks of these turns, by seq, in order."""
        ...

    async def vectors(self, conversation_id: str, ids: Sequence[int]) -> dict[int, bytes]:
        """Returns the vectors of these chunks, in one batched read. Chunks without one are left out."""
        ...

    async def replace_vectors(
        self, conversation_id: str, created: float, old: bytes, vectors: Mapping[int, bytes]
    ) -> None:
        """Replaces the vectors of these chunks, in one transaction. Chunks whose vector is not `old` keep theirs.

        Does nothing if the conversation is not the one created at this time: its chunks have other texts.
        """
        ...

    async def extra(self, conversation_id: str, key: str) -> bytes | None:
        """Returns what `set_extra` stored under the key; None if there is nothing."""
        ...

    async def set_extra(self, conversation_id: str, key: str, value: bytes | None, now: float) -> None:
        """Stores a small fact about the conversation under a key, in place of the one before; None removes it."""
        ...

    async def term_hits(self, conversation_id: str, terms: Sequence[str], cap: int) -> Mapping[str, TermHits]:
        """Returns where each term occurs. Terms that occur nowhere are left out.

        Args:
            cap: Terms in more chunks than this come with their document frequency only.
        """
        ...

    async def term_counts(
        self, conversation_ids: Sequence[str], terms: Sequence[str]
    ) -> Mapping[str, Mapping[str, int] | None]:
        """Returns how many chunks of each of these conversations contain each term, on all branches.

        Cheaper than `term_hits`, which it spares for conversations without the terms: these are left out. One that
        can't be read has None.
        """
        ...

    async def vocabulary(self, conversation_id: str) -> list[str]:
        """Returns the terms of any branch that consist of letters only, in no particular order."""
        ...

    async def check(self, conversation_id: str) -> list[str]:
        """Reads all that is stored of the conversation; returns a sentence for each thing that is damaged."""
        ...

    async def find(self, root: bytes, now: float) -> list[str]:
        """Returns the ids of conversations with a first turn of this digest, the most recently active first.

        Expired conversations are left out.
        """
        ...

    async def conversations(
        self,
        now: float,
        space: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
        project: Project | None = None,
    ) -> ConversationPage:
        """Lists conversations that have not expired, the most recently active first: those whose last turn happened
        last, see `last_happened`.

        Args:
            space: Only those of this space; None for all.
            limit: The most that a page holds.
            cursor: `next_cursor` of the previous page.
            project: Only those of this project; None for all.

        Raises:
            InvalidArgument: The cursor is malformed.
        """
        ...

    async def forget(self, conversation_id: str) -> Receipt:
        """Removes every byte of the conversation and checks that nothing is left.

        Its tombstone is stored before anybody can see that it is gone, and stays for good.
        """
        ...

    async def remove_branch(
        self, conversation_id: str, branch: RemovedBranch, build: Callable[[Store, Salvage], Awaitable[T]]
    ) -> tuple[T, list[str]]:
        """Replaces a conversation by one without a branch, and stores the branch's tombstone.

        Nothing of what is replaced is kept, nor of what earlier repairs kept. Model calls and extras are.

        Args:
            conversation_id: The conversation.
            branch: The branch.
            build: Stores the rest in an empty store. If it fails, nothing is changed.

        Returns:
            Its result, and a sentence for each place where the branch's words may still be.

        Raises:
            UnknownConversation: There is no such conversation.
            StoreUnavailable: The conversation was changed meanwhile.
            StoreReadOnly: There is no room for the tombstone.
        """
        ...

    async def redact(
        self,
        conversation_id: str,
        turns: Sequence[RedactedTurn],
        build: Callable[[Store, Salvage], Awaitable[T]],
        titles: Sequence[str] = (),
    ) -> tuple[T, list[str]]:
        """Replaces a conversation by one in which turns are redacted, and stores the turns' tombstones.

        Nothing of what is replaced is kept, nor of what earlier repairs kept. Model calls and extras are.

        Args:
            conversation_id: The conversation.
            turns: The turns.
            build: Stores the conversation in an empty store. If it fails, nothing is changed.
            titles: Titles that quote the turns, and must not be set again. Read after `build` is done.

        Returns:
            Its result, and a sentence for each place where the turns' words may still be.

        Raises:
            UnknownConversation: There is no such conversation.
            StoreUnavailable: The conversation was changed meanwhile.
            StoreReadOnly: There is no room for the tombstones.
        """
        ...

    async def count_tombstones(self) -> int:
        """Returns how many tombstone records there are, as `ForgetGuard.since` of calls that begin now."""
        ...

    async def check_forgotten(self, conversation_id: str, guard: ForgetGuard) -> None:
        """Checks a write to the conversation, existing or not. Call it after the conversation was loaded.

        Cheap: a few bytes are read.

        Raises:
            Forgotten: It would bring back something forgotten.
        """
        ...

    async def find_redacted(
        self, turns: Sequence[NewTurn], digests: Sequence[bytes], *, at_start: bool
    ) -> Sequence[int]:
        """Returns the indexes of those turns that were redacted, in any conversation, and are sent again.

        Args:
            turns: The turns, each following the one before.
            digests: Their digests.
            at_start: They begin a conversation.
        """
        ...

    async def is_forgotten(self, conversation_id: str) -> bool:
        """Returns whether a conversation with this id was forgotten, and not allowed again since."""
        ...

    async def is_redacted_title(self, title: str) -> bool:
        """Returns whether a conversation had this title, and it quoted a turn that was redacted."""
        ...

    async def bury(self, conversation_id: str, turns: Sequence[NewTurn]) -> None:
        """Adds a tombstone for turns that were sent while their conversation was being forgotten."""
        ...

    async def lift(
        self, conversation_id: str | None, branches: Sequence[Sequence[NewTurn]], digests: Sequence[bytes] = ()
    ) -> None:
        """Allows a forgotten conversation, and those that begin like one of these branches, to be stored again.

        Args:
            conversation_id: The conversation's id, if it is known.
            branches: The turns of each branch.
            digests: The digests of these turns.
        """
        ...

    async def unindexed(self) -> list[str]:
        """Returns the ids of conversations with turns that are not indexed yet, see `State.unindexed`."""
        ...

    async def expired(self, now: float) -> dict[str, float]:
        """Returns the ids of conversations that have expired, each with its time of expiry (seconds since 1970)."""
        ...

    async def sweep(self, expired: Mapping[str, float]) -> list[str]:
        """Removes expired conversations, and what killed processes left.

        Args:
            expired: Their ids, each with the time at which it expired. One whose expiry has changed since is left.

        Returns:
            The ids of those that were removed, in order.
        """
        ...

    async def close(self) -> None:
        """Releases what the store holds open: files, threads, connections."""
        ...


@runtime_checkable
class IndexedStore(Protocol):
    """A store with an index over all its conversations."""

    async def find_blocks(self, terms: Sequence[str], now: float, seconds: float) -> BlockHits:
        """Returns where terms occur, after reading the conversations that changed for at most so many seconds."""
        ...


@runtime_checkable
class RepairableStore(Protocol):
    """A store of files, which may be damaged and rebuilt."""

    async def damaged(self, seconds: float) -> dict[str, str]:
        """Checks the files' structure and state, for at most so many seconds.

        Returns:
            What is wrong with each damaged conversation, by its id; by its file's path, with the remedy, if the id is
            lost or the file is not one of this store.
        """
        ...

    async def rebuild(self, conversation_id: str, build: Callable[[Store, Salvage], Awaitable[T]]) -> tuple[T, str]:
        """Replaces a conversation by one that `build` makes of what can be read of it.

        Args:
            conversation_id: The conversation.
            build: Stores it in an empty store. If it fails, nothing is changed. If it stores nothing, the damaged files
                are moved aside, and there is no such conversation any more.

        Returns:
            Its result, and where the damaged files are kept.

        Raises:
            UnknownConversation: There is no such conversation.
            StoreUnavailable: The conversation was changed meanwhile.
        """
        ...

    async def has_damaged_copy(self, conversation_id: str) -> bool:
        """Whether a repair has kept damaged files of the conversation."""
        ...

    async def remove_unfinished_redactions(self) -> None:
        """Removes what killed processes left of a redaction. No redaction may be running."""
        ...
