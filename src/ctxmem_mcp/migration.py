"""Copies all conversations from one store to another: files to a database, or back.

A conversation is built from its turns in the target, as a repair does: same ids, branches, head, times and written
summaries. Then both are compared turn by turn. Conversations that are complete in the target are skipped, so that a
migration which was stopped or killed goes on where it was; one that it left unfinished is removed and copied again.

The source is not changed, except that turns which were not indexed yet are, and that redactions which a killed process
left are finished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from ctxmem_mcp import redaction, usage_ledger
from ctxmem_mcp.composition import database_principals, open_memory, open_store
from ctxmem_mcp.errors import BrokenHistory, CtxmemError, InvalidArgument, StoreUnavailable
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.expiry import ANY_TIME
from ctxmem_mcp.memory.repair import REPAIRED, rebuild
from ctxmem_mcp.models import EXTRACTIVE, Turn
from ctxmem_mcp.private_files import PRINCIPALS, SALT, read_file
from ctxmem_mcp.record_files import SESSIONS, SPACES
from ctxmem_mcp.record_stores import open_record_store
from ctxmem_mcp.record_stores.file_orders import FileOrders
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.extensions import MovableStore
from ctxmem_mcp.stores.records import AGENT, ORIGIN, PROJECT, REDACTED_MARKS, Commit, Salvage, SalvagedSummary, State
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.team.folders import load_or_create_salt
from ctxmem_mcp.team.stores import open_team
from ctxmem_mcp.text.embeddings import Embedder, load_embedder

_EXTRAS = (ORIGIN, REDACTED_MARKS, AGENT, PROJECT, REPAIRED)
# The extra of a copy that is not complete yet.
_UNFINISHED = "migration"
# So many turns are read and compared at once.
_BATCH = 200
_STATE_FIELDS = (
    "head", "next_seq", "turns", "tokens", "title", "space", "salt", "encoding", "retention_days", "updated", "expires",
)  # fmt: skip


@dataclass(slots=True)
class MigrationResult:
    """The conversations of a migration. Those of principals are named PRINCIPAL/ID.

    Attributes:
        copied: Copied and compared turn by turn.
        present: Complete in the target already.
        failed: Not copied, each with the reason.
    """

    copied: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


async def migrate(source: Settings, target: Settings, report: Callable[[str], None]) -> MigrationResult:
    """Copies everything. report: called with the name of each conversation that was copied.

    Raises:
        InvalidArgument: Source and target are the same.
        StoreUnavailable: One of them can't be used, or the target had forgotten conversations before the first
            migration, or a redaction in the source can't be finished.
    """
    if (source.store_url, source.data_dir) == (target.store_url, target.data_dir):
        raise InvalidArgument("TARGET", "is where the conversations are", "Name another folder or database.")
    await _copy_team(source, target)
    result = MigrationResult()
    for principal in await _principals(source):
        await _migrate_principal(_of(source, principal), _of(target, principal), principal, result, report)
    return result


async def _copy_team(source: Settings, target: Settings) -> None:
    """Copies principals, their tokens, spaces and rights; not the audit."""
    old, new = open_team(source), open_team(target)
    try:
        principals = await old.principals()
        spaces = {space: await old.members(space.name) for space in await old.spaces()}
        if principals or spaces:
            await new.adopt(principals, spaces)
    finally:
        await old.close()
        await new.close()


def _of(settings: Settings, principal: str) -> Settings:
    return replace(settings, data_dir=settings.data_dir / PRINCIPALS / principal) if principal else settings


async def _principals(settings: Settings) -> list[str]:
    """Returns the names of the principals' folders, which are also those of their rows; "" is the default one."""
    if settings.store_url is not None:
        return ["", *(name for name in await database_principals(settings) if name)]
    folders = await asyncio.to_thread(lambda: sorted((settings.data_dir / PRINCIPALS).glob(f"*/{SALT}")))
    return ["", *(path.parent.name for path in folders)]


