"""What all of a memory's methods share: its store, writer and caches, and how they read a conversation."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio

from ctxmem_mcp.agents import OF_OUTPUT
from ctxmem_mcp.errors import Corrupt, CtxmemError, DamagedConversation, HeadMoved, Unavailable, UnknownConversation
from ctxmem_mcp.memory import verify
from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.consistent_read import retry_if_replaced, take_loaded
from ctxmem_mcp.memory.dense_queue import DenseQueue
from ctxmem_mcp.memory.expiry import ANY_TIME, ExpiryWatch
from ctxmem_mcp.memory.id_resolver import IdResolver
from ctxmem_mcp.memory.read_cache import ReadCache, ReadCaches
from ctxmem_mcp.memory.validation import check_retention_days
from ctxmem_mcp.memory.vector_queue import VectorQueue
from ctxmem_mcp.memory.writer import Writer
from ctxmem_mcp.memory.writer_core import Defaults
from ctxmem_mcp.models import RETENTION_DAYS_DEFAULT, Turn
from ctxmem_mcp.results import Conversation
from ctxmem_mcp.retrieval import query
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import SpendLimits, State
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.embeddings import Embedder
from ctxmem_mcp.views import replaced
from ctxmem_mcp.worker_pool import WorkerPool

# A view or a search waits so long for turns that are being indexed; then it shows what is indexed, and says so. Clients
# wait for a minute; a megabyte takes a second or two, and several times that on a busy machine.
INDEX_SECONDS = 20.0

_log = logging.getLogger(__name__)


async def _store_nothing(conversation_id: str) -> None:
    pass


async def _no_usage(conversation_id: str) -> Mapping[str, Any] | None:
    return None


class MemoryCore:
    """A store with all that an open memory needs beside it."""

    def __init__(
        self,
        store: Store,
        summarizer: Summarizer,
        *,
        encoding: str = tokenizer.DEFAULT_ENCODING,
        retention_days: int = RETENTION_DAYS_DEFAULT,
        salt: bytes = b"",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        expiry_watch: ExpiryWatch | None = None,
        on_forgotten: Callable[[list[str]], None] = lambda _: None,
        on_branch_forgotten: Callable[[str, bool], None] = lambda _, __: None,
        redact: Callable[[str], str] | None = None,
        spend_limits: SpendLimits | None = None,
        embedder: Embedder | None = None,
        request_summaries: bool = False,
        usage_of: Callable[[str], Awaitable[Mapping[str, Any] | None]] = _no_usage,
        dense: DenseQueue | None = None,
        workers: WorkerPool | None = None,
        count_pending: Callable[[], int] = lambda: 0,
        store_pending: Callable[[str], Awaitable[None]] = _store_nothing,
        index_later_chars: int | None = None,
    ) -> None:
        """Creates a memory over a store.

        Args:
            store: Closed with the memory.
            summarizer: Writes the first summary of each node.
            encoding: The token encoding of new conversations.
            retention_days: How long conversations are kept after their last append, unless the caller says otherwise.
            salt: Keys every hash of new conversations; one per principal, so that none can probe another's turns.
            clock: Returns seconds since 1970.
            monotonic: Returns seconds that only ever increase.
            expiry_watch: The expired conversations that sweeps of earlier memories over the same store have found.
            on_forgotten: Called with the ids of conversations that were forgotten or have expired.
            on_branch_forgotten: Called with the id of a conversation of which a branch was forgotten, and whether
                the head was on it.
            redact: Removes secrets from a text: from turns before they are hashed, and from written summaries.
            spend_limits: Those of the configured summary model, which `model_usage` reports. Memory itself never calls
                a model.
            embedder: Computes the vectors of new turns and of queries, if ranking uses meaning.
            request_summaries: Views may list nodes that need a better summary.
            usage_of: Returns the gateway's usage of a conversation.
            dense: Computes the vectors of a neural model, if ranking uses one. Closed with the memory.
            workers: Compute what is large, so that the event loop goes on. By default it is computed in the loop.
            index_later_chars: Turns of more characters in one call are stored first and indexed afterwards. By default
                those that are large, if there are workers.
            count_pending: Returns how many captured events are not stored yet, which lists and views state.
            store_pending: Stores a conversation's captured events before it is forgotten.
        """
        self._store, self._summarizer, self._clock, self._on_forgotten = store, summarizer, clock, on_forgotten
        self._on_branch_forgotten = on_branch_forgotten
        self._redact, self._request_summaries = redact, request_summaries
        self._spend_limits, self._embedder, self._usage_of = spend_limits, embedder, usage_of
        defaults = Defaults(salt, encoding, check_retention_days(retention_days) or RETENTION_DAYS_DEFAULT)
        self._encoding = encoding
        self._expiry_watch = expiry_watch or ExpiryWatch(monotonic)
        self._caches = ReadCaches()
        self._monotonic = monotonic
        self._workers, self._count_pending, self._store_pending = workers, count_pending, store_pending
        self._dense = dense
        self._vectors = VectorQueue(store, embedder, workers) if embedder else None
        self._writer = Writer(store, summarizer, defaults, clock, self._vectors, workers, index_later_chars)

    async def verify(self, conversation_id: str) -> list[str]:
        """Reads everything that is stored and recomputes every hash on every branch.

        Returns:
            A sentence for each fault; empty if there is none.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        try:
            await self._index(conversation_id)
            return await self._verify(conversation_id)
        except Corrupt as error:  # not even its state can be read
            return [error.message]

    @retry_if_replaced
    async def lost_turns(self, conversation_id: str) -> list[str]:
        """Returns a sentence for each turn that a repair could not save. `verify` does not count them as faults.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        return await verify.lost_turns(self._store, await self._state(conversation_id))

    @retry_if_replaced
    async def _verify(self, conversation_id: str) -> list[str]:
        return await verify.verify(self._store, await self._state(conversation_id))

    async def _diagnose(self, conversation_id: str, error: Exception) -> None:
        """Raises DamagedConversation if the error has come from damage.

        Every row is checked when it is read, but a row that is missing, or one that leads elsewhere, may end in any
        error where it is used.
        """
        if isinstance(error, HeadMoved):  # less was read than was stored, and nobody has changed it
            raise DamagedConversation(conversation_id, "Rows that were stored are missing.") from error
        if isinstance(error, CtxmemError):
            return
        if faults := await self.verify(conversation_id):
            raise DamagedConversation(conversation_id, faults[0]) from error

    def _drop(self, conversation_id: str) -> None:
        """Drops all that this process holds of a conversation that is forgotten or replaced."""
        self._writer.drop(conversation_id)
        self._writer.indexer.drop(conversation_id)
        self._caches.drop(conversation_id)
        query.clear_cache()
        replaced.clear_cache()
        if self._vectors:
            self._vectors.drop(conversation_id)
        if self._dense:
            self._dense.drop(conversation_id)

    async def _state(self, conversation_id: str) -> State:
        state = await self._store.load(conversation_id, self._clock())
        if state is None and OF_OUTPUT in conversation_id:
            await self._store_pending(conversation_id)  # a hook may have spooled it just now
            await self._follow_session(conversation_id)  # by its own clock it may have expired
            state = await self._store.load(conversation_id, self._clock())
        if state is None:
            self._caches.drop(conversation_id)
            raise UnknownConversation(conversation_id)
        return state

    async def _follow_session(self, conversation_id: str) -> bool:
        """Gives the whole of an output its session's expiry. Returns whether it must live as long as that."""
        try:
            return await self._writer.follow_session(conversation_id)
        except (Corrupt, Unavailable) as error:
            _log.warning("%s can't be given its session's expiry, but is not deleted: %s", conversation_id, error)
            return True

    async def _ids(self, conversation_id: str) -> IdResolver:
        return IdResolver(self._store, await self._state(conversation_id))

    async def _reader(
        self,
        conversation_id: str,
        turn_id: str | None = None,
        *,
        cached: bool = False,
        of_many: bool = False,
        state: State | None = None,
    ) -> BranchReader:
        """Opens the branch up to a turn (default: the head). cached: keep what is read for the next call. of_many: it
        is read beside others, and must not take the place of a conversation that is read again and again. state: the
        conversation's, if it was loaded just now."""
        state = state or await self._state(conversation_id)
        seq = state.head if turn_id is None else await IdResolver(self._store, state).turn_seq(turn_id)
        return self._branch(state, Lineage.of(state.runs, seq), cached=cached, of_many=of_many)

    async def _indexed_reader(
        self,
        conversation_id: str,
        turn_id: str | None = None,
        *,
        cached: bool = False,
        of_many: bool = False,
        seconds: float | None = INDEX_SECONDS,
    ) -> tuple[BranchReader, list[int]]:
        """Opens the branch up to a turn as far as it is indexed, after up to so many seconds (None: without limit) of
        indexing; returns also the seqs of the turns after that."""
        state = take_loaded(conversation_id)
        branch = await self._reader(conversation_id, turn_id, cached=cached, of_many=of_many, state=state)
        if branch.state.unindexed and seconds != 0:
            await self._index(conversation_id, seconds)
            branch = await self._reader(conversation_id, turn_id, cached=cached, of_many=of_many)
        state, lineage = branch.state, branch.lineage
        if lineage.last_seq < state.next_unindexed:
            return branch, []
        seqs = lineage.seqs(0, lineage.length)
        unindexed = [seq for seq in seqs if seq >= state.next_unindexed]
        last = seqs[len(seqs) - len(unindexed) - 1] if len(unindexed) < len(seqs) else 0
        return self._branch(state, Lineage.of(state.runs, last), cached=cached, of_many=of_many), unindexed

    def _branch(self, state: State, lineage: Lineage, *, cached: bool, of_many: bool) -> BranchReader:
        # What is cached must not change: language and flags of a turn that is not indexed yet do.
        cache = self._caches.at(state, of_many=of_many) if cached and not state.unindexed else ReadCache()
        return BranchReader(self._store, state, lineage, self._embedder, cache, self._vectors, self._dense)

    async def index(self, conversation_id: str) -> None:
        """Returns once all stored turns are indexed, so that views and searches have them.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        await self._state(conversation_id)
        await self._index(conversation_id)

    async def index_all(self) -> None:
        """Indexes what processes have stored that ended before they could index it."""
        for conversation_id in await self._store.unindexed():
            await self._index(conversation_id)

    async def _index(self, conversation_id: str, seconds: float | None = None) -> None:
        """Indexes the conversation's turns for at most so many seconds. If that fails, they stay as they are."""
        state = await self._store.load(conversation_id, ANY_TIME)
        if state is None or not state.unindexed:
            return
        with anyio.move_on_after(seconds):
            try:
                await self._writer.indexer.wait(conversation_id)
            except CtxmemError as error:  # the store is read only, say; damage is reported by what reads it
                _log.debug("Turns of %s can't be indexed: %s", conversation_id, error)

    async def _unindexed(self, conversation_ids: Sequence[str]) -> dict[str, str]:
        """Returns how many turns of these conversations are not indexed, in a sentence each."""
        found: dict[str, str] = {}
        for conversation_id in conversation_ids:
            state = await self._store.load(conversation_id, self._clock())
            if state is not None and state.unindexed:
                count = state.next_seq - state.next_unindexed
                found[conversation_id] = f"{count} turns are not indexed yet; their words are not found."
        return found

    async def _turn_at(self, conversation_id: str, seq: int) -> Turn:
        return (await self._turns_at(conversation_id, [seq]))[0]

    async def _turns_at(self, conversation_id: str, seqs: Sequence[int], *, metadata_only: bool = False) -> list[Turn]:
        turns = await self._store.turns(conversation_id, seqs, metadata_only=metadata_only) if seqs else []
        if len(turns) < len(seqs):  # forgotten and restarted in between
            raise HeadMoved(conversation_id)
        return turns


def conversation_of(state: State) -> Conversation:
    """Returns a conversation's title, counts and retention."""
    return Conversation(
        state.conversation_id, state.title, state.space, state.turns, state.tokens, state.nodes, state.encoding,
        state.retention_days, state.created, state.updated, state.expires,
    )  # fmt: skip
