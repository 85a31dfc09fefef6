"""The contract of a team store: principals and their tokens, shared spaces and the rights in them, and the audit.

A change is durable when its method returns, and all processes on the store see it at once. Times are seconds
since 1970. A principal is named by its key: `token:NAME`, or `oauth:ISSUER SUBJECT`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ctxmem_mcp.team.records import AuditLine, PrincipalInfo, Right, Space, Token


class TeamStore(Protocol):
    """Every method raises StoreUnavailable if the store can't be read or written."""

    async def is_configured(self) -> bool:
        """Returns whether a principal was ever added. It stays so: a server never opens to all again."""

    async def add_principal(self, name: str, token: Token, *, restore: bool = False) -> None:
        """Adds a principal with its first token.

        Args:
            name: the principal's name.
            token: its token.
            restore: give a principal that was removed its memory back.

        Raises:
            InvalidArgument: there is such a principal, or was one and `restore` is not set.
        """

    async def remove_principal(self, name: str, now: float) -> None:
        """Removes a principal with its tokens and rights. Its memory stays.

        Raises:
            NotFound: there is no such principal.
        """

    async def replace_tokens(self, name: str, token: Token, until: float) -> None:
        """Adds a token; the others of the principal are valid `until` at the latest.

        Raises:
            NotFound: there is no such principal.
        """

    async def principals(self) -> Sequence[PrincipalInfo]:
        """Returns all principals by name, removed ones too."""

    async def principal_of(self, digest: bytes, now: float) -> str | None:
        """Returns the key of the principal with this token; None if it is unknown, revoked or expired."""

    async def add_space(self, name: str, now: float) -> Space:
        """Adds a shared space, in which nobody has a right yet.

        Raises:
            InvalidArgument: there is such a space.
        """

    async def remove_space(self, name: str) -> Space:
        """Removes a space with the rights in it; its memory stays.

        Raises:
            NotFound: there is no such space.
        """

    async def spaces(self) -> Sequence[Space]:
        """Returns all spaces by name."""

    async def set_right(self, name: str, principal: str, right: Right | None) -> bool:
        """Sets the right of a principal in a space, in place of an earlier one; None removes it.

        Returns:
            Whether this changed anything.

        Raises:
            NotFound: there is no such space.
        """

    async def members(self, name: str) -> Mapping[str, Right]:
        """Returns the principals with a right in a space.

        Raises:
            NotFound: there is no such space.
        """

    async def spaces_of(self, principal: str) -> Sequence[tuple[Space, Right]]:
        """Returns the spaces in which a principal has a right, by name."""

    async def right_in(self, name: str, principal: str) -> tuple[Space, Right] | None:
        """Returns a space with the principal's right in it; None if there is no such space, or no right."""

    async def adopt(self, principals: Sequence[PrincipalInfo], spaces: Mapping[Space, Mapping[str, Right]]) -> None:
        """Adds the principals and spaces of another store, with the same tokens, ids and rights.

        A principal or space that this store has or had under the same name stays as it is, so that no revoked token is
        valid again.
        """

    async def record(self, line: AuditLine, keep: int) -> None:
        """Adds a line to the audit, and removes the oldest beyond `keep`, or a few lines later.

        A power failure may lose it.
        """

    async def audit(
        self,
        *,
        principal: str | None = None,
        space: str | None = None,
        conversation: str | None = None,
        action: str | None = None,
        since: float = 0,
        limit: int = 100,
    ) -> Sequence[AuditLine]:
        """Returns the newest lines that fit, oldest of them first."""

    async def close(self) -> None:
        """Closes the store; the next call opens it again."""
