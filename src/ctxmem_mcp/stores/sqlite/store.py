"""The SQLite store: one file per conversation, opened when it is asked for, closed when others need the room.

data_dir/catalog.db                      a cache, rebuilt when it is gone
data_dir/conversations/NAME.ctxmem       one conversation: copy it, mail it, delete it
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.errors import CtxmemError, HeadMoved, UnknownConversation
from ctxmem_mcp.models import Node, Piece, Receipt, Summary, Turn
from ctxmem_mcp.stores.base import CallRefusal, Commit, ModelCall, Page, SpendLimits, State, TermHits, page_of
from ctxmem_mcp.stores.sqlite import commits, file_lifecycle, model_calls, queries
from ctxmem_mcp.stores.sqlite.catalog import Catalog, inode_of, unusable
from ctxmem_mcp.stores.sqlite.compression import Bodies
from ctxmem_mcp.stores.sqlite.connection import Connection, Durability, connected, opener
from ctxmem_mcp.stores.sqlite.file_open import close_under_lock, closed, nobody_removes, open_checked
from ctxmem_mcp.stores.sqlite.schema import migrate

log = logging.getLogger(__name__)
T = TypeVar("T")

# Each open file costs a thread and up to 3 MB of cache and dictionary.
FILES_OPEN_MAX = 16


@dataclass(slots=True)
class _Open:
    """A conversation's open file. inode: which file it was when it was opened."""

    connection: Connection
    path: Path
    inode: int
    bodies: Bodies = field(default_factory=Bodies)
    summaries: queries.Summaries = field(default_factory=queries.Summaries)
    users: int = 0

    def rewritten(self, work: Callable[[sqlite3.Connection], T], db: sqlite3.Connection) -> T:
        """Does something to summaries; those read before may be others now."""
        try:
            return work(db)
        finally:
            self.summaries.clear()

    def is_current(self) -> bool:
        """Whether the path still leads to this file, and not to nothing or to one made since."""
        return inode_of(self.path) == self.inode


