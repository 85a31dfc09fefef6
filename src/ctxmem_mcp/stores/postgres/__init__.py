"""The store for many machines: conversations in a PostgreSQL database. Needs the extra `postgres`."""

from __future__ import annotations

from ctxmem_mcp.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
