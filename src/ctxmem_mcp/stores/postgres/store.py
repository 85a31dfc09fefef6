"""The PostgreSQL store: the conversations of one principal in a database that any number of servers share.

Nothing is on this process's disk. Every statement names the principal and the conversation, and the connection's
principal limits what any statement can see (see `schema`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from ctxmem_mcp.errors import CtxmemError, InvalidArgument, StoreUnavailable, UnknownConversation
from ctxmem_mcp.models import NewTurn, Summary
from ctxmem_mcp.projects import Project
from ctxmem_mcp.results import Change, ConversationPage, Receipt
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.listing import paginate
from ctxmem_mcp.stores.postgres import catalog, commits, model_calls, queries, removal, term_index
from ctxmem_mcp.stores.postgres.changes import announce
from ctxmem_mcp.stores.postgres.conversation_reads import ConversationReads
from ctxmem_mcp.stores.postgres.database import Connection, Database, shared_database
from ctxmem_mcp.stores.postgres.tombstone_table import SET_SALT, TombstoneTable, read_keys, read_principals
from ctxmem_mcp.stores.records import (
    REDACTED_MARKS,
    BlockHits,
    CallRefusal,
    Commit,
    ModelCall,
    Salvage,
    SpendLimits,
    State,
)
from ctxmem_mcp.stores.tombstone_reads import TombstoneReads
from ctxmem_mcp.stores.tombstones import (
    RedactedTurn,
    RemovedBranch,
    TombstoneRecords,
    Tombstones,
    decode_marks,
)

T = TypeVar("T")

# Commits of more chunks or bytes than these are encoded in a thread: it takes more than a few milliseconds.
PIECES_ENCODED_HERE, BYTES_ENCODED_HERE = 100, 100_000
CONNECTIONS = 8


class PostgresStore(ConversationReads, TombstoneReads):
    """Holds conversations in a PostgreSQL database. Implements `ctxmem_mcp.stores.base.Store`."""

    def __init__(self, url: str, principal: str = "", *, connections: int = CONNECTIONS) -> None:
        """Connects to nothing yet: the first use does, and creates the tables if they are missing.

        Args:
            url: The database, as `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
            principal: Whose conversations these are. Others are invisible.
            connections: The most connections that this process has open at once, for all its stores together.
        """
        self._url, self._principal, self._connections = url, principal, connections
        self._database: Database | None = None
        self._may_open = True
        self._tombstones = TombstoneTable(principal)
        self._stop_watching: list[Callable[[], None]] = []

    # ------------------------------------------------------------ the contract

    async def load(self, conversation_id: str, now: float) -> State | None:
        return await self._run(lambda c: queries.state(c, self._key(conversation_id), now))

    async def commit(self, commit: Commit, now: float) -> None:
        encoded = await self._encode(commit, now)
        change = Change(commit.state.conversation_id, list_changed=commit.state.version == 1)
        attempts = 0

        async def write(connection: Connection) -> None:
            nonlocal attempts
            attempts += 1
            try:
                async with connection.transaction():
                    if commit.state.version == 1:
                        known = await self._tombstones.lock(connection, shared=True)
                        await self._check_creation(connection, known, commit)
                    await commits.write(connection, self._principal, encoded)
            except CtxmemError:
                # The answer of an earlier attempt was lost with its connection, and this one finds what it stored.
                if attempts == 1 or not await commits.was_stored(connection, self._principal, encoded):
                    raise
            await announce(connection, self._principal, change)

        await self._run(write)

    async def _check_creation(self, connection: Connection, known: Tombstones, commit: Commit) -> None:
        """Raises Forgotten if the commit would create a conversation that its guard refuses."""
        if await queries.state(connection, self._key(commit.state.conversation_id), float("-inf")) is None:
            known.check(commit.state.conversation_id, commit.guard)

    async def _encode(self, commit: Commit, now: float) -> commits.EncodedCommit:
        size = 0
        for turn in commit.turns:
            size += len(turn.content)
        if len(commit.pieces) > PIECES_ENCODED_HERE or size > BYTES_ENCODED_HERE:
            return await asyncio.to_thread(commits.encode, commit, now)
        return commits.encode(commit, now)

    async def add_summary(self, conversation_id: str, digest: bytes, summary: Summary, now: float) -> None:
        key = self._key(conversation_id)

        async def add(connection: Connection) -> None:
            await commits.require_node(connection, key, digest, now)
            await commits.put_summary(connection, key, digest, summary, now)

        await self._run_in_transaction(add, Change(conversation_id))

    async def begin_call(
        self, conversation_id: str, call: ModelCall, limits: SpendLimits, now: float
    ) -> ModelCall | CallRefusal:
        key = self._key(conversation_id)
        return await self._run_in_transaction(lambda c: model_calls.begin(c, key, call, limits, now))

    async def end_call(self, conversation_id: str, call: ModelCall, summary: Summary | None, now: float) -> None:
        key = self._key(conversation_id)
        change = None if summary is None else Change(conversation_id)
        await self._run_in_transaction(lambda c: model_calls.end(c, key, call, summary, now), change)

    async def spent(self, day: int) -> int:
        return await self._run(lambda c: model_calls.spent(c, self._principal, day))

    async def replace_vectors(
        self, conversation_id: str, created: float, old: bytes, vectors: Mapping[int, bytes]
    ) -> None:
        key = self._key(conversation_id)

        async def replace_old(connection: Connection) -> None:
            await queries.require(connection, key)
            await commits.replace_vectors(connection, key, created, old, vectors)

        await self._run_in_transaction(replace_old)

    async def dense_generation(self, conversation_id: str) -> bytes:
        key = self._key(conversation_id)
        return await self._run_in_transaction(lambda c: commits.begin_dense_generation(c, key))

    async def add_dense_vectors(self, conversation_id: str, generation: bytes, vectors: Mapping[int, bytes]) -> None:
        key = self._key(conversation_id)
        await self._run_in_transaction(lambda c: commits.add_dense_vectors(c, key, generation, vectors))

    async def set_extra(self, conversation_id: str, key: str, value: bytes | None, now: float) -> None:
        async def put(connection: Connection) -> None:
            await commits.require_live(connection, self._key(conversation_id), now)
            await commits.put_extra(connection, self._key(conversation_id), key, value)

        await self._run_in_transaction(put)

    async def term_counts(
        self, conversation_ids: Sequence[str], terms: Sequence[str]
    ) -> Mapping[str, Mapping[str, int] | None]:
        return await self._run(lambda c: term_index.counts(c, self._principal, conversation_ids, terms))

    async def find_blocks(self, terms: Sequence[str], now: float, seconds: float, *, listed: bool = False) -> BlockHits:
        async def read(connection: Connection) -> BlockHits:
            chunks = await catalog.count_chunks(connection, self._principal, now)
            return await term_index.blocks(connection, self._principal, chunks, terms)

        return await self._run(read)

    async def find(self, root: bytes, now: float) -> list[str]:
        return await self._run(lambda c: catalog.find_by_root(c, self._principal, root, now))

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
        infos = await self._run(lambda c: catalog.list_infos(c, self._principal, now, space, project))
        return paginate(infos, limit, cursor)

    async def forget(self, conversation_id: str) -> Receipt:
        key = self._key(conversation_id)
        receipt: Receipt | None = None

        async def remove(connection: Connection) -> None:
            nonlocal receipt
            # If the answer of an earlier attempt was lost, there is nothing left to remove.
            receipt = await removal.forget(connection, key, self._tombstones) or receipt

        await self._run_in_transaction(remove, Change(conversation_id, list_changed=True))
        if receipt is None:
            raise UnknownConversation(conversation_id)
        removed = receipt
        return await self._run(lambda c: removal.verify_removal(c, key, removed))

    async def remove_branch(
        self, conversation_id: str, branch: RemovedBranch, build: Callable[[Store, Salvage], Awaitable[T]]
    ) -> tuple[T, list[str]]:
        def records(known: Tombstones) -> list[bytes]:
            return known.records_of_branch(conversation_id, branch)

        return await self._rebuild(conversation_id, build, records, lacks_branch=True), []

    async def redact(
        self,
        conversation_id: str,
        turns: Sequence[RedactedTurn],
        build: Callable[[Store, Salvage], Awaitable[T]],
        titles: Sequence[str] = (),
    ) -> tuple[T, list[str]]:
        marks = decode_marks(await self.extra(conversation_id, REDACTED_MARKS))
        known = await self._run(self._tombstones.read)
        extras = {REDACTED_MARKS: known.encode_marks(marks, turns)}

        def records(known: Tombstones) -> list[bytes]:
            return known.records_of_redaction(turns, marks, titles)

        return await self._rebuild(conversation_id, build, records, extras), []

    async def _rebuild(
        self,
        conversation_id: str,
        build: Callable[[Store, Salvage], Awaitable[T]],
        records: Callable[[Tombstones], list[bytes]],
        extras: Mapping[str, bytes] | None = None,
        lacks_branch: bool = False,
    ) -> T:
        """Replaces a conversation by what `build` makes of it."""
        key, built = self._key(conversation_id), removal.RecordingStore()
        before, salvage = await self._run(lambda c: removal.read_salvage(c, key))
        done = await build(built, salvage)
        new = removal.Replacement(before, built, extras or {}, records, lacks_branch)

        async def replace(connection: Connection) -> None:
            await removal.replace_conversation(connection, key, self._tombstones, new)
            await announce(connection, self._principal, Change(conversation_id, list_changed=True))

        await self._run(replace)
        return done

    async def _known_tombstones(self) -> Tombstones:
        return await self._run(self._tombstones.read)

    async def bury(self, conversation_id: str, turns: Sequence[NewTurn]) -> None:
        await self._add_tombstones(lambda known: known.records_to_set(conversation_id, [turns]))

    async def lift(
        self, conversation_id: str | None, branches: Sequence[Sequence[NewTurn]], digests: Sequence[bytes] = ()
    ) -> None:
        await self._add_tombstones(lambda known: known.records_to_lift(conversation_id, branches, digests))

    async def _add_tombstones(self, records: Callable[[Tombstones], list[bytes]]) -> None:
        async def add(connection: Connection) -> None:
            known = await self._tombstones.lock(connection)
            await self._tombstones.add(connection, records(known))

        await self._run_in_transaction(add)

    async def tombstone_records(self) -> TombstoneRecords:
        return await self._run(self._tombstones.records)

    async def adopt_tombstones(self, given: TombstoneRecords) -> None:
        await self._run_in_transaction(lambda c: self._tombstones.adopt(c, given))

    async def unindexed(self) -> list[str]:
        return await self._run(lambda c: catalog.list_unindexed(c, self._principal))

    async def expired(self, now: float) -> dict[str, float]:
        return await self._run(lambda c: catalog.list_expired(c, self._principal, now))

    async def sweep(self, expired: Mapping[str, float]) -> list[str]:
        return [
            conversation_id
            for conversation_id in sorted(expired)
            if await self._run(partial(self._remove_expired, conversation_id, expired[conversation_id]))
        ]

    async def _remove_expired(self, conversation_id: str, expires: float, connection: Connection) -> bool:
        is_removed = await removal.remove_expired(connection, self._key(conversation_id), expires)
        if is_removed:
            await announce(connection, self._principal, Change(conversation_id, list_changed=True))
        return is_removed

    async def watch(self, listener: Callable[[Change], Awaitable[None]]) -> Callable[[], None]:
        """Calls `listener` after each change by any process; see `WatchableStore`."""
        stop = await self._opened_database().changes.watch(self._principal, listener)
        self._stop_watching.append(stop)
        return stop

    async def close(self) -> None:
        """Closes the connections, unless another store uses them. The next use opens them again."""
        database, self._database = self._database, None
        while self._stop_watching:
            self._stop_watching.pop()()
        if database is not None:
            await database.release()

    def prevent_reopening(self) -> None:
        """Makes every use after the next `close` raise StoreUnavailable."""
        self._may_open = False

    async def salt(self) -> bytes:
        """Returns the principal's salt, which keys the ids of its conversations; created once."""
        return (await self._run(lambda c: read_keys(c, self._principal)))[0]

    async def set_salt(self, salt: bytes) -> None:
        """Sets the principal's salt, before it has conversations that are keyed with another one."""

        async def set_it(connection: Connection) -> None:
            await read_keys(connection, self._principal)
            await connection.execute(SET_SALT, {"principal": self._principal, "salt": salt})

        await self._run(set_it)

    async def principals(self) -> list[str]:
        """Returns all principals that have used the database."""
        return await self._run(read_principals)

    # ------------------------------------------------------------ connections

    def _key(self, conversation_id: str) -> dict[str, object]:
        if "\0" in conversation_id:
            raise InvalidArgument("conversation_id", "contains the character U+0000", "Leave it out.")
        return {"principal": self._principal, "conversation": conversation_id}

    def _opened_database(self) -> Database:
        if self._database is None:
            if not self._may_open:
                raise StoreUnavailable("This memory was closed.", "Open a new one.")
            self._database = shared_database(self._url, self._connections)
        return self._database

    async def _read(self, conversation_id: str, query: Callable[[Connection, queries.Key], Awaitable[T]]) -> T:
        return await self._run(lambda c: query(c, self._key(conversation_id)))

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._opened_database().run(self._principal, work)

    async def _run_in_transaction(self, work: Callable[[Connection], Awaitable[T]], change: Change | None = None) -> T:
        """Runs work in one transaction. change: what it changes, which all processes are notified of."""

        async def run(connection: Connection) -> T:
            async with connection.transaction():
                done = await work(connection)
            if change is not None:
                await announce(connection, self._principal, change)
            return done

        return await self._run(run)
