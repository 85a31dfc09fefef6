"""A `store` fixture over all implementations, and a memory over it whose clock does not advance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.postgres import PostgresStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing.builders import NOW
from tests.postgres_server import new_principal, started_server
from tests.stores.samples import memory_over


@pytest.fixture(params=["in_memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store: Store
    if request.param == "in_memory":
        store = InMemoryStore()
    elif request.param == "sqlite":
        store = SqliteStore(tmp_path / "data", durability="normal")
    else:
        store = PostgresStore(started_server().url, new_principal())
    yield store
    await store.close()


@pytest.fixture
def memory(store: Store) -> Memory:
    return memory_over(store, lambda: NOW)
