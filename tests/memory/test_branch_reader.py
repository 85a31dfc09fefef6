"""What a reader returns does not depend on what other readers of the conversation do to the cache meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.edge_loader import load_spine
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

pytestmark = pytest.mark.anyio


class ClearingStore(InMemoryStore):
    """Clears a cache during each read, as a second reader does if the cache has grown too large."""

    parts: Sequence[dict[Any, Any]] = ()

    async def turns(self, *args: Any, **more: Any) -> Any:
        return self._clear(await super().turns(*args, **more))

    async def pieces(self, *args: Any) -> Any:
        return self._clear(await super().pieces(*args))

    async def pieces_of(self, *args: Any) -> Any:
        return self._clear(await super().pieces_of(*args))

    async def nodes(self, *args: Any) -> Any:
        return self._clear(await super().nodes(*args))

    async def vectors(self, conversation_id: str, ids: Sequence[int]) -> Any:
        return self._clear({i: b"%d" % i for i in ids})

    def _clear(self, read: Any) -> Any:
        for part in self.parts:
            part.clear()
        return read


async def test_entries_that_are_cleared_during_a_read_are_returned() -> None:
    store = ClearingStore()
    memory = Memory(store, ExtractiveSummarizer(), clock=lambda: 1_800_000_000.0)
    await memory.sync([NewTurn("user", f"We deploy host {i} at noon. " * 90) for i in range(60)], conversation_id="c")
    state = await store.load("c", 1_800_000_000.0)
    assert state is not None
    branch = BranchReader(store, state, Lineage.of(state.runs, state.head))
    digests = [node.digest for level in await load_spine(store, state, branch.lineage) for node in level]
    assert len(digests) > 1
    reads: list[tuple[Any, Any]] = [
        (branch.metadata_of, [1, 2]), (branch.pieces, [1, 2]), (branch.pieces_of, [1, 2]),
        (branch.vectors, [1, 2]), (branch.nodes, digests),
    ]  # fmt: skip
    for read, keys in reads:
        await read(keys[:1])
        store.parts = branch.cache.parts
        assert len(await read(keys)) == len(keys), read
        store.parts = ()