class SqliteStore:
    """Keeps conversations in files under `data_dir`. Implements stores.contract.Store.

    durability: "full" waits for the disk at each commit; "normal" may lose the last commits to a power cut (never to
    a killed process), and is faster.
    """

    def __init__(self, data_dir: Path, *, durability: Durability = "full") -> None:
        self._catalog = Catalog(data_dir)
        self._durability: Durability = durability
        self._files: OrderedDict[str, _Open] = OrderedDict()
        self._opening = anyio.Lock()
        # Files made by a commit under way and still empty: our own sweep leaves them alone.
        self._begun: set[Path] = set()

    # ------------------------------------------------------------ the contract

    async def load(self, conversation_id: str, now: float) -> State | None:
        with contextlib.suppress(UnknownConversation):
            return await self._ask(conversation_id, partial(queries.state, conversation_id=conversation_id, now=now))
        return None

    async def commit(self, commit: Commit, now: float) -> None:
        conversation_id = commit.state.conversation_id
        begun = {self._catalog.path_of(conversation_id)} if commit.state.version == 1 else set[Path]()
        self._begun |= begun
        try:
            if begun:
                await self._make(conversation_id, now)
            async with self._using(conversation_id) as file:
                await file.connection.run(partial(commits.write, commit=commit, bodies=file.bodies, now=now))
        except UnknownConversation:
            raise HeadMoved(conversation_id) from None
        finally:
            self._begun -= begun

    async def turns(self, conversation_id: str, seqs: Sequence[int], *, metadata_only: bool = False) -> list[Turn]:
        async with self._using(conversation_id) as file:
            return await file.connection.run(
                partial(queries.turns, seqs=seqs, bodies=file.bodies, metadata_only=metadata_only)
            )

    async def digests(self, conversation_id: str, first_seq: int, last_seq: int) -> list[bytes]:
        return await self._ask(conversation_id, partial(queries.digests, first_seq=first_seq, last_seq=last_seq))

    async def nodes(self, conversation_id: str, digests: Sequence[bytes]) -> dict[bytes, Node]:
        return await self._ask(conversation_id, partial(queries.nodes, wanted=digests))

    async def closings(self, conversation_id: str, first_seq: int, last_seq: int) -> list[tuple[int, Node]]:
        return await self._ask(conversation_id, partial(queries.closings, first_seq=first_seq, last_seq=last_seq))

    async def nodes_over(self, conversation_id: str, first: int, last: int) -> list[tuple[int, Node]]:
        return await self._ask(conversation_id, partial(queries.nodes_over, first=first, last=last))

    async def summaries(self, conversation_id: str, digests: Sequence[bytes]) -> Mapping[bytes, list[Summary]]:
        async with self._using(conversation_id) as file:
            read = partial(queries.summaries, wanted=digests, bodies=file.bodies, known=file.summaries)
            return await file.connection.run(read)

    async def add_summary(self, conversation_id: str, digest: bytes, summary: Summary, now: float) -> None:
        async with self._using(conversation_id) as file:
            work = partial(commits.write_summary, conversation_id, digest, summary, file.bodies, now)
            await file.connection.run(partial(file.rewritten, work))

    async def begin_call(
        self, conversation_id: str, call: ModelCall, caps: SpendLimits, now: float
    ) -> ModelCall | CallRefusal:
        async with self._using(conversation_id) as file:
            begin = partial(model_calls.begin, conversation_id, call, caps, now)
            with anyio.CancelScope(shield=True):  # what is set aside in one file is set aside in both
                begun = await file.connection.run(begin)
                if isinstance(begun, CallRefusal):
                    return begun
                spend = partial(model_calls.set_aside, self._catalog, begun, caps.tokens_per_day)
                if not await self._catalog.exclusively(spend):
                    await file.connection.run(partial(model_calls.end, conversation_id, begun, None, file.bodies, now))
                    begun = CallRefusal.DAY_LIMIT
        return begun

    async def end_call(self, conversation_id: str, call: ModelCall, summary: Summary | None, now: float) -> None:
        async with self._using(conversation_id) as file:
            with anyio.CancelScope(shield=True):
                work = partial(model_calls.end, conversation_id, call, summary, file.bodies, now)
                if more := await file.connection.run(partial(file.rewritten, work)):
                    await self._catalog.exclusively(partial(model_calls.settle, call.day, more))

    async def model_calls(self, conversation_id: str) -> list[ModelCall]:
        return await self._ask(conversation_id, model_calls.of)

    async def spent(self, day: int) -> int:
        return await self._catalog.exclusively(partial(model_calls.spent, self._catalog, day))

    async def pieces(self, conversation_id: str, ids: Sequence[int]) -> dict[int, Piece]:
        return await self._ask(conversation_id, partial(queries.pieces, ids=ids))

    async def pieces_of(self, conversation_id: str, seqs: Sequence[int]) -> dict[int, list[Piece]]:
        return await self._ask(conversation_id, partial(queries.pieces_of, seqs=seqs))

    async def vectors(self, conversation_id: str, ids: Sequence[int]) -> dict[int, bytes]:
        return await self._ask(conversation_id, partial(queries.vectors, ids=ids))

    async def term_hits(self, conversation_id: str, terms: Sequence[str], cap: int) -> Mapping[str, TermHits]:
        return await self._ask(conversation_id, partial(queries.term_hits, wanted=terms, cap=cap))

    async def find(self, root: bytes, now: float) -> list[str]:
        return await self._catalog.run(lambda db: self._catalog.with_root(db, root, now))

    async def conversations(
        self, now: float, space: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> Page:
        return page_of(await self._catalog.run(lambda db: self._catalog.infos(db, now, space)), limit, cursor)

    async def forget(self, conversation_id: str) -> Receipt:
        await self._drop(conversation_id)
        path = self._catalog.path_of(conversation_id)
        receipt = await self._catalog.exclusively(
            lambda db: file_lifecycle.forget(self._catalog, db, conversation_id, path, None)
        )
        if receipt is None:
            raise UnknownConversation(conversation_id)
        return await self._catalog.run(lambda db: file_lifecycle.checked(self._catalog, db, receipt, path))

    async def sweep(self, now: float) -> list[str]:
        swept = []
        for conversation_id in await self._catalog.run(lambda db: self._catalog.expired(db, now)):
            await self._drop(conversation_id)
            path = self._catalog.path_of(conversation_id)
            try:
                if await self._catalog.exclusively(partial(self._sweep_one, conversation_id, path, now)):
                    swept.append(conversation_id)
            except (CtxmemError, OSError) as error:  # the others' time is over too
                log.warning("%s has expired and is still there: %s", path, error)
        for path in set(await self._catalog.run(self._catalog.remains)) - self._begun:
            with contextlib.suppress(CtxmemError, OSError):  # what is not ours, or can't be read, is left alone
                await self._catalog.exclusively(partial(self._sweep_one, "", path, now))
        await self._catalog.exclusively(lambda _: file_lifecycle.clear_unfinished(self._catalog.folder))
        return swept

    def _sweep_one(self, conversation_id: str, path: Path, now: float, db: sqlite3.Connection) -> Receipt | None:
        return file_lifecycle.forget(self._catalog, db, conversation_id, path, now)

    def prevent_reopening(self) -> None:
        """From here on nothing is opened: nobody would tell its thread to end, and the process would wait for it."""
        self._catalog.prevent_reopening()

    async def close(self) -> None:
        for conversation_id in list(self._files):
            await self._drop(conversation_id)
        await self._catalog.close()

    # ------------------------------------------------------------ files

    async def _ask(self, conversation_id: str, work: Callable[[sqlite3.Connection], T]) -> T:
        async with self._using(conversation_id) as file:
            return await file.connection.run(work)

    @contextlib.asynccontextmanager
    async def _using(self, conversation_id: str) -> AsyncIterator[_Open]:
        """The conversation's file, kept open while it is in use."""
        file = self._files.get(conversation_id)
        if file is None or not file.is_current():
            file = await self._opened(conversation_id)
        self._files.move_to_end(conversation_id)
        file.users += 1
        try:
            yield file
        finally:
            file.users -= 1

    async def _opened(self, conversation_id: str) -> _Open:
        async with self._opening:
            file = self._files.get(conversation_id)
            if file is None or not file.is_current():
                return await run_to_completion(self._opened_anew(conversation_id))
            return file

    async def _opened_anew(self, conversation_id: str) -> _Open:
        await self._drop(conversation_id)
        await self._close_idle()
        file = self._files[conversation_id] = await self._open(conversation_id)
        return file

    async def _open(self, conversation_id: str) -> _Open:
        path = self._catalog.path_of(conversation_id)
        try:
            inode = os.stat(path).st_ino
            await self._catalog.ready()
            connection = await connected(partial(self._opened_file, path))
        except FileNotFoundError:
            raise UnknownConversation(conversation_id) from None
        except OSError as error:
            raise unusable(path.parent.parent, error) from error
        return _Open(connection, path, inode)

    def _opened_file(self, path: Path) -> sqlite3.Connection:
        with nobody_removes(self._catalog.path):
            db = open_checked(path, opener(path, self._durability))  # nobody unlinks it between the look and this
            try:
                migrate(db)
            except BaseException:
                db.close()
                closed(path)
                raise
            return db

    async def _close_idle(self) -> None:
        """Makes room for one more."""
        idle = [name for name, file in self._files.items() if not file.users]
        for name in idle[: max(0, len(self._files) + 1 - FILES_OPEN_MAX)]:
            await self._drop(name)

    async def _drop(self, conversation_id: str) -> None:
        file = self._files.pop(conversation_id, None)
        if file is not None:
            await run_to_completion(self._close(file))

    async def _close(self, file: _Open) -> None:
        await file.connection.run(partial(close_under_lock, path=file.path, catalog=self._catalog.path))
        await file.connection.close()

    async def _make(self, conversation_id: str, now: float) -> None:
        """Makes the conversation's file where there is none; an expired or forgotten one is removed first."""
        path = self._catalog.path_of(conversation_id)
        await self._drop(conversation_id)
        await self._catalog.exclusively(
            lambda db: file_lifecycle.make_room(self._catalog, db, conversation_id, path, now)
        )
