"""A `store` fixture over all implementations, and a memory over it whose clock does not advance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing.builders import NOW
from tests.stores.samples import memory_over


@pytest.fixture(params=["in_memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    in_memory = request.param == "in_memory"
    store: Store = InMemoryStore() if in_memory else SqliteStore(tmp_path / "data", durability="normal")
    yield store
    await store.close()


@pytest.fixture
def memory(store: Store) -> Memory:
    return memory_over(store, lambda: NOW)
