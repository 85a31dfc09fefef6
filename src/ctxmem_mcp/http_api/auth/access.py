"""Decides what a request may do: in the memory of its principal, or in the shared space that its path names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxmem_mcp.http_api.deps import DEFAULT_PRINCIPAL
from ctxmem_mcp.team.access import Access
from ctxmem_mcp.team.audit import Audit
from ctxmem_mcp.team.stored_limits import StoredLimits

if TYPE_CHECKING:
    from starlette.types import Scope

    from ctxmem_mcp.settings import Settings
    from ctxmem_mcp.team.base import TeamStore

# Paths below /spaces/NAME are those of the service, in that space.
SPACES, MEMBERS = "/spaces", "members"
_SPACE_KEY = "ctxmem.space"


class AccessControl:
    """Looks up the access of each request, so that what was taken away is gone at once."""

    def __init__(self, team: TeamStore, settings: Settings) -> None:
        self.team = team
        self._audit = Audit(team, settings.audit_lines) if settings.audit_lines else None
        limits = StoredLimits(settings.stored_bytes_max, settings.stored_turns_max)
        self._limits = limits if limits.are_set else None

    async def access_to(self, principal: str, space: str | None) -> Access | None:
        """Returns the access to a space, or to the principal's own memory (None).

        Returns None if there is no such space, or the principal has no right in it: nobody can tell which.
        """
        if space is None:
            audit = None if principal == DEFAULT_PRINCIPAL else self._audit
            return Access(principal, principal, audit=audit, limits=self._limits)
        found = await self.team.right_in(space, principal)
        if found is None:
            return None
        known, right = found
        return Access(principal, known.tenant, known.name, right, self._audit, self._limits)


def no_such_space(space: str) -> str:
    """Returns the error for a space that does not exist, or is not shared with the principal."""
    return f"No space {space[:64]!r} is shared with you. GET {SPACES} lists yours."


def space_of(scope: Scope) -> str | None:
    """Returns the space that the request's path named; None: the principal's own memory."""
    space = scope.get(_SPACE_KEY)
    return space if isinstance(space, str) else None


def space_prefix(scope: Scope) -> str:
    """Returns what the client's paths begin with in the space of this request; "" in the principal's own memory."""
    space = space_of(scope)
    return "" if space is None else f"{SPACES}/{space}"


def in_space(scope: Scope) -> Scope:
    """Returns the scope of a path below /spaces/NAME as that of the path without it, in that space.

    The paths of the space's members stay as they are, and so does any other path.
    """
    _, first, *rest = scope["path"].split("/", 3)
    if f"/{first}" != SPACES or len(rest) < 2:
        return scope
    name, path = rest
    if path.split("/", 1)[0] == MEMBERS:
        return {**scope, _SPACE_KEY: name}
    raw = scope.get("raw_path", b"").split(b"/", 3)
    return {**scope, "path": f"/{path}", "raw_path": b"/" + raw[3] if len(raw) == 4 else b"", _SPACE_KEY: name}
