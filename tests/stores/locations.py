"""Opens the store at a location: a folder, for SQLite."""

from __future__ import annotations

from pathlib import Path

from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.sqlite import SqliteStore


def open_store(location: str) -> Store:
    return SqliteStore(Path(location))