async def _migrate_principal(
    source: Settings, target: Settings, principal: str, result: MigrationResult, report: Callable[[str], None]
) -> None:
    async with open_memory(source, principal=principal, background=False) as memory:
        await _finish_redactions(memory, source, principal)
        await memory.index_all()  # a copy is always indexed, and the two are compared
    old: MovableStore = open_store(source, principal)
    new: MovableStore = open_store(target, principal)
    embedder = load_embedder(source.embeddings)
    try:
        if principal:
            await _copy_salt(source, target, old, new)
        await new.adopt_tombstones(await old.tombstone_records())
        await _copy_records(source, target, principal, partial(_has_forgotten, new, old))
        page = await old.conversations(float("-inf"), limit=2**31)
        result.failed |= page.unreadable
        for conversation_id in sorted(info.conversation_id for info in page.conversations):
            name = f"{principal}/{conversation_id}" if principal else conversation_id
            try:
                if await _copy(old, new, conversation_id, embedder):
                    result.copied.append(name)
                    report(name)
                else:
                    result.present.append(name)
            except CtxmemError as error:
                result.failed[name] = str(error)
    finally:
        await old.close()
        await new.close()


async def _finish_redactions(memory: Memory, source: Settings, principal: str) -> None:
    """Finishes the redactions in progress, which are not copied.

    Raises:
        StoreUnavailable: One can't be finished.
    """
    records = open_record_store(source, principal)
    try:
        for orders in (FileOrders(source.data_dir), records.redactions):
            await redaction.resume(memory, source.data_dir, orders)
            if await orders.all():
                raise StoreUnavailable(
                    "The source has a redaction that is not finished; nothing more was copied.",
                    "Stop the servers and agents that use the source, and run the command again; the log says what "
                    "prevents it.",
                )
    finally:
        await records.close()


async def _has_forgotten(target: Store, source: Store, conversation_id: str) -> bool:
    """Returns whether only the target has forgotten a conversation; if the source has too, it was created again."""
    return await target.is_forgotten(conversation_id) and not await source.is_forgotten(conversation_id)


async def _copy_salt(source: Settings, target: Settings, old: object, new: object) -> None:
    """Copies the principal's salt, which keys the ids of further conversations."""
    from ctxmem_mcp.stores.postgres import PostgresStore

    if isinstance(old, PostgresStore):
        salt = await old.salt()
    else:
        salt = await asyncio.to_thread(read_file, source.data_dir / SALT)
    if isinstance(new, PostgresStore):
        await new.set_salt(salt)
    else:
        await asyncio.to_thread(load_or_create_salt, target.data_dir, salt)


async def _copy_records(
    source: Settings, target: Settings, principal: str, is_forgotten: Callable[[str], Awaitable[bool]]
) -> None:
    """Copies sessions and their groups, and the gateway's usage and requests; what the target has stays.

    is_forgotten: Returns whether the target has forgotten a conversation: then only its cost is copied.
    """
    old, new = open_record_store(source, principal), open_record_store(target, principal)
    try:
        usage = await old.usage()
        records = {kind: dict(await old.all(kind)) for kind in (SESSIONS, SPACES)}
        names = {one.conversation_id for one in usage}
        gone = {name for name in names | set(records[SESSIONS]) if await is_forgotten(name)}
        sent = [one for name in sorted(names - gone) for one in await old.sent(name)]
        for name in gone:
            records[SESSIONS].pop(name, None)
        if usage or any(records.values()):
            await new.adopt(usage_ledger.without_names(usage, gone), sent, records)
    finally:
        await old.close()
        await new.close()


async def _copy(source: Store, target: Store, conversation_id: str, embedder: Embedder | None) -> bool:
    """Copies a conversation. Returns False if the target has it already.

    Raises:
        CtxmemError: It can't be copied, or the target has another one of this id, or has forgotten it.
    """
    state = await source.load(conversation_id, ANY_TIME)
    if state is None:
        return False
    if (there := await target.load(conversation_id, ANY_TIME)) is not None:
        if await _difference(source, state, target, there) is None:
            return False
        await _remove_unfinished(source, state, target, there)
    elif await _has_forgotten(target, source, conversation_id):
        raise InvalidArgument(
            "TARGET",
            f"has forgotten the conversation {conversation_id!r}",
            "Forget it in the source too, or import it there.",
        )
    salvage = await _read(source, state)
    await rebuild(_marking(target), salvage, _empty(state), ExtractiveSummarizer(), embedder)
    for key in _EXTRAS:
        if (value := await source.extra(conversation_id, key)) is not None:
            await target.set_extra(conversation_id, key, value, ANY_TIME)
    await target.set_extra(conversation_id, _UNFINISHED, None, ANY_TIME)
    copied = await target.load(conversation_id, ANY_TIME)
    difference = "it is missing" if copied is None else await _difference(source, state, target, copied)
    if difference is not None:
        raise BrokenHistory(f"The copy of {conversation_id!r} is not equal: {difference}.", "Run the command again.")
    return True


