"""All stores pass the published contract suite."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import ctxmem_mcp
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.postgres import PostgresStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing import StoreContract
from tests.postgres_server import new_principal, started_server


class TestInMemoryStore(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        store = InMemoryStore()
        yield store
        await store.close()


class TestSqliteStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = SqliteStore(tmp_path / "data", durability="normal")
        yield store
        await store.close()


class TestPostgresStore(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        store = PostgresStore(started_server().url, new_principal())
        yield store
        await store.close()


def test_the_product_does_not_import_the_suite_or_pytest() -> None:
    package = Path(ctxmem_mcp.__file__).parent
    imports = re.compile(r"^\s*(?:import|from) (?:pytest|ctxmem_mcp\.stores\.testing)\b", re.MULTILINE)
    found = [path for path in package.rglob("*.py") if imports.search(path.read_text(encoding="utf-8"))]
    assert {path.parent for path in found} == {package / "stores" / "testing"}
