"""What the routes are given: the settings, who is asking, and that principal's own memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.settings import Settings

# The principal of a server without authentication; its conversations lie in the data folder itself.
DEFAULT_PRINCIPAL = ""
# Carries our own token where Authorization is another's: before an upstream, the client's own key stands there.
OWN_TOKEN_HEADER = "x-ctxmem-token"


@dataclass(frozen=True, slots=True)
class Deps:
    """Handed to each `routes(deps)`.

    principal_of: whose request it is, already authenticated when a route runs. memory_for: that principal's memory,
    opened at the first call and shared from then on; the only way to a conversation, so nobody's is seen by another.
    folder_of: the folder that principal's files lie in, whatever a route keeps beside the memory included.
    at_end: what routes want done when the app ends.
    """

    settings: Settings
    memory_for: Callable[[str], Awaitable[Memory]]
    principal_of: Callable[[Request], str]
    folder_of: Callable[[str], Path]
    at_end: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def memory(self, request: Request) -> Memory:
        """The memory of whoever asks."""
        return await self.memory_for(self.principal_of(request))

    async def ended(self) -> None:
        """Does what was wanted at the end."""
        for do in self.at_end:
            await do()

    def folder(self, request: Request) -> Path:
        return self.folder_of(self.principal_of(request))


def credential_headers(request: Request) -> frozenset[str]:
    """The headers, in lower case, that carry tokens of ours: they must never be sent on."""
    headers = getattr(request.state, "credential_headers", None)
    return headers if isinstance(headers, frozenset) else frozenset()
