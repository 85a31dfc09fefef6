"""The dependencies of the routes: the settings, and the access, memory, records and folder of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ctxmem_mcp.team.access import Access, guard

if TYPE_CHECKING:
    from starlette.requests import Request

    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.record_stores.base import RecordStore
    from ctxmem_mcp.settings import Settings
    from ctxmem_mcp.team.records import Right

# The principal of a server without authentication. Its conversations are in the data folder itself.
DEFAULT_PRINCIPAL = ""
# Carries this server's token when Authorization holds the client's key for an upstream.
OWN_TOKEN_HEADER = "x-ctxmem-token"


@dataclass(frozen=True, slots=True)
class RequestUsage:
    """The tokens of one request that passed the gateway, and was stored.

    Attributes:
        conversation_id: where it is stored.
        history: tokens of the client's messages.
        sent: tokens of the messages sent, if it was compacted.
        cut: the index of the first message that was sent unchanged; None if it was not compacted.
        tokens_in: input tokens that the upstream reported, or None.
        cached: those of them from its cache, or None.
    """

    conversation_id: str
    history: int
    sent: int
    cut: int | None
    tokens_in: int | None
    cached: int | None


@dataclass(frozen=True, slots=True)
class Deps:
    """Passed to each `routes(deps)`.

    Attributes:
        settings: the server's settings.
        memory_for: the memory of a tenant, opened by the first call and shared afterwards.
        access_of: what a request may do, and in which memory. Requests are authenticated before a route runs.
        records_of: a tenant's records, which are stored beside the memory.
        folder_of: a tenant's folder, which may not exist.
        on_shutdown: called in order when the app shuts down.
        on_usage: called with the usage of each request that the gateway has stored.
        run: the id of the run of `ctxmem-mcp wrap` that the gateway belongs to; empty if it belongs to none.
    """

    settings: Settings
    memory_for: Callable[[str], Awaitable[Memory]]
    access_of: Callable[[Request], Access]
    records_of: Callable[[str], RecordStore]
    folder_of: Callable[[str], Path]
    on_shutdown: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    on_usage: Callable[[RequestUsage], None] | None = None
    run: str = ""

    async def memory(self, request: Request) -> Memory:
        """Returns the memory of the request, which does what the request may do and nothing else."""
        access = self.access_of(request)
        return guard(await self.memory_for(access.tenant), access)

    async def shut_down(self) -> None:
        """Runs the `on_shutdown` callbacks."""
        for callback in self.on_shutdown:
            await callback()

    def records(self, request: Request, right: Right) -> RecordStore:
        """Returns the records beside the request's memory, for a use that needs a right.

        Raises:
            AccessDenied: The principal does not have the right.
        """
        access = self.access_of(request)
        access.require(right)
        return self.records_of(access.tenant)

    def folder(self, request: Request, right: Right) -> Path:
        """Returns the folder of the request's memory, for a use that needs a right.

        Raises:
            AccessDenied: The principal does not have the right.
        """
        access = self.access_of(request)
        access.require(right)
        return self.folder_of(access.tenant)


def own_access(_: object) -> Access:
    """Returns the access of the only principal of a server without authentication."""
    return Access(DEFAULT_PRINCIPAL, DEFAULT_PRINCIPAL)


def access_of(request: Request) -> Access:
    """Returns the request's access, which AuthenticationMiddleware has set on every request that reaches a route."""
    access = request.state.access
    assert isinstance(access, Access)
    return access


def credential_headers(request: Request) -> frozenset[str]:
    """Returns the names (lower case) of the headers that carry this server's tokens. They must never be forwarded."""
    headers = getattr(request.state, "credential_headers", None)
    return headers if isinstance(headers, frozenset) else frozenset()
