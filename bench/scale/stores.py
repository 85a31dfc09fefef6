"""The stores that are measured: a folder of files, or a database of a PostgreSQL server in a folder."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from tests.postgres_server import ROLE, PostgresServer

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.postgres import PostgresStore
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.embeddings import load_embedder

SQLITE, POSTGRES = "sqlite", "postgres"


class Place:
    """Where one measured store is.

    Attributes:
        name: of the folder, or of the database.
        folder: of the files.
    """

    def __init__(self, folder: Path, kind: str, content: str) -> None:
        self.kind, self.name = kind, f"{kind}-{content}"
        self._root, self.folder = folder, folder / self.name

    @asynccontextmanager
    async def opened(self, *, filling: bool = False) -> AsyncIterator[tuple[Memory, Store]]:
        """Opens a memory with static vectors. filling: a power failure may lose what was stored last."""
        store = self._open(filling)
        memory = Memory(store, ExtractiveSummarizer(), embedder=load_embedder("on"))
        try:
            yield memory, store
        finally:
            await memory.close()

    def _open(self, filling: bool) -> SqliteStore | PostgresStore:
        if self.kind == POSTGRES:
            return PostgresStore(_server(self._root).database(self.name), "")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SqliteStore(self.folder, durability="normal" if filling else "full")

    def copy(self) -> Place:
        """Copies the store, which must not be open."""
        other = Place(self._root, self.kind, "copy")
        other.remove()
        if self.kind == POSTGRES:
            _server(self._root).database(other.name, like=self.name)
        else:
            shutil.copytree(self.folder, other.folder)
        return other

    def remove(self) -> None:
        if self.kind == POSTGRES:
            _server(self._root).drop(self.name)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def bytes(self) -> int:
        """Returns how much disk the store takes."""
        if self.kind == POSTGRES:
            return _server(self._root).bytes(self.name)
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


class _Server(PostgresServer):
    """A server whose databases stay when the process ends."""

    def database(self, name: str, like: str = "template0") -> str:
        """Returns the URL of a database, which is created if it does not exist."""
        with self.connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                connection.execute(f'CREATE DATABASE "{name}" OWNER {ROLE} TEMPLATE "{like}"')
        return f"postgresql://{ROLE}@/{name}?host={self.folder / 'data'}"

    def drop(self, name: str) -> None:
        with self.connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}"')

    def bytes(self, name: str) -> int:
        with self.connect() as connection:
            row = connection.execute("SELECT pg_database_size(%s)", (name,)).fetchone()
        return int(str(row[0])) if row else 0


@cache
def _server(folder: Path) -> _Server:
    return _Server(folder / "server")
