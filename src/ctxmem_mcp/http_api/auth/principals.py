"""Authentication of requests: which principal a token belongs to.

    x-ctxmem-token: TOKEN           when Authorization is meant for an upstream
    Authorization: Bearer TOKEN
    x-api-key: TOKEN

A principal is `token:NAME` or `oauth:ISSUER SUBJECT`, so that neither kind can pose as the other. Without configured
tokens or OAuth, every request belongs to the default principal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxmem_mcp.http_api.auth.oauth import InsufficientScope, ResourceServer, TokenVerifier, resource_server_of
from ctxmem_mcp.http_api.auth.static_tokens import Tokens, read_tokens
from ctxmem_mcp.http_api.deps import DEFAULT_PRINCIPAL, OWN_TOKEN_HEADER

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from ctxmem_mcp.settings import Settings

_HEADERS = (OWN_TOKEN_HEADER, "authorization", "x-api-key")
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated principal, and the names of all headers that carry one of this server's tokens."""

    principal: str
    headers: frozenset[str] = frozenset()


class Principals:
    """Authenticates requests by static tokens and OAuth access tokens."""

    def __init__(self, tokens: Tokens, resource_server: ResourceServer | None) -> None:
        self._tokens, self.resource_server = tokens, resource_server
        self._verifier = TokenVerifier(resource_server) if resource_server else None

    @classmethod
    def from_settings(cls, settings: Settings) -> Principals:
        """Raises InvalidArgument for invalid tokens or OAuth settings."""
        return cls(read_tokens(settings.tokens, settings.tokens_file), resource_server_of(settings))

    @property
    def open_to_all(self) -> bool:
        """Whether the server works without authentication."""
        return not self._tokens and self.resource_server is None

    async def authenticate(self, headers: Headers) -> Identity | None:
        """Returns the identity that the request's headers prove, or None if no header has a valid token.

        Raises:
            InsufficientScope: the only valid tokens are OAuth access tokens that lack a required scope.
        """
        if self.open_to_all:
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
                return Identity(principal, self._credential_headers(tokens, token))
        if insufficient is not None:
            raise insufficient
        return None

    def _credential_headers(self, tokens: Mapping[str, str], accepted: str) -> frozenset[str]:
        """Returns the headers with the accepted token or another of this server's."""
        return frozenset(
            name for name, token in tokens.items() if token == accepted or self._tokens.name_of(token) is not None
        )

    async def _principal(self, token: str) -> str | None:
        name = self._tokens.name_of(token)
        if name is not None:
            return f"token:{name}"
        if self._verifier is None or self.resource_server is None:
            return None
        subject = await self._verifier.subject_of(token)
        return None if subject is None else f"oauth:{self.resource_server.issuer} {subject}"


def _token(header: str, value: str) -> str:
    if header != "authorization":
        return value.strip()
    return value[len(_BEARER) :].strip() if value.lower().startswith(_BEARER) else ""