def _empty(state: State) -> State:
    """Returns the conversation's state before its first turn."""
    return replace(
        state, version=0, head=0, next_seq=1, next_piece=1, runs=(), turns=0, tokens=0, words=0, nodes=0, frontier=b"",
        unindexed=(),
    )  # fmt: skip


def _marking(target: Store) -> Store:
    """Returns the store, with a mark on the conversation from its first commit on: it is not complete yet."""

    class Marking:
        def __getattr__(self, name: str) -> Any:
            return getattr(target, name)

        async def commit(self, commit: Commit, now: float) -> None:
            await target.commit(commit, now)
            if commit.state.version == 1:
                await target.set_extra(commit.state.conversation_id, _UNFINISHED, b"1", ANY_TIME)

    return cast("Store", Marking())


async def _remove_unfinished(source: Store, state: State, target: Store, there: State) -> None:
    """Removes the first turns of the conversation, which a killed migration has left.

    Raises:
        InvalidArgument: It is something else.
    """
    last = there.next_seq - 1
    conversation_id = state.conversation_id
    here = await source.digests(conversation_id, 1, min(last, state.next_seq - 1))
    # One that was killed before it could set the mark has made a single commit.
    is_ours = there.version == 1 or await target.extra(conversation_id, _UNFINISHED) is not None
    if not is_ours or last >= state.next_seq or here != await target.digests(conversation_id, 1, last):
        raise InvalidArgument(
            "TARGET", f"has another conversation {conversation_id!r}", "Forget one of the two, or export it."
        )
    await target.sweep({conversation_id: there.expires})


async def _read(source: Store, state: State) -> Salvage:
    """Reads all from which a conversation is built."""
    conversation_id = state.conversation_id
    turns: list[Turn] = []
    for first in range(1, state.next_seq, _BATCH):
        seqs = range(first, min(first + _BATCH, state.next_seq))
        turns += await source.turns(conversation_id, seqs)
    nodes = [node.digest for _, node in await source.closings(conversation_id, 1, state.next_seq - 1)]
    summaries = [
        SalvagedSummary(digest, summary)
        for digest, those in (await source.summaries(conversation_id, nodes)).items()
        for summary in those
        if summary.author != EXTRACTIVE
    ]
    return Salvage.of_undamaged(state, turns, summaries)


async def _difference(source: Store, state: State, target: Store, there: State) -> str | None:
    """Returns how two conversations differ; None if they are equal, turn by turn and node by node."""
    conversation_id, last = state.conversation_id, state.next_seq - 1
    for name in _STATE_FIELDS:
        if getattr(state, name) != getattr(there, name):
            return f"its {name.replace('_', ' ')} is {getattr(there, name)!r} instead of {getattr(state, name)!r}"
    if (turn := await _different_turn(source, state, target)) is not None:
        return f"turn number {turn} differs"
    if not state.unindexed and not there.unindexed:
        closings = await source.closings(conversation_id, 1, last)
        if closings != await target.closings(conversation_id, 1, last):
            return "its tree differs"
        nodes = [node.digest for _, node in closings]
        if dict(await source.summaries(conversation_id, nodes)) != dict(await target.summaries(conversation_id, nodes)):
            return "its summaries differ"
    for key in (*_EXTRAS, _UNFINISHED):
        if await source.extra(conversation_id, key) != await target.extra(conversation_id, key):
            return f"its {key} differs"
    return None


async def _different_turn(source: Store, state: State, target: Store) -> int | None:
    """Returns the number of the first turn that differs, with its content, or is missing in one of the two."""
    for first in range(1, state.next_seq, _BATCH):
        seqs = range(first, min(first + _BATCH, state.next_seq))
        ours = {turn.seq: turn for turn in await source.turns(state.conversation_id, seqs)}
        theirs = {turn.seq: turn for turn in await target.turns(state.conversation_id, seqs)}
        for seq in seqs:
            if ours.get(seq) != theirs.get(seq):
                return seq
    return None
