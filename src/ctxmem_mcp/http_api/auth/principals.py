"""Whose request it is, from the token it carries.

    x-ctxmem-token: TOKEN           where Authorization is meant for an upstream
    Authorization: Bearer TOKEN
    x-api-key: TOKEN

A principal is `token:NAME` or `oauth:ISSUER SUBJECT`, so that neither kind can pose as the other. A server that knows
no tokens has one principal, the default one, whom everybody is who reaches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxmem_mcp.http_api.auth.oauth import Authority, ScopeMissing, Verifier, authority_of
from ctxmem_mcp.http_api.auth.static_tokens import Tokens, read_tokens
from ctxmem_mcp.http_api.deps import DEFAULT_PRINCIPAL, OWN_TOKEN_HEADER

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from ctxmem_mcp.settings import Settings

_HEADERS = (OWN_TOKEN_HEADER, "authorization", "x-api-key")
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and all headers that carry a token of ours."""

    principal: str
    headers: frozenset[str] = frozenset()


class Principals:
    """The principals that this server knows."""

    def __init__(self, tokens: Tokens, authority: Authority | None) -> None:
        self._tokens, self.authority = tokens, authority
        self._verifier = Verifier(authority) if authority else None

    @classmethod
    def of(cls, settings: Settings) -> Principals:
        return cls(read_tokens(settings.tokens, settings.tokens_file), authority_of(settings))

    @property
    def open(self) -> bool:
        """Whether everybody is let in."""
        return not self._tokens and self.authority is None

    async def asking(self, headers: Headers) -> Asker | None:
        """Who asks; None for somebody who does not say, or whom we don't know. Raises ScopeMissing."""
        if self.open:
            return Asker(DEFAULT_PRINCIPAL)
        lacking: ScopeMissing | None = None
        given = {header: token for header in _HEADERS if (token := _token(header, headers.get(header, "")))}
        for token in given.values():
            try:
                principal = await self._principal(token)
            except ScopeMissing as error:
                lacking = error
                continue
            if principal is not None:
                return Asker(principal, self._ours(given, token))
        if lacking is not None:
            raise lacking
        return None

    def _ours(self, given: Mapping[str, str], token: str) -> frozenset[str]:
        """The headers with this token or another one of ours."""
        return frozenset(name for name, one in given.items() if one == token or self._tokens.name_of(one) is not None)

    async def _principal(self, token: str) -> str | None:
        name = self._tokens.name_of(token)
        if name is not None:
            return f"token:{name}"
        if self._verifier is None or self.authority is None:
            return None
        subject = await self._verifier.subject_of(token)
        return None if subject is None else f"oauth:{self.authority.issuer} {subject}"


def _token(header: str, given: str) -> str:
    if header != "authorization":
        return given.strip()
    return given[len(_BEARER) :].strip() if given.lower().startswith(_BEARER) else ""
