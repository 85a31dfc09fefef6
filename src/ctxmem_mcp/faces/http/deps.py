"""What the routes are given: the settings, who is asking, and that principal's own memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.settings import Settings


@dataclass(frozen=True, slots=True)
class Deps:
    """Handed to each `routes(deps)`.

    principal_of: whose request it is, already authenticated when a route runs. memory_for: that principal's memory,
    opened at the first call and shared from then on; the only way to a conversation, so nobody's is seen by another.
    """

    settings: Settings
    memory_for: Callable[[str], Awaitable[Memory]]
    principal_of: Callable[[Request], str]

    async def memory(self, request: Request) -> Memory:
        """The memory of whoever asks."""
        return await self.memory_for(self.principal_of(request))
