"""Runs a law over several stores."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.postgres import PostgresStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing.builders import NOW
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.postgres_server import new_principal, started_server

P = ParamSpec("P")

# Of each law over PostgreSQL, whose operations take milliseconds; all of them in a long run.
FEW_EXAMPLES = 2


class Opener:
    """Opens memories, each over an empty store unless it is given one."""

    def __init__(self, kind: str) -> None:
        """kind: "in_memory", "sqlite" or "postgres"."""
        self._kind = kind
        self.stores: list[Store] = []
        self._files = ExitStack()

    def __call__(self, store: Store | None = None) -> Memory:
        return Memory(store or self.new_store(), ExtractiveSummarizer(), clock=lambda: NOW)

    def new_store(self) -> Store:
        store: Store
        if self._kind == "postgres":
            store = PostgresStore(started_server().url, new_principal())
        elif self._kind == "sqlite":
            store = SqliteStore(Path(self._files.enter_context(tempfile.TemporaryDirectory())), durability="normal")
        else:
            store = InMemoryStore()
        self.stores.append(store)
        return store

    async def close(self) -> None:
        """Closes and removes the stores."""
        for store in self.stores:
            await store.close()
        self._files.close()


@asynccontextmanager
async def opener(kind: str) -> AsyncIterator[Opener]:
    """Yields an opener, and closes its stores afterwards."""
    found = Opener(kind)
    try:
        yield found
    finally:
        await found.close()


def law(
    *, max_examples: int | None = None, kind: str = "in_memory", **strategies: SearchStrategy[Any]
) -> Callable[[Callable[Concatenate[Opener, P], Awaitable[None]]], Callable[..., None]]:
    """Makes a law a test over one store, and adds two to its module: over PostgreSQL, short and long.

    Args:
        max_examples: Fewer than the profile's.
        kind: The one store: "in_memory" or "sqlite".
        strategies: Of the law's arguments after the first, which is an `Opener`.
    """

    def decorate(check: Callable[Concatenate[Opener, P], Awaitable[None]]) -> Callable[..., None]:
        def over(store: str, examples: int | None, suffix: str) -> Callable[..., None]:
            async def test(**drawn: Any) -> None:
                async with opener(store) as new_memory:
                    await check(new_memory, **drawn)  # type: ignore[call-arg]

            test.__name__ = test.__qualname__ = check.__name__ + suffix
            test.__module__, test.__doc__ = check.__module__, check.__doc__
            given_test = given(**strategies)(test)
            return settings(max_examples=examples)(given_test) if examples else given_test

        module = vars(sys.modules[check.__module__])
        short, long = (
            over("postgres", FEW_EXAMPLES, "_on_postgres"),
            over("postgres", max_examples, "_on_postgres_long"),
        )
        module |= {short.__name__: short, long.__name__: pytest.mark.soak(long)}
        return over(kind, max_examples, "")

    return decorate
