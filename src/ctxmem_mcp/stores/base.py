"""The store contract: the operations that a store offers. `records` has the values that it takes and returns.

A store holds conversations. The turns of a conversation are numbered in the order in which they were stored (seq 1,
2, ...) and grouped in *runs*: stretches of consecutive turns, each the child of the one before. A branch is a chain of
runs, so a conversation that never forked is one run. Only the head needs coordination: `commit` compares the stored
version with the one that the commit was computed from and swaps, in one durable transaction, or raises HeadMoved.

A store decides nothing: it takes values and returns values. To write one, implement `Store` and run
`ctxmem_mcp.stores.testing.StoreContract` against it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from ctxmem_mcp.models import NewTurn, Node, Piece, Summary, Turn
from ctxmem_mcp.projects import Project
from ctxmem_mcp.results import ConversationPage, Receipt
from ctxmem_mcp.stores.records import CallRefusal, Commit, ModelCall, Salvage, SpendLimits, State, TermHits
from ctxmem_mcp.stores.tombstones import ForgetGuard, RedactedTurn, RemovedBranch

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

    async def branch_roots(self, conversation_id: str, ranges: Sequence[tuple[int, int]]) -> list[Node]:
        """Returns the closed nodes of a branch that have no parent there, in the branch's order.

        Costs a few rows for each of them, however many nodes have closed on the branch: the longest node that begins
        with the first turn, the longest that begins after its end, and so on.

        Args:
            ranges: The turns of the branch, as (first_seq, last_seq), both included, in order. Nodes that other turns
                closed do not count.
        """
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
        *,
        listed: bool = False,
    ) -> ConversationPage:
        """Lists conversations that have not expired, the most recently active first: those whose last turn happened
        last, see `last_happened`.

        Args:
            space: Only those of this space; None for all.
            limit: The most that a page holds.
            cursor: `next_cursor` of the previous page.
            project: Only those of this project; None for all.
            listed: The caller has listed them just now (`unindexed`): what changed since may be missing.

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
            StoreUnavailable: The conversation was changed during the call.
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
            StoreUnavailable: The conversation was changed during the call.
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
