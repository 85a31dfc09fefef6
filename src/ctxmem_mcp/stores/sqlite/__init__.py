"""Conversations in SQLite files: the embedded default."""

from __future__ import annotations

from ctxmem_mcp.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
