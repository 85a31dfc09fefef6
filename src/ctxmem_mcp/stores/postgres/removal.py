"""Removes conversations, and replaces one by another built from it, each in one transaction, with its tombstone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ctxmem_mcp.errors import StoreUnavailable, UnknownConversation
from ctxmem_mcp.models import EXTRACTIVE, Summary, Turn
from ctxmem_mcp.results import Receipt
from ctxmem_mcp.stores.encoding import parse_summary
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.postgres import commits, model_calls, queries, record_tables
from ctxmem_mcp.stores.postgres.database import Connection, fetch
from ctxmem_mcp.stores.postgres.rows import decompress, to_text
from ctxmem_mcp.stores.postgres.schema import CONVERSATION_TABLES
from ctxmem_mcp.stores.postgres.tombstone_table import TombstoneTable
from ctxmem_mcp.stores.records import (
    DENSE_PREFIX,
    Commit,
    ModelCall,
    Salvage,
    SalvagedSummary,
    State,
    children_of,
)
from ctxmem_mcp.stores.tombstones import BEGINNING_TURNS, Tombstones, first_turns

Key = Mapping[str, object]

_KEY = "principal = %(principal)s AND conversation = %(conversation)s"
COUNTS = f"SELECT turns, nodes, text_bytes, expires FROM conversations WHERE {_KEY} FOR UPDATE"
UNCHANGED = f"""
SELECT 1 FROM conversations WHERE {_KEY} AND version = %(version)s AND created = %(created)s FOR UPDATE
"""
REMOVE = tuple(f"DELETE FROM {table} WHERE {_KEY}" for table in CONVERSATION_TABLES)
_CHECKED = {**dict.fromkeys(CONVERSATION_TABLES, _KEY), **record_tables.CONDITIONS}
REMAINS = " UNION ALL ".join(
    f"(SELECT '{table}' FROM {table} WHERE {condition} LIMIT 1)" for table, condition in _CHECKED.items()
)
EXTRAS = f"SELECT key, value FROM extra WHERE {_KEY}"
WRITTEN = f"SELECT digest, author, codec, body FROM summaries WHERE {_KEY} AND author <> %(author)s ORDER BY place"
NODE_DIGESTS = f"SELECT digest FROM nodes WHERE {_KEY}"
# The sweep of one principal runs in one server at a time.
SWEEP_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('ctxmem sweep ' || %(principal)s, 0))"


async def _first_turns(connection: Connection, key: Key, state: State) -> list[list[Turn]]:
    """Returns the first turns of each branch, as far as tombstones look at them; read in batches."""
    turns: dict[int, Turn] = {}
    children = partial(children_of, state.runs, state.next_seq)
    while True:
        try:
            return list(first_turns(children, turns.__getitem__))
        except KeyError as missing:
            first = missing.args[0]
            seqs = range(first, min(first + BEGINNING_TURNS, state.next_seq))
            turns |= {turn.seq: turn for turn in await queries.turns(connection, key, [*seqs], metadata_only=False)}


async def forget(connection: Connection, key: Key, tombstones: TombstoneTable) -> Receipt | None:
    """Removes a conversation, with its tombstone and the records beside it, inside a transaction.

    Returns None if there is none; then there may have been records.
    """
    known = await tombstones.lock(connection)
    await record_tables.forget(connection, key)
    counts = await fetch(connection, COUNTS, key)
    state = await queries.state(connection, key, float("-inf"))
    if not counts or state is None:
        return None
    branches = await _first_turns(connection, key, state)
    await tombstones.add(connection, known.records_to_set(state.conversation_id, branches))
    await _remove(connection, key)
    turns, nodes, size, _ = counts[0]
    return Receipt(state.conversation_id, turns, nodes, size)


async def verify_removal(connection: Connection, key: Key, receipt: Receipt) -> Receipt:
    """Adds the checks after the removal to a receipt."""
    remains = [table for (table,) in await fetch(connection, REMAINS, key)]
    if remains:  # it was created again since
        return replace(receipt, warnings=[f"a new conversation of this id has rows in {', '.join(remains)}"])
    checked = f"none of the {len(_CHECKED)} tables has a row of it"
    return replace(receipt, checked=[f"{checked}; PostgreSQL's files hold deleted rows until VACUUM FULL"])


async def remove_expired(connection: Connection, key: Key, expires: float) -> bool:
    """Removes a conversation if it still expires at that time, and no other server sweeps."""
    async with connection.transaction():
        ((is_first,),) = await fetch(connection, SWEEP_LOCK, key)
        if not is_first:
            return False
        counts = await fetch(connection, COUNTS, key)
        if not counts or counts[0][3] != expires:
            return False
        await record_tables.forget(connection, key)
        await _remove(connection, key)
    return True


async def _remove(connection: Connection, key: Key) -> None:
    async with connection.pipeline():
        for statement in REMOVE:
            await connection.execute(statement, key)


class RecordingStore(InMemoryStore):
    """An empty store in memory that records its writes, for writing them to the database at once."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[tuple[Commit, float]] = []
        self.summaries_added: list[tuple[bytes, Summary, float]] = []
        self.extras: dict[str, bytes] = {}

    async def commit(self, commit: Commit, now: float) -> None:
        commit = replace(commit, turns=list(commit.turns), pieces=list(commit.pieces), closings=list(commit.closings))
        await super().commit(commit, now)
        self.commits.append((commit, now))

    async def add_summary(self, conversation_id: str, digest: bytes, summary: Summary, now: float) -> None:
        await super().add_summary(conversation_id, digest, summary, now)
        self.summaries_added.append((digest, summary, now))

    async def set_extra(self, conversation_id: str, key: str, value: bytes | None, now: float) -> None:
        await super().set_extra(conversation_id, key, value, now)
        self.extras.pop(key, None)
        if value is not None:
            self.extras[key] = value


