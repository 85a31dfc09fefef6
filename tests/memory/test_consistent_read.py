"""A conversation is forgotten, and another begun under its id, while somebody reads it: at every read there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.errors import Conflict, CtxmemError, NotFound, UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

pytestmark = pytest.mark.anyio

READS = (
    "load", "turns", "digests", "nodes", "closings", "nodes_over", "summaries", "pieces", "pieces_of", "term_hits",
)  # fmt: skip
VERBS: dict[str, Callable[[Memory], Awaitable[Any]]] = {
    "view": lambda memory: memory.view("c", query="what failed in file 3?", token_budget=1_000),
    "view of errors": lambda memory: memory.view("c", query="what errors did we meet?", token_budget=1_000),
    "view without query": lambda memory: memory.view("c", token_budget=1_000),
    "view as of a turn": lambda memory: memory.view("c", turn_id="t0", token_budget=1_000),
    "stable view": lambda memory: memory.view("c", layout="stable", token_budget=1_000),
    "expand": lambda memory: memory.expand("c", "t0"),
    "expand a span": lambda memory: memory.expand("c", "t0-t0"),
    "hand_off": lambda memory: memory.hand_off("c"),
    "search": lambda memory: memory.search("file 3", conversation_id="c"),
    "search everywhere": lambda memory: memory.search("file 3"),
    "turn": lambda memory: memory.turn("c", "t0"),
    "turns": lambda memory: memory.turns("c"),
    "history": lambda memory: memory.history("c"),
    "head": lambda memory: memory.head("c"),
    "branches": lambda memory: memory.branches("c"),
    "outline": lambda memory: memory.outline("c"),
    "verify": lambda memory: memory.verify("c"),
    "write_summary": lambda memory: memory.write_summary("c", "n0-3", "Title", "What happened."),
}


def said(turns: int, what: str) -> list[NewTurn]:
    return [
        NewTurn("user" if i % 2 == 0 else "assistant", f"{what} {i} failed: error E{i:04d}. " + "Look at it. " * 60)
        for i in range(turns)
    ]


OLD = said(16, "file")
NEW = {"shorter": said(1, "another"), "longer": said(28, "another")}


class Clock:
    def __init__(self) -> None:
        self.now = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


# Files are made and unlinked at each read: of these, what reads in every way.
IN_FILES = ("view", "outline")
STORES = [("plain", verb) for verb in VERBS] + [("sqlite", verb) for verb in IN_FILES]


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[Store]:
    opened: Store = InMemoryStore() if kind == "plain" else SqliteStore(tmp_path / "data", durability="normal")
    yield opened
    await opened.close()


class Meanwhile:
    """Does something just before the n-th read of a store; counts the reads."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads, self.at = 0, 0
        self.does: Callable[[], Awaitable[None]] | None = None
        for name in READS:
            monkeypatch.setattr(store, name, self._counted(getattr(store, name)))

    def _counted(self, read: Any) -> Any:
        async def counted(*asked: Any, **how: Any) -> Any:
            self.reads += 1
            if self.does is not None and self.reads == self.at:
                does, self.does = self.does, None
                await does()
            return await read(*asked, **how)

        return counted

    def pending(self) -> bool:
        """Whether there were fewer reads than that. Nothing happens from now on."""
        pending, self.does = self.does is not None, None
        return pending

    def before(self, read: int, does: Callable[[], Awaitable[None]]) -> None:
        self.reads, self.at, self.does = 0, read, does


async def outcome(memory: Memory, verb: str) -> Any:
    """What the verb gives, or how it refuses."""
    try:
        return await VERBS[verb](memory)
    except CtxmemError as error:
        return str(error)


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize(("kind", "verb"), STORES)
async def test_it_reads_the_new_one_and_nothing_of_the_old(
    store: Store, monkeypatch: pytest.MonkeyPatch, verb: str, new: str
) -> None:
    clock = Clock()
    memory = Memory(store, ExtractiveSummarizer(), clock=clock)
    meanwhile = Meanwhile(store, monkeypatch)

    async def begin(turns: list[NewTurn]) -> None:
        clock.now += 1
        await memory.sync(turns, conversation_id="c")

    async def replaced() -> None:
        await memory.forget("c", "c")
        await begin(NEW[new])

    await begin(NEW[new])
    wanted = await outcome(memory, verb)
    await memory.forget("c", "c")
    read = 0
    while True:
        read += 1
        await begin(OLD)
        meanwhile.before(read, replaced)
        found = await outcome(memory, verb)
        await memory.forget("c", "c")
        if meanwhile.pending():
            break
        assert found == wanted, f"replaced before read {read}"
    assert read > 2


@pytest.mark.parametrize(("kind", "verb"), STORES)
async def test_where_no_other_was_begun_there_is_no_such_conversation(
    store: Store, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    memory = Memory(store, ExtractiveSummarizer(), clock=Clock())
    meanwhile = Meanwhile(store, monkeypatch)

    async def gone() -> None:
        await memory.forget("c", "c")

    for read in range(1, 100):
        await memory.sync(OLD, conversation_id="c")
        meanwhile.before(read, gone)
        try:
            found = await VERBS[verb](memory)
        except UnknownConversation:
            continue
        if meanwhile.pending():
            break
        assert found == [], "a search over everything passes over it"
        assert verb == "search everywhere"
    assert read > 2


WRITES: dict[str, Callable[[Memory], Awaitable[Any]]] = {
    "append again": lambda memory: memory.append(OLD[15], conversation_id="c", parent_id="t14"),
    "sync again": lambda memory: memory.sync(OLD, conversation_id="c"),
    "sync without an id": lambda memory: memory.sync(OLD),
    "revert": lambda memory: memory.revert("c", "t3"),
}


@pytest.mark.parametrize("kind", ["plain"])
@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize("verb", WRITES)
async def test_what_writes_beside_it_ends_well_or_says_why(
    store: Store, monkeypatch: pytest.MonkeyPatch, verb: str, new: str
) -> None:
    clock = Clock()
    memory = Memory(store, ExtractiveSummarizer(), clock=clock)
    # Another process, whose locks are its own.
    other = Memory(store, ExtractiveSummarizer(), clock=clock)
    meanwhile = Meanwhile(store, monkeypatch)

    async def replaced() -> None:
        clock.now += 1
        await other.forget("c", "c")
        await other.sync(NEW[new], conversation_id="c")

    for read in range(1, 100):
        clock.now += 1
        await other.sync(OLD, conversation_id="c")
        meanwhile.before(read, replaced)
        with suppress(NotFound, Conflict):
            await WRITES[verb](memory)
        assert await memory.verify("c") == []
        for info in (await other.conversations()).conversations:
            await other.forget(info.conversation_id, info.conversation_id)
        if meanwhile.pending():
            break
    assert read > 2
