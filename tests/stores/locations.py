"""Opens the store at a location: a folder, for SQLite, or a database's URL and a principal."""

from __future__ import annotations

from pathlib import Path

from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.postgres import PostgresStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from tests.postgres_server import new_principal, started_server


def open_store(location: str) -> Store:
    if location.startswith("postgresql://"):
        url, _, principal = location.rpartition("#")
        return PostgresStore(url, principal)
    return SqliteStore(Path(location))


def new_location(kind: str, folder: Path) -> str:
    """Returns the location of an empty store.

    Args:
        kind: "sqlite" or "postgres".
        folder: Where files are made.
    """
    return f"{started_server().url}#{new_principal()}" if kind == "postgres" else str(folder / "data")