@dataclass(frozen=True, slots=True)
class Replacement:
    """The conversation that replaces another.

    Attributes:
        before: The state of the one from which it was built.
        built: The store in which it was built.
        extras: Further extras.
        records: Returns the records to add to the tombstones.
        lacks_branch: Whether it lacks a branch of the other one, not only words that were redacted.
    """

    before: State
    built: RecordingStore
    extras: Mapping[str, bytes]
    records: Callable[[Tombstones], list[bytes]]
    lacks_branch: bool = False


async def read_salvage(connection: Connection, key: Key) -> tuple[State, Salvage]:
    """Reads a whole conversation.

    Raises:
        UnknownConversation: There is no such conversation.
    """
    state = await queries.state(connection, key, float("-inf"))
    if state is None:
        raise UnknownConversation(str(key["conversation"]))
    turns = await queries.turns(connection, key, range(1, state.next_seq), metadata_only=False)
    written = [
        SalvagedSummary(digest, parse_summary(to_text(author) or "", decompress(codec, body, "a summary")))
        for digest, author, codec, body in await fetch(connection, WRITTEN, {**key, "author": EXTRACTIVE.encode()})
    ]
    return state, Salvage.of_undamaged(state, turns, written)


async def replace_conversation(connection: Connection, key: Key, tombstones: TombstoneTable, new: Replacement) -> None:
    """Replaces a conversation, in one transaction. Its model calls and extras are kept.

    Raises:
        StoreUnavailable: It was changed during the call.
    """
    conversation_id = new.before.conversation_id
    async with connection.transaction():
        known = await tombstones.lock(connection)
        version = {"version": new.before.version, "created": new.before.created}
        if not await fetch(connection, UNCHANGED, {**key, **version}):
            raise StoreUnavailable(f"Conversation {conversation_id!r} was changed during this call.", "Try again.")
        calls = await model_calls.calls(connection, key)
        every: dict[str, bytes] = dict(await fetch(connection, EXTRAS, key))
        extras = {name: value for name, value in every.items() if not name.startswith(DENSE_PREFIX)}
        await tombstones.add(connection, new.records(known))
        if new.lacks_branch:
            await record_tables.forget_sent(connection, key)
        await _remove(connection, key)
        for commit, now in new.built.commits:
            await commits.write(connection, str(key["principal"]), commits.encode(commit, now))
        for digest, summary, now in new.built.summaries_added:
            await commits.put_summary(connection, key, digest, summary, now)
        for name, value in {**extras, **new.built.extras, **new.extras}.items():
            await commits.put_extra(connection, key, name, value)
        await _put_calls(connection, key, calls)


async def _put_calls(connection: Connection, key: Key, calls: Sequence[ModelCall]) -> None:
    """Stores calls again; those about nodes that are gone have no node."""
    nodes = {digest for (digest,) in await fetch(connection, NODE_DIGESTS, key)}
    for call in calls:
        await model_calls.add_call(connection, key, call if call.digest in nodes else replace(call, digest=b""))
