"""The SQLite and the PostgreSQL store return what the in-memory store does after any sequence of operations, also after
a restart."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Summary
from ctxmem_mcp.results import OutlineNode
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.postgres import PostgresStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing.builders import DAY, NOW
from tests.histories import turns
from tests.postgres_server import new_principal, started_server
from tests.stores.samples import memory_over, sweep

T = TypeVar("T")
NAMES = st.sampled_from(["a", "A", "b"])
QUERIES = ("what failed in limits.py?", "trip to Lisbon 日本語")


class Stores(RuleBasedStateMachine):
    """Applies one history to three memories that differ only in their store."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="ctxmem-"))
        self.now = NOW
        self.transcripts: dict[str, list[NewTurn]] = {}
        self.ids: dict[str, list[str]] = {}
        self.in_memory = memory_over(InMemoryStore(), lambda: self.now)
        self.principal = new_principal()
        self.open_stores()

    def open_stores(self) -> None:
        self.sqlite = memory_over(SqliteStore(self.folder, durability="normal"), lambda: self.now)
        self.postgres = memory_over(PostgresStore(started_server().url, self.principal), lambda: self.now)

    def close_stores(self) -> None:
        self.runner.run(self.sqlite.close())
        self.runner.run(self.postgres.close())

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.close_stores()
            self.runner.close()
            shutil.rmtree(self.folder)

    def all(self, call: Callable[[Memory], Awaitable[T]]) -> T | CtxmemError:
        """Returns the result or the error of a call, which must be the same for all."""

        async def outcome(memory: Memory) -> T | CtxmemError:
            try:
                return await call(memory)
            except CtxmemError as error:
                return error

        theirs = self.runner.run(outcome(self.in_memory))
        for memory in (self.sqlite, self.postgres):
            ours = self.runner.run(outcome(memory))
            if isinstance(theirs, CtxmemError):
                assert (type(ours), str(ours)) == (type(theirs), str(theirs))
            else:
                assert ours == theirs
        return theirs

    def some_id(self, name: str, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(self.ids.get(name) or ["t0-1"]))

    @rule(name=NAMES, added=turns(8))
    def append(self, name: str, added: list[NewTurn]) -> None:
        self.now += 0.25
        for turn in added:
            done = self.all(lambda m, turn=turn: m.append(turn, conversation_id=name))  # type: ignore[misc]
            assert not isinstance(done, CtxmemError)
            self.ids.setdefault(name, []).append(done.turn_id)

    @rule(name=NAMES, added=turns(40), data=st.data())
    def sync(self, name: str, added: list[NewTurn], data: st.DataObject) -> None:
        """Syncs the transcript so far, cut somewhere, with turns added."""
        known = self.transcripts.get(name, [])
        whole = known[: data.draw(st.integers(0, len(known)))] + added
        done = self.all(lambda m: m.sync(whole, conversation_id=name, retention_days=data.draw(st.just(7))))
        if not isinstance(done, CtxmemError):
            self.transcripts[name] = whole
            self.ids.setdefault(name, []).extend(done.turn_ids)

    @rule(name=NAMES, added=turns(3), data=st.data())
    def fork(self, name: str, added: list[NewTurn], data: st.DataObject) -> None:
        parent = self.some_id(name, data)
        done = self.all(lambda m: m.append(added[0], conversation_id=name, parent_id=parent))
        if not isinstance(done, CtxmemError):
            self.ids[name].append(done.turn_id)

    @rule(name=NAMES, data=st.data())
    def revert(self, name: str, data: st.DataObject) -> None:
        to = self.some_id(name, data)
        self.all(lambda m: m.revert(name, to))

    @rule(name=NAMES)
    def forget(self, name: str) -> None:
        receipts = [self.runner.run(self.forget_in(m, name)) for m in (self.sqlite, self.postgres, self.in_memory)]
        assert receipts[0] == receipts[1] == receipts[2]

    async def forget_in(self, memory: Memory, name: str) -> Any:
        try:
            receipt = await memory.forget(name, name)
        except CtxmemError as error:
            return str(error)
        self.ids.pop(name, None), self.transcripts.pop(name, None)
        return receipt.turns, receipt.nodes

    @rule(days=st.sampled_from([1, 8, 31]), sweeps=st.booleans())
    def time_passes(self, days: int, sweeps: bool) -> None:
        self.now += days * DAY
        if sweeps:
            self.all(sweep)

    @rule(name=NAMES, title=st.text(st.characters(codec="utf-8"), max_size=20), data=st.data())
    def write_summary(self, name: str, title: str, data: st.DataObject) -> None:
        outline = self.all(lambda m: m.outline(name))
        closed = [] if isinstance(outline, CtxmemError) else closed_nodes(outline)
        if closed:
            node, author = data.draw(st.sampled_from(closed)), data.draw(st.sampled_from(["agent", "some model"]))
            self.all(lambda m: m.add_summary(name, node, Summary(author, title)))

    @rule()
    def restart(self) -> None:
        self.close_stores()
        self.open_stores()

    @rule()
    def lose_the_catalog(self) -> None:
        self.close_stores()
        (self.folder / "catalog.db").unlink(missing_ok=True)
        self.open_stores()

    @invariant()
    def all_return_the_same(self) -> None:
        if not hasattr(self, "runner"):
            return
        listed = [
            [{**asdict(info), "bytes": 0} for info in self.runner.run(m.conversations()).conversations]
            for m in (self.sqlite, self.postgres, self.in_memory)
        ]
        assert listed[0] == listed[1] == listed[2]
        self.all(lambda m: m.search(QUERIES[0]))
        for info in listed[0]:
            name = info["conversation_id"]
            self.all(lambda m, name=name: m.info(name))  # type: ignore[misc]
            self.all(lambda m, name=name: m._store.load(name, self.now))  # type: ignore[misc]
            self.all(lambda m, name=name: m.outline(name))  # type: ignore[misc]
            self.all(lambda m, name=name: m.branches(name))  # type: ignore[misc]
            for query in (None, *QUERIES):
                self.all(lambda m, name=name, q=query: m.view(name, query=q, token_budget=2_000))  # type: ignore[misc]
            assert self.all(lambda m, name=name: m.verify(name)) == []  # type: ignore[misc]


def closed_nodes(outline: list[OutlineNode]) -> list[str]:
    return [n.id for n in outline if n.id is not None] + [i for n in outline for i in closed_nodes(list(n.children))]


Stores.TestCase.settings = settings(
    max_examples=6,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestStoresAgree = Stores.TestCase
