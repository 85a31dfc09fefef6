"""OAuth access tokens: JWTs that an authorization server signed for this server, verified with its published keys.

This server is only the resource server: it has no login, and neither issues nor stores tokens.
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
# Keys are fetched again after KEYS_TTL_SECONDS, and sooner for an unknown key id, but at most every KEYS_RETRY_SECONDS.
KEYS_TTL_SECONDS, KEYS_RETRY_SECONDS = 600, 30
FETCH_SECONDS = 10
METADATA_PATH = "/.well-known/oauth-protected-resource"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResourceServer:
    """This server as OAuth sees it, and the authorization server that issues tokens for it.

    Attributes:
        issuer: the `iss` claim of valid tokens.
        audience: the `aud` claim of valid tokens: the URL of the MCP endpoint as clients know it.
        jwks_url: URL of the issuer's signing keys.
        scopes: the scopes that a token must have, all of them.
    """

    issuer: str
    audience: str
    jwks_url: str
    scopes: tuple[str, ...] = ()

    @property
    def metadata_url(self) -> str:
        """URL of the metadata that names the issuer to clients (RFC 9728)."""
        parts = urlsplit(self.audience)
        return urlunsplit((parts.scheme, parts.netloc, METADATA_PATH + parts.path.rstrip("/"), "", ""))

    @property
    def metadata(self) -> dict[str, Any]:
        """The protected resource metadata (RFC 9728)."""
        return {
            "resource": self.audience,
            "authorization_servers": [self.issuer],
            "bearer_methods_supported": ["header"],
            "resource_name": "ctxmem-mcp",
            **({"scopes_supported": list(self.scopes)} if self.scopes else {}),
        }

    def challenge(self, error: str) -> str:
        """Returns the WWW-Authenticate header of a rejected request: the error, the scopes, and the metadata's URL."""
        scope = f', scope="{" ".join(self.scopes)}"' if self.scopes else ""
        return f'Bearer error="{error}"{scope}, resource_metadata="{self.metadata_url}"'


def resource_server_of(settings: Settings) -> ResourceServer | None:
    """Returns the OAuth configuration of the settings, or None if there is none.

    Raises:
        InvalidArgument: the settings are incomplete.
    """
    configured = (settings.oauth_issuer, settings.oauth_audience, settings.oauth_jwks_url)
    if not any(configured):
        if settings.oauth_scopes:
            raise InvalidArgument(
                "CTXMEM_OAUTH_SCOPES", "is set, but OAuth is not configured", "Set CTXMEM_OAUTH_ISSUER."
            )
        return None
    issuer, audience, jwks_url = configured
    if not (issuer and audience and jwks_url):
        raise InvalidArgument(
            "OAuth",
            "needs CTXMEM_OAUTH_ISSUER, CTXMEM_OAUTH_AUDIENCE and CTXMEM_OAUTH_JWKS_URL, all three",
            "Set the missing ones, or unset all.",
        )
    return ResourceServer(issuer, audience, jwks_url, tuple((settings.oauth_scopes or "").split()))


class InsufficientScope(Exception):
    """The token is valid, but lacks a required scope."""


class TokenVerifier:
    """Verifies JWTs. Keys are fetched in a thread and cached."""

    def __init__(self, resource_server: ResourceServer, clock: Callable[[], float] = time.monotonic) -> None:
        from jwt import PyJWKClient

        self._resource_server, self._clock = resource_server, clock
        self._client = PyJWKClient(resource_server.jwks_url, cache_jwk_set=False, timeout=FETCH_SECONDS)
        self._keys: dict[str | None, PyJWK] = {}
        self._fetched: float | None = None
        self._lock = asyncio.Lock()

    async def subject_of(self, token: str) -> str | None:
        """Returns the subject of a valid token, or None if its audience, times, issuer or signature are wrong.

        Raises:
            InsufficientScope: the token is valid, but lacks a required scope.
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
                issuer=self._resource_server.issuer,
                audience=self._resource_server.audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            # The kind of error only, never the token.
            _log.info("An OAuth token was rejected: %s", type(error).__name__)
            return None
        if not set(self._resource_server.scopes) <= _scopes_of(claims):
            raise InsufficientScope
        return str(claims["sub"]) or None

    async def _key(self, kid: str | None) -> PyJWK | None:
        async with self._lock:
            age = None if self._fetched is None else self._clock() - self._fetched
            if age is None or age > KEYS_TTL_SECONDS or (kid not in self._keys and age > KEYS_RETRY_SECONDS):
                await self._fetch()
            if kid is None and len(self._keys) == 1:
                return next(iter(self._keys.values()))
            return self._keys.get(kid)

    async def _fetch(self) -> None:
        import jwt

        # Set before the attempt, so that an unreachable authorization server is not contacted at every request.
        self._fetched = self._clock()
        try:
            fetched = await asyncio.to_thread(self._client.get_signing_keys)
        # PyJWT does not wrap Python's own errors when a response is truncated or is not JSON.
        except (jwt.PyJWTError, OSError, ValueError) as error:
            _log.warning("Can't fetch the signing keys of %s: %s", self._resource_server.issuer, error)
            return
        self._keys = {key.key_id: key for key in fetched}


def _scopes_of(claims: Mapping[str, Any]) -> set[str]:
    """Returns the scopes of a token: `scope` (RFC 9068) or `scp` (some issuers), each text or a list."""
    values = [claims.get("scope"), claims.get("scp")]
    texts = [
        text for value in values for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)
    ]
    return {scope for text in texts for scope in text.split()}
