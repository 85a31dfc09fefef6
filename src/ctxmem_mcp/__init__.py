"""Lossless, hierarchical memory of conversations, as a library; the command and the MCP server are built on it.

    async with open_memory() as memory:
        stored = await memory.append(NewTurn("user", "The build fails with E0308."))
        view = await memory.view(stored.conversation_id, query="which error?")

Names are imported when they are first used, so that a process loads no more than it needs.
"""

from __future__ import annotations

# Not imported from typing, which takes as long to load as a whole hook.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ctxmem_mcp.composition import open_memory
    from ctxmem_mcp.errors import Conflict, Corrupt, CtxmemError, NotFound, Refused, Unavailable
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.models import NewTurn, Turn
    from ctxmem_mcp.results import Conversation, Hit, View
    from ctxmem_mcp.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "Conflict",
    "Conversation",
    "Corrupt",
    "CtxmemError",
    "Hit",
    "Memory",
    "NewTurn",
    "NotFound",
    "Refused",
    "Settings",
    "Turn",
    "Unavailable",
    "View",
    "__version__",
    "open_memory",
]

_ERRORS = dict.fromkeys(("Conflict", "Corrupt", "CtxmemError", "NotFound", "Refused", "Unavailable"), "errors")
_VALUES = dict.fromkeys(("Conversation", "Hit", "NewTurn", "Turn", "View"), "models")
_MODULES = {**_ERRORS, **_VALUES, "Memory": "memory", "Settings": "settings", "open_memory": "composition"}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
