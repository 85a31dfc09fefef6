"""The SQLite store: one file per conversation, opened on first use and closed when others need its place.

data_dir/catalog.db                      a cache, rebuilt if it is missing
data_dir/search.db                       the index over all conversations, rebuilt if it is missing
data_dir/tombstones                      keeps forgotten conversations from being stored again
data_dir/conversations/NAME.ctxmem       one conversation: copy it, mail it, delete it
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from ctxmem_mcp.errors import (
    CtxmemError,
    HeadMoved,
    StoreReadOnly,
    UnknownConversation,
)
from ctxmem_mcp.models import NewTurn, Summary, Turn
from ctxmem_mcp.projects import Project
from ctxmem_mcp.results import ConversationInfo, ConversationPage, Receipt
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.listing import paginate
from ctxmem_mcp.stores.records import (
    DENSE_GENERATION,
    REDACTED_MARKS,
    BlockHits,
    CallRefusal,
    Commit,
    ModelCall,
    Salvage,
    SpendLimits,
    State,
    TermHits,
)
from ctxmem_mcp.stores.sqlite import commits, file_lifecycle, file_repair, model_calls, queries, term_index
from ctxmem_mcp.stores.sqlite.catalog import Catalog
from ctxmem_mcp.stores.sqlite.connection import Durability
from ctxmem_mcp.stores.sqlite.conversation_files import with_side_files
from ctxmem_mcp.stores.sqlite.conversation_reads import ConversationReads
from ctxmem_mcp.stores.sqlite.folder_check import find_damaged
from ctxmem_mcp.stores.sqlite.open_files import OpenFiles
from ctxmem_mcp.stores.sqlite.replacement import replace_conversation
from ctxmem_mcp.stores.sqlite.search_reader import find_blocks
from ctxmem_mcp.stores.sqlite.tombstone_file import FILE as TOMBSTONES
from ctxmem_mcp.stores.sqlite.tombstone_file import TombstoneFile
from ctxmem_mcp.stores.tombstone_reads import TombstoneReads
from ctxmem_mcp.stores.tombstones import (
    ForgetGuard,
    RedactedTurn,
    RemovedBranch,
    TombstoneRecords,
    Tombstones,
    decode_marks,
)

log = logging.getLogger(__name__)
T = TypeVar("T")


class SqliteStore(ConversationReads, TombstoneReads):
    """Holds conversations in files under `data_dir`. Implements `ctxmem_mcp.stores.base.Store`."""

    def __init__(self, data_dir: Path, *, durability: Durability = "full") -> None:
        """Opens nothing yet: files are opened on first use.

        Args:
            data_dir: Created if it is missing.
            durability: "full" waits for the disk at each commit. "normal" is faster and may lose the last commits to a
                power failure (never to a killed process).
        """
        self._catalog = Catalog(data_dir)
        self._tombstones = TombstoneFile(self._catalog.folder.parent / TOMBSTONES)
        self._durability: Durability = durability
        self._files = OpenFiles(self._catalog, durability)
        # Files created by a commit in progress and still empty: this store's own sweep leaves them alone.
        self._creating: set[Path] = set()

    # ------------------------------------------------------------ the contract

    async def load(self, conversation_id: str, now: float) -> State | None:
        with contextlib.suppress(UnknownConversation):
            return await self._run(conversation_id, partial(queries.state, conversation_id=conversation_id, now=now))
        return None

    async def commit(self, commit: Commit, now: float) -> None:
        conversation_id = commit.state.conversation_id
        creating = {self._catalog.path_of(conversation_id)} if commit.state.version == 1 else set[Path]()
        self._creating |= creating
        try:
            if creating:
                await self._create_file(conversation_id, commit.guard)
            async with self._files.use(conversation_id, write=True) as file:
                await file.connection.run(partial(commits.write, commit=commit, compression=file.compression, now=now))
        except UnknownConversation:
            raise HeadMoved(conversation_id) from None
        finally:
            self._creating -= creating

    async def turns(self, conversation_id: str, seqs: Sequence[int], *, metadata_only: bool = False) -> list[Turn]:
        async with self._files.use(conversation_id) as file:
            read = partial(queries.turns, seqs=seqs, compression=file.compression, metadata_only=metadata_only)
            return await file.connection.run(read)

    async def summaries(self, conversation_id: str, digests: Sequence[bytes]) -> Mapping[bytes, list[Summary]]:
        async with self._files.use(conversation_id) as file:
            read = partial(queries.summaries, digests=digests, compression=file.compression, cache=file.summaries)
            return await file.connection.run(read)

    async def term_hits(self, conversation_id: str, terms: Sequence[str], cap: int) -> Mapping[str, TermHits]:
        async with self._files.use(conversation_id) as file:
            return await file.connection.run(partial(term_index.hits, terms=terms, cap=cap, cache=file.terms))

    async def add_summary(self, conversation_id: str, digest: bytes, summary: Summary, now: float) -> None:
        async with self._files.use(conversation_id, write=True) as file:
            work = partial(commits.add_summary, conversation_id, digest, summary, file.compression, now)
            await file.connection.run(partial(file.write_summaries, work))

    async def begin_call(
        self, conversation_id: str, call: ModelCall, limits: SpendLimits, now: float
    ) -> ModelCall | CallRefusal:
        async with self._files.use(conversation_id, write=True) as file:
            begin = partial(model_calls.begin, conversation_id, call, limits, now)
            with anyio.CancelScope(shield=True):  # tokens reserved in the file are reserved in the catalog too
                begun = await file.connection.run(begin)
                if isinstance(begun, CallRefusal):
                    return begun
                reserve = partial(model_calls.reserve, self._catalog, begun, limits.tokens_per_day)
                if not await self._catalog.run_locked(reserve):
                    undo = partial(model_calls.end, conversation_id, begun, None, file.compression, now)
                    await file.connection.run(undo)
                    return CallRefusal.DAY_LIMIT
        return begun

    async def end_call(self, conversation_id: str, call: ModelCall, summary: Summary | None, now: float) -> None:
        async with self._files.use(conversation_id, write=True) as file:
            with anyio.CancelScope(shield=True):
                work = partial(model_calls.end, conversation_id, call, summary, file.compression, now)
                if difference := await file.connection.run(partial(file.write_summaries, work)):
                    await self._catalog.run_locked(partial(model_calls.adjust, call.day, difference))

    async def spent(self, day: int) -> int:
        return await self._catalog.run(partial(model_calls.spent, self._catalog, day))

    async def replace_vectors(
        self, conversation_id: str, created: float, old: bytes, vectors: Mapping[int, bytes]
    ) -> None:
        async with self._files.use(conversation_id, write=True) as file:
            await file.connection.run(partial(commits.replace_vectors, created, old, vectors))

    async def dense_generation(self, conversation_id: str) -> bytes:
        if known := await self.extra(conversation_id, DENSE_GENERATION):
            return known
        async with self._files.use(conversation_id, write=True) as file:
            return await file.connection.run(commits.begin_dense_generation)

    async def add_dense_vectors(self, conversation_id: str, generation: bytes, vectors: Mapping[int, bytes]) -> None:
        async with self._files.use(conversation_id, write=True) as file:
            await file.connection.run(partial(commits.add_dense_vectors, generation, vectors))

    async def set_extra(self, conversation_id: str, key: str, value: bytes | None, now: float) -> None:
        async with self._files.use(conversation_id, write=True) as file:
            await file.connection.run(partial(commits.set_extra, conversation_id, key, value, now))

    async def term_counts(
        self, conversation_ids: Sequence[str], terms: Sequence[str]
    ) -> Mapping[str, Mapping[str, int] | None]:
        return await self._catalog.run(lambda db: self._catalog.count_terms(db, conversation_ids, terms))

    async def find_blocks(self, terms: Sequence[str], now: float, seconds: float, *, listed: bool = False) -> BlockHits:
        return await self._catalog.run(lambda db: find_blocks(self._catalog, db, terms, now, seconds, listed=listed))

    async def damaged(self, seconds: float) -> dict[str, str]:
        until = time.monotonic() + seconds
        return await self._catalog.run(lambda db: find_damaged(self._catalog.folder, until))

    async def find(self, root: bytes, now: float) -> list[str]:
        return await self._catalog.run(lambda db: self._catalog.find_by_root(db, root, now))

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
        def read(db: sqlite3.Connection) -> tuple[list[tuple[float, ConversationInfo]], dict[str, str]]:
            # Both in one go: a sweep's refresh would clear what this one's found.
            return self._catalog.list_infos(db, now, space, project, listed=listed), dict(self._catalog.unreadable)

        infos, unreadable = await self._catalog.run(read)
        return replace(paginate(infos, limit, cursor), unreadable=unreadable)

    async def forget(self, conversation_id: str) -> Receipt:
        await self._files.close(conversation_id)
        path = self._catalog.path_of(conversation_id)
        receipt = await self._catalog.run_locked(
            partial(self._forget_locked, conversation_id, path),
            removes=True,
        )
        if receipt is None:
            raise UnknownConversation(conversation_id)
        return await self._catalog.run(lambda db: file_lifecycle.verify_removal(self._catalog, db, receipt, path))

    def _forget_locked(self, conversation_id: str, path: Path, db: sqlite3.Connection) -> Receipt | None:
        """Forgets a conversation and stores its tombstone: before, or after if only that makes room for it."""
        without_room: list[list[Sequence[Turn]]] = []

        def bury(branches: Iterable[Sequence[Turn]]) -> None:
            found = list(branches)
            try:
                self._tombstones.bury(conversation_id, found)
            except StoreReadOnly:
                without_room.append(found)

        receipt = file_lifecycle.forget(self._catalog, db, conversation_id, path, bury=bury)
        for branches in without_room[-1:]:
            try:
                self._tombstones.bury(conversation_id, branches)
            except StoreReadOnly as error:  # it is gone all the same
                log.error("Conversation %s may be captured again: %s", conversation_id, error)
        return receipt

    async def _known_tombstones(self) -> Tombstones:
        return self._tombstones.read()

    async def bury(self, conversation_id: str, turns: Sequence[NewTurn]) -> None:
        await self._catalog.run_locked(lambda _: self._tombstones.bury(conversation_id, [turns]))

    async def lift(
        self, conversation_id: str | None, branches: Sequence[Sequence[NewTurn]], digests: Sequence[bytes] = ()
    ) -> None:
        tombstones = self._tombstones
        await self._catalog.run_locked(
            lambda _: tombstones.write(tombstones.read().records_to_lift(conversation_id, branches, digests))
        )

    async def tombstone_records(self) -> TombstoneRecords:
        return await self._catalog.run_locked(lambda _: self._tombstones.records())

    async def adopt_tombstones(self, given: TombstoneRecords) -> None:
        await self._catalog.run_locked(lambda _: self._tombstones.adopt(given))

    async def unindexed(self) -> list[str]:
        return await self._catalog.run(self._catalog.list_unindexed)

    async def expired(self, now: float) -> dict[str, float]:
        return await self._catalog.run(lambda db: self._catalog.list_expired(db, now))

    async def sweep(self, expired: Mapping[str, float]) -> list[str]:
        swept = []
        for conversation_id in sorted(expired):
            await self._files.close(conversation_id)
            path, at = self._catalog.path_of(conversation_id), expired[conversation_id]
            try:
                if await self._catalog.run_locked(
                    partial(self._remove_expired, conversation_id, path, at), removes=True
                ):
                    swept.append(conversation_id)
            except (CtxmemError, OSError) as error:  # the other expired ones are still removed
                log.warning("%s has expired but can't be removed: %s", path, error)
        for path in set(await self._catalog.run(self._catalog.list_orphans)) - self._creating:
            with contextlib.suppress(CtxmemError, OSError):  # files that are not ours or can't be read stay
                await self._catalog.run_locked(partial(self._remove_expired, "", path, None), removes=True)
        await self._catalog.run_locked(lambda _: file_lifecycle.remove_leftovers(self._catalog.folder), removes=True)
        return swept

    async def rebuild(self, conversation_id: str, build: Callable[[Store, Salvage], Awaitable[T]]) -> tuple[T, str]:
        copy = file_repair.unused_name(self._catalog.path_of(conversation_id))
        try:
            return await self._rebuild(conversation_id, copy, build), str(copy)
        except BaseException:
            for file in with_side_files(copy)[:2]:
                file.unlink(missing_ok=True)
            raise

    async def has_damaged_copy(self, conversation_id: str) -> bool:
        path = self._catalog.path_of(conversation_id)
        return bool(await anyio.to_thread.run_sync(file_lifecycle.damaged_copies, path))

    async def remove_branch(
        self, conversation_id: str, branch: RemovedBranch, build: Callable[[Store, Salvage], Awaitable[T]]
    ) -> tuple[T, list[str]]:
        path = self._catalog.path_of(conversation_id)
        warnings: list[str] = []

        def before_swap() -> None:
            warnings[:] = file_lifecycle.hard_link_warnings(path)
            self._tombstones.bury_branch(conversation_id, branch)
            file_lifecycle.remove_damaged_copies(path)

        return await self._rebuild(conversation_id, None, build, before_swap), warnings

    async def redact(
        self,
        conversation_id: str,
        turns: Sequence[RedactedTurn],
        build: Callable[[Store, Salvage], Awaitable[T]],
        titles: Sequence[str] = (),
    ) -> tuple[T, list[str]]:
        path = self._catalog.path_of(conversation_id)
        warnings: list[str] = []
        marks = decode_marks(await self.extra(conversation_id, REDACTED_MARKS))
        await self._catalog.run_locked(lambda _: self._tombstones.reserve())
        known = self._tombstones.read()

        async def build_with_marks(store: Store, salvage: Salvage) -> T:
            done = await build(store, salvage)
            await store.set_extra(conversation_id, REDACTED_MARKS, known.encode_marks(marks, turns), float("-inf"))
            return done

        def before_swap() -> None:
            warnings[:] = file_lifecycle.hard_link_warnings(path)
            self._tombstones.bury_turns(turns, marks, titles)
            file_lifecycle.remove_damaged_copies(path)

        prefix = file_lifecycle.REDACTION_PREFIX
        return await self._rebuild(conversation_id, None, build_with_marks, before_swap, prefix), warnings

    async def remove_unfinished_redactions(self) -> None:
        folder = self._catalog.path.parent
        await anyio.to_thread.run_sync(file_lifecycle.remove_unfinished_redactions, folder)

    async def _rebuild(
        self,
        conversation_id: str,
        copy: Path | None,
        build: Callable[[Store, Salvage], Awaitable[T]],
        before_swap: Callable[[], None] = lambda: None,
        prefix: str = file_lifecycle.REPAIR_PREFIX,
    ) -> T:
        """Replaces a conversation by what `build` stores of a copy of it; see `replace_conversation`."""

        async def build_in(folder: Path, salvaged: Salvage) -> tuple[T, Path]:
            store = SqliteStore(folder, durability=self._durability)
            try:
                return await build(store, salvaged), store._catalog.path_of(conversation_id)
            finally:
                await store.close()

        await self._files.close(conversation_id)
        return await replace_conversation(self._catalog, conversation_id, copy, build_in, before_swap, prefix)

    def _remove_expired(
        self, conversation_id: str, path: Path, expires: float | None, db: sqlite3.Connection
    ) -> Receipt | None:
        return file_lifecycle.remove_expired(self._catalog, db, conversation_id, path, expires)

    async def close(self) -> None:
        """Closes all files. The store opens them again when it is used again, unless `prevent_reopening` was called."""
        await self._files.close_all()
        await self._catalog.close()

    def prevent_reopening(self) -> None:
        """Makes every later attempt to open a file raise StoreUnavailable.

        To be called before the last `close`: nobody would end the thread of a file opened after it, and the process
        would wait for that thread.
        """
        self._catalog.prevent_reopening()

    # ------------------------------------------------------------ files

    async def _run(self, conversation_id: str, work: Callable[[sqlite3.Connection], T]) -> T:
        async with self._files.use(conversation_id) as file:
            return await file.connection.run(work)

    async def _create_file(self, conversation_id: str, guard: ForgetGuard | None) -> None:
        """Creates the conversation's file if there is none; a forgotten one is removed first.

        Raises:
            Forgotten: The guard refuses it. Forgetting takes the same lock, so none can come in between.
        """
        path = self._catalog.path_of(conversation_id)

        def create(db: sqlite3.Connection) -> None:
            self._tombstones.reserve()
            self._tombstones.read().check(conversation_id, guard)
            file_lifecycle.ensure_file(self._catalog, db, conversation_id, path)

        await self._files.close(conversation_id)
        await self._catalog.run_locked(create)
