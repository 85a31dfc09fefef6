"""What the parts of the suite share."""

from __future__ import annotations

import pytest

from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import State
from ctxmem_mcp.stores.testing.builders import NOW


class StoreTests:
    """Base of the suite's parts."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def store(self) -> Store:
        """An empty, open store."""
        raise NotImplementedError("Override the fixture `store` in your subclass of StoreContract.")


async def load(store: Store, conversation_id: str = "c", now: float = NOW) -> State:
    """The state of a conversation that exists."""
    state = await store.load(conversation_id, now)
    assert state is not None
    return state
