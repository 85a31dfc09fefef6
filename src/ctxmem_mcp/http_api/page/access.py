"""Who may use the page, and which requests to change something come from it.

A server for several principals has tokens already; the page sends one as `Authorization: Bearer`. The server that
`ctxmem-mcp open` starts has none: its page exchanges a key, which works once, for a token that every read needs.

Every change also needs the page's own token in a header. Another site's page can't read that token, and can't send the
header without asking first.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.routing import Route

from ctxmem_mcp import __version__
from ctxmem_mcp.errors import Refused
from ctxmem_mcp.http_api.auth.principals import Identity, Principals
from ctxmem_mcp.http_api.auth.static_tokens import Tokens
from ctxmem_mcp.http_api.deps import DEFAULT_PRINCIPAL
from ctxmem_mcp.http_api.page.paths import API, SESSION_PATH
from ctxmem_mcp.http_api.request_fields import json_object, reject_unknown_fields, required_text

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import Request
    from starlette.responses import Response

    from ctxmem_mcp.team.base import TeamStore

CHANGE_HEADER = "x-page-token"
_KEY_CHARS_MAX = 200


class InvalidKey(Refused):
    """The key of the address was used already, or belongs to another server."""

    def __init__(self) -> None:
        super().__init__("This address was opened already. Run `ctxmem-mcp open` again for a new one.")


class NotFromPage(Refused):
    """A change without the token of the page."""

    def __init__(self) -> None:
        super().__init__(f"A change needs the page's token in the header {CHANGE_HEADER}. Reload the page.")


class PageAccess:
    """The tokens of the page.

    Attributes:
        key: what the first page exchanges for a session; None on a server that has no such key.
    """

    def __init__(self, key: str | None = None) -> None:
        self.key = key
        self._session = secrets.token_urlsafe(32) if key else None
        self._change_token = secrets.token_urlsafe(32)

    def share(self, secret: bytes) -> None:
        """Makes the page's token the same on all servers that have this secret: a proxy may send a change to any."""
        self._change_token = hmac.digest(secret, b"the page's token", "sha256").hex()

    def routes(self) -> list[Route]:
        """Returns the routes that hand out tokens."""
        return [
            Route(SESSION_PATH, self._open_session, methods=["POST"]),
            Route(f"{API}/start", self._start),
        ]

    def is_session(self, token: str) -> bool:
        """Returns whether a token is that of the session that the key was exchanged for."""
        return self._session is not None and secrets.compare_digest(token.encode(), self._session.encode())

    def check_change(self, request: Request) -> None:
        """Raises NotFromPage unless the request has the page's token."""
        sent = request.headers.get(CHANGE_HEADER, "")
        if not secrets.compare_digest(sent.encode(), self._change_token.encode()):
            raise NotFromPage

    async def _open_session(self, request: Request) -> Response:
        body = await json_object(request)
        reject_unknown_fields(body, "key")
        key = required_text(body, "key", _KEY_CHARS_MAX)
        if self.key is None or not secrets.compare_digest(key.encode(), self.key.encode()):
            raise InvalidKey
        self.key = None
        return JSONResponse({"token": self._session})

    async def _start(self, _: Request) -> Response:
        return JSONResponse({"version": __version__, "page_token": self._change_token})


class PagePrincipals(Principals):
    """Authenticates the requests of one page, by the session that its key was exchanged for."""

    def __init__(self, access: PageAccess, team: TeamStore) -> None:
        super().__init__(Tokens(()), None, team)
        self._access = access

    async def authenticate(self, headers: Headers) -> Identity | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._access.is_session(token.strip()):
            return None
        return Identity(DEFAULT_PRINCIPAL, frozenset(("authorization",)))
