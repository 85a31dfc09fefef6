"""One `store` over everything that keeps the contract; a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from tests.stores.commits import NOW, remembering


@pytest.fixture(params=["plain", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened: Store = InMemoryStore() if request.param == "plain" else SqliteStore(tmp_path / "data", durability="normal")
    yield opened
    await opened.close()


@pytest.fixture
def memory(store: Store) -> Memory:
    return remembering(store, lambda: NOW)
