"""Tokens of an OAuth authorization server: JWTs that it signed for this server, checked with its published keys.

We are the resource server only: no login, no token is issued or kept here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from ctxmem_mcp.errors import InvalidArgument

if TYPE_CHECKING:
    from jwt import PyJWK

    from ctxmem_mcp.settings import Settings

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
LEEWAY_SECONDS = 30
# Keys are fetched again after this long; and for one that is not among them, but not more often than this.
KEYS_FRESH_SECONDS, KEYS_AGAIN_SECONDS = 600, 30
FETCH_SECONDS = 10
METADATA_PATH = "/.well-known/oauth-protected-resource"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Authority:
    """The authorization server, and what it calls us: its tokens' audience, which is the URL of our MCP endpoint.

    scopes: all of which a token must have.
    """

    issuer: str
    audience: str
    jwks_url: str
    scopes: tuple[str, ...] = ()

    @property
    def metadata_url(self) -> str:
        """Where a client finds out who issues tokens for us (RFC 9728)."""
        parts = urlsplit(self.audience)
        return urlunsplit((parts.scheme, parts.netloc, METADATA_PATH + parts.path.rstrip("/"), "", ""))

    @property
    def metadata(self) -> dict[str, Any]:
        return {
            "resource": self.audience,
            "authorization_servers": [self.issuer],
            "bearer_methods_supported": ["header"],
            "resource_name": "ctxmem-mcp",
            **({"scopes_supported": list(self.scopes)} if self.scopes else {}),
        }

    def challenge(self, error: str) -> str:
        """What a client that is turned away needs to know: what was wrong, what to ask for and where."""
        scope = f', scope="{" ".join(self.scopes)}"' if self.scopes else ""
        return f'Bearer error="{error}"{scope}, resource_metadata="{self.metadata_url}"'


def authority_of(settings: Settings) -> Authority | None:
    """The authorization server of the settings, None where they name none. Raises InvalidArgument for half of one."""
    given = (settings.oauth_issuer, settings.oauth_audience, settings.oauth_jwks_url)
    if not any(given):
        if settings.oauth_scopes:
            raise InvalidArgument(
                "CTXMEM_OAUTH_SCOPES", "says what JWTs must be good for, and none are taken", "Set CTXMEM_OAUTH_ISSUER."
            )
        return None
    issuer, audience, jwks_url = given
    if not (issuer and audience and jwks_url):
        raise InvalidArgument(
            "OAuth",
            "needs CTXMEM_OAUTH_ISSUER, CTXMEM_OAUTH_AUDIENCE and CTXMEM_OAUTH_JWKS_URL, all three",
            "Set those that are missing, or none.",
        )
    return Authority(issuer, audience, jwks_url, tuple((settings.oauth_scopes or "").split()))


class ScopeMissing(Exception):
    """A token that is valid, and not for what is asked here."""


class Verifier:
    """Says whose a JWT is. Keys are fetched in a thread, and kept."""

    def __init__(self, authority: Authority, clock: Callable[[], float] = time.monotonic) -> None:
        from jwt import PyJWKClient

        self._authority, self._clock = authority, clock
        self._client = PyJWKClient(authority.jwks_url, cache_jwk_set=False, timeout=FETCH_SECONDS)
        self._keys: dict[str | None, PyJWK] = {}
        self._fetched: float | None = None
        self._one = asyncio.Lock()

    async def subject_of(self, token: str) -> str | None:
        """The token's subject, None where it is not for us, not valid any more or not signed by who should have.

        Raises ScopeMissing for one that is all that, and lacks a scope.
        """
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                return None
            key = await self._key(header.get("kid"))
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[header["alg"]],
                issuer=self._authority.issuer,
                audience=self._authority.audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            # What was wrong, never what was sent.
            _log.info("A token was refused: %s", type(error).__name__)
            return None
        if not set(self._authority.scopes) <= _scopes_of(claims):
            raise ScopeMissing
        return str(claims["sub"]) or None

    async def _key(self, kid: str | None) -> PyJWK | None:
        async with self._one:
            age = None if self._fetched is None else self._clock() - self._fetched
            if age is None or age > KEYS_FRESH_SECONDS or (kid not in self._keys and age > KEYS_AGAIN_SECONDS):
                await self._fetch()
            if kid is None and len(self._keys) == 1:
                return next(iter(self._keys.values()))
            return self._keys.get(kid)

    async def _fetch(self) -> None:
        import jwt

        # Noted before it is tried: an authorization server that is down is not asked at every request.
        self._fetched = self._clock()
        try:
            fetched = await asyncio.to_thread(self._client.get_signing_keys)
        # PyJWT lets Python's own errors through where an answer breaks off or is no JSON.
        except (jwt.PyJWTError, OSError, ValueError) as error:
            _log.warning("The keys of %s can't be fetched: %s", self._authority.issuer, error)
            return
        self._keys = {key.key_id: key for key in fetched}


def _scopes_of(claims: Mapping[str, Any]) -> set[str]:
    """`scope`, as RFC 9068 has it, or `scp`, as some issuers do: a text with spaces between, or a list."""
    given = [claims.get("scope"), claims.get("scp")]
    texts = [text for part in given for text in (part if isinstance(part, list) else [part]) if isinstance(text, str)]
    return {scope for text in texts for scope in text.split()}
