"""Memory: what can be done with conversations. The one deep module: faces call it, it calls tree, recall and a store.

(Signatures first; the bodies follow.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ctxmem_mcp.model import Appended, Hit, NewTurn, OutlineNode, Receipt, Reverted, Summary, Synced, Turn, View
from ctxmem_mcp.stores.contract import Page, State, Store
from ctxmem_mcp.summarizers.contract import Summarizer


class Memory:
    """An open memory. All verbs are coroutines and safe to call concurrently."""

    def __init__(
        self,
        store: Store,
        summarizer: Summarizer,
        *,
        encoding: str = "o200k_base",
        retention_days: int = 30,
        salt: bytes = b"",
        clock: Callable[[], float] | None = None,
    ) -> None: ...

    async def append(
        self,
        turn: NewTurn,
        *,
        conversation_id: str | None = None,
        parent_id: str | None = None,
        retention_days: int | None = None,
        space: str | None = None,
    ) -> Appended:
        """One turn. Makes the conversation when the id is absent or unknown. Durable when it returns."""
        raise NotImplementedError

    async def sync(
        self,
        turns: Sequence[NewTurn],
        *,
        conversation_id: str | None = None,
        after: str | None = None,
        retention_days: int | None = None,
        space: str | None = None,
    ) -> Synced:
        """The longest known prefix is found, the rest appended in one transaction."""
        raise NotImplementedError

    async def view(
        self,
        conversation_id: str,
        *,
        query: str | None = None,
        token_budget: int = 8000,
        turn_id: str | None = None,
        layout: str = "tree",
    ) -> View:
        raise NotImplementedError

    async def expand(
        self, conversation_id: str, node_id: str, *, token_budget: int = 4000, cursor: str | None = None
    ) -> View:
        raise NotImplementedError

    async def search(
        self,
        query: str,
        *,
        conversation_id: str | None = None,
        limit: int = 10,
        role: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Hit]:
        raise NotImplementedError

    async def revert(self, conversation_id: str, turn_id: str) -> Reverted:
        raise NotImplementedError

    async def forget(self, conversation_id: str, confirm: str) -> Receipt:
        raise NotImplementedError

    async def conversations(self, *, space: str | None = None, limit: int = 20, cursor: str | None = None) -> Page:
        raise NotImplementedError

    async def info(self, conversation_id: str) -> State:
        """The conversation's state (head, counts, retention), or UnknownConversation."""
        raise NotImplementedError

    async def set_retention(self, conversation_id: str, retention_days: int) -> State:
        raise NotImplementedError

    async def write_summary(self, conversation_id: str, node_id: str, summary: Summary) -> str:
        """Joins a better summary to a closed node; gives the node's id."""
        raise NotImplementedError

    async def outline(self, conversation_id: str, *, turn_id: str | None = None, depth: int | None = None) -> list[OutlineNode]:
        """The tree for drawing: closed nodes and the open tail, with summaries, down to `depth` levels."""
        raise NotImplementedError

    async def verify(self, conversation_id: str) -> list[str]:
        """Recomputes every hash on every branch; gives what is wrong, in words (empty: all is well)."""
        raise NotImplementedError

    async def turn(self, conversation_id: str, turn_id: str) -> Turn:
        raise NotImplementedError

    async def sweep(self) -> list[str]:
        """Forgets what has expired."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
