"""Authentication of requests: which principal a token belongs to.

    x-ctxmem-token: TOKEN           when Authorization is meant for an upstream
    Authorization: Bearer TOKEN
    x-api-key: TOKEN

A principal is `token:NAME` or `oauth:ISSUER SUBJECT`, so that neither kind can pose as the other. Tokens are those of
the settings, which are read once, and those of the team store, which is asked at each request. Without any, and without
OAuth, every request belongs to the default principal.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxmem_mcp.http_api.auth.oauth import InsufficientScope, ResourceServer, TokenVerifier, resource_server_of
from ctxmem_mcp.http_api.auth.static_tokens import Tokens, read_tokens
from ctxmem_mcp.http_api.deps import DEFAULT_PRINCIPAL, OWN_TOKEN_HEADER
from ctxmem_mcp.team.records import OAUTH_KIND, TOKEN_KIND, token_digest
from ctxmem_mcp.team.stores import is_configured, open_team

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from ctxmem_mcp.settings import Settings
    from ctxmem_mcp.team.base import TeamStore

_HEADERS = (OWN_TOKEN_HEADER, "authorization", "x-api-key")
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated principal, and the names of all headers that carry one of this server's tokens."""

    principal: str
    headers: frozenset[str] = frozenset()


class Principals:
    """Authenticates requests by tokens and OAuth access tokens.

    Attributes:
        team: the store of principals, which may have none.
        open_to_all: the server has started without authentication.
    """

    def __init__(
        self, tokens: Tokens, resource_server: ResourceServer | None, team: TeamStore, has_team: bool = False
    ) -> None:
        """has_team: the team store had a principal when the server started."""
        self._tokens, self.resource_server, self.team = tokens, resource_server, team
        self.open_to_all = not tokens and resource_server is None and not has_team
        self._verifier = TokenVerifier(resource_server) if resource_server else None

    @classmethod
    def from_settings(cls, settings: Settings) -> Principals:
        """Reads the settings, and whether there is a team.

        Raises:
            InvalidArgument: tokens, OAuth settings or the store's URL are invalid.
            StoreUnavailable: the team store can't be read.
        """
        tokens, team = read_tokens(settings.tokens, settings.tokens_file), open_team(settings)
        return cls(tokens, resource_server_of(settings), team, is_configured(settings))

    async def authenticate(self, headers: Headers) -> Identity | None:
        """Returns the identity that the request's headers prove, or None if no header has a valid token.

        Raises:
            InsufficientScope: the only valid tokens are OAuth access tokens that lack a required scope.
        """
        if self.open_to_all and not await self.team.is_configured():
            return Identity(DEFAULT_PRINCIPAL)
        insufficient: InsufficientScope | None = None
        tokens = {name: token for name in _HEADERS if (token := _token(name, headers.get(name, "")))}
        for token in tokens.values():
            try:
                principal = await self._principal(token)
            except InsufficientScope as error:
                insufficient = error
                continue
            if principal is not None:
                return Identity(principal, await self._credential_headers(tokens, token))
        if insufficient is not None:
            raise insufficient
        return None

    async def _credential_headers(self, tokens: Mapping[str, str], accepted: str) -> frozenset[str]:
        """Returns the headers with the accepted token or another of this server's."""
        own = {token for token in set(tokens.values()) if token == accepted or await self._token_principal(token)}
        return frozenset(name for name, token in tokens.items() if token in own)

    async def _token_principal(self, token: str) -> str | None:
        """Returns the principal of a token that is not OAuth's."""
        name = self._tokens.name_of(token)
        if name is not None:
            return TOKEN_KIND + name
        return await self.team.principal_of(token_digest(token), time.time())

    async def _principal(self, token: str) -> str | None:
        if (principal := await self._token_principal(token)) is not None:
            return principal
        if self._verifier is None or self.resource_server is None:
            return None
        subject = await self._verifier.subject_of(token)
        return None if subject is None else f"{OAUTH_KIND}{self.resource_server.issuer} {subject}"


def _token(header: str, value: str) -> str:
    if header != "authorization":
        return value.strip()
    return value[len(_BEARER) :].strip() if value.lower().startswith(_BEARER) else ""
