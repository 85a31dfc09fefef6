"""A conversation is forgotten, and another started under its id, before each read of a call in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.errors import Conflict, CtxmemError, Forgotten, NotFound, UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Turn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

pytestmark = pytest.mark.anyio

READS = (
    "load", "turns", "digests", "nodes", "closings", "nodes_over", "summaries", "pieces", "pieces_of", "term_hits",
    "vocabulary",
)  # fmt: skip
CALLS: dict[str, Callable[[Memory], Awaitable[Any]]] = {
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


def history(turns: int, about: str) -> list[NewTurn]:
    return [
        NewTurn("user" if i % 2 == 0 else "assistant", f"{about} {i} failed: error E{i:04d}. " + "Look at it. " * 60)
        for i in range(turns)
    ]


OLD = history(16, "file")
NEW = {"shorter": history(1, "another"), "longer": history(28, "another")}


class Clock:
    def __init__(self) -> None:
        self.now = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


# Each read creates and deletes files, so only calls that together read in every way.
IN_FILES = ("view", "outline")
STORES = [("in memory", call) for call in CALLS] + [("sqlite", call) for call in IN_FILES]


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[Store]:
    opened: Store = InMemoryStore() if kind == "in memory" else SqliteStore(tmp_path / "data", durability="normal")
    yield opened
    await opened.close()


class BeforeRead:
    """Counts the reads of one task, and runs an action just before the n-th. Turns are indexed by another task."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads, self.at = 0, 0
        self.action: Callable[[], Awaitable[None]] | None = None
        self.task: asyncio.Task[Any] | None = None
        for name in READS:
            monkeypatch.setattr(store, name, self._counted(getattr(store, name)))

    def _counted(self, read: Any) -> Any:
        async def counted(*args: Any, **kwargs: Any) -> Any:
            self.reads += asyncio.current_task() is self.task
            if self.action is not None and self.reads == self.at and asyncio.current_task() is self.task:
                action, self.action = self.action, None
                await action()
            return await read(*args, **kwargs)

        return counted

    def cancel(self) -> bool:
        """Cancels the action; returns whether there were too few reads for it to run."""
        pending, self.action = self.action is not None, None
        return pending

    def before(self, read: int, action: Callable[[], Awaitable[None]]) -> None:
        self.reads, self.at, self.action, self.task = 0, read, action, asyncio.current_task()


async def outcome(memory: Memory, call: str) -> Any:
    """Returns the method's result without the times of storing, or its error's message."""
    try:
        result = await CALLS[call](memory)
    except CtxmemError as error:
        return str(error)
    if isinstance(result, Turn):
        return replace_fields(result, stored_at=0.0)
    return [replace_fields(turn, stored_at=0.0) for turn in result] if _are_turns(result) else result


def _are_turns(result: Any) -> bool:
    return isinstance(result, list) and all(isinstance(one, Turn) for one in result)


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize(("kind", "call"), STORES)
async def test_a_read_returns_the_new_conversation_and_nothing_of_the_old(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, new: str
) -> None:
    clock = Clock()
    memory = Memory(store, ExtractiveSummarizer(), clock=clock)
    interruption = BeforeRead(store, monkeypatch)

    async def begin(turns: list[NewTurn]) -> None:
        clock.now += 1
        await memory.allow_again("c", [turns])
        await memory.sync(turns, conversation_id="c")
        await memory.index("c")

    async def replace() -> None:
        await memory.forget("c", "c")
        await begin(NEW[new])

    await begin(NEW[new])
    expected = await outcome(memory, call)
    await memory.forget("c", "c")
    read = 0
    while True:
        read += 1
        await begin(OLD)
        interruption.before(read, replace)
        result = await outcome(memory, call)
        had_fewer_reads = interruption.cancel()  # first: forgetting reads too
        await memory.forget("c", "c")
        if had_fewer_reads:
            break
        assert result == expected, f"replaced before read {read}"
    assert read > 2


@pytest.mark.parametrize(("kind", "call"), STORES)
async def test_a_read_of_a_conversation_forgotten_in_between_raises(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    memory = Memory(store, ExtractiveSummarizer(), clock=Clock())
    interruption = BeforeRead(store, monkeypatch)

    async def forget() -> None:
        await memory.forget("c", "c")

    for read in range(1, 100):
        await memory.allow_again("c", [OLD])
        await memory.sync(OLD, conversation_id="c")
        await memory.index("c")
        interruption.before(read, forget)
        try:
            result = await CALLS[call](memory)
        except UnknownConversation:
            continue
        if interruption.cancel():
            break
        assert list(result) == [], "a search over all conversations skips it"
        assert call == "search everywhere"
    assert read > 2


WRITES: dict[str, Callable[[Memory], Awaitable[Any]]] = {
    "append again": lambda memory: memory.append(OLD[15], conversation_id="c", parent_id="t14"),
    "sync again": lambda memory: memory.sync(OLD, conversation_id="c"),
    "sync without an id": lambda memory: memory.sync(OLD),
    "revert": lambda memory: memory.revert("c", "t3"),
}


@pytest.mark.parametrize("kind", ["in memory"])
@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize("call", WRITES)
async def test_a_concurrent_write_succeeds_or_raises(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, new: str
) -> None:
    clock = Clock()
    memory = Memory(store, ExtractiveSummarizer(), clock=clock)
    # Another process, whose locks are its own.
    other = Memory(store, ExtractiveSummarizer(), clock=clock)
    interruption = BeforeRead(store, monkeypatch)

    async def replace() -> None:
        clock.now += 1
        await other.forget("c", "c")
        await other.allow_again("c", [NEW[new]])
        await other.sync(NEW[new], conversation_id="c")

    for read in range(1, 100):
        clock.now += 1
        await other.allow_again("c", [OLD])
        await other.sync(OLD, conversation_id="c")
        interruption.before(read, replace)
        with suppress(NotFound, Conflict, Forgotten):
            await WRITES[call](memory)
        assert await memory.verify("c") == []
        for info in (await other.conversations()).conversations:
            await other.forget(info.conversation_id, info.conversation_id)
        if interruption.cancel():
            break
    assert read > 2
