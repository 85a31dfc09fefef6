"""The embedded default store: conversations in SQLite files."""

from __future__ import annotations

from ctxmem_mcp.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
