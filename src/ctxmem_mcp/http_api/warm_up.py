"""Loads, before the service responds, what its first requests would load, while all others wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxmem_mcp.composition import open_transient
from ctxmem_mcp.models import NewTurn

if TYPE_CHECKING:
    from ctxmem_mcp.settings import Settings

_CONVERSATION = "c"


async def warm_up(settings: Settings) -> None:
    """Stores, views and searches two turns in a memory of their own. Modules, the tokenizer and tables stay loaded."""
    async with open_transient(settings.encoding, settings.embeddings) as memory:
        turns = [NewTurn("user", "Why does the parser fail?"), NewTurn("assistant", "Because of a comma; I fixed it.")]
        await memory.sync(turns, conversation_id=_CONVERSATION)
        await memory.view(_CONVERSATION, query="the parser", token_budget=4_000)
        await memory.search("the parser", conversation_id=_CONVERSATION)
        await memory.conversations()
