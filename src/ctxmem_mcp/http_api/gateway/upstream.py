"""The way to the upstream: what of a request's headers goes there, what of an answer's comes back, and the sending."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING

from ctxmem_mcp.http_api.gateway.memory_options import DAYS_HEADERS, HEADER

if TYPE_CHECKING:
    import httpx2

# Of the connection, not of what is said; and what is none of an upstream's business.
_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
     "upgrade", "host", "content-length", "expect")
)  # fmt: skip
_NOT_SENT = _HOP | {HEADER, *DAYS_HEADERS, "accept-encoding", "cookie", "forwarded", "origin", "referer"}
_NOT_SENT_PREFIXES = ("x-ctxmem-", "x-forwarded-", "x-real-")
# The body comes back as it is read, not as it was packed on the way.
_NOT_ANSWERED = _HOP | {"content-encoding", "set-cookie", "server", "date"}
_KEYS = ("authorization", "x-api-key")
CONNECT_SECONDS = 10.0
# An idle connection is kept no longer than this. Many servers close theirs after five seconds, some without a word: a
# request that meets the closing on its way can't be told from one that was taken, and must not be sent twice.
IDLE_SECONDS, IDLE_MAX = 4.0, 32


Headers = list[tuple[str, str]]


def headers_for(given: Iterable[tuple[str, str]], credentials: Collection[str], key: Mapping[str, str]) -> Headers:
    """credentials: the headers with tokens of ours. key: the header with the configured key, in place of others."""
    kept = [(name.lower(), value) for name, value in given]
    left = [
        (name, value)
        for name, value in kept
        if name not in _NOT_SENT and not name.startswith(_NOT_SENT_PREFIXES) and name not in credentials
    ]
    if key:
        left = [(name, value) for name, value in left if name not in _KEYS]
    return [*left, *key.items(), ("accept-encoding", "identity")]


def headers_back(given: Iterable[tuple[str, str]]) -> Headers:
    return [(name.lower(), value) for name, value in given if name.lower() not in _NOT_ANSWERED]


class Upstream:
    """Sends requests on, over connections that are kept a moment for the next one. Closed with the app it belongs to.

    What the other side has closed meanwhile is seen before it is used. Nothing is ever sent a second time.
    """

    def __init__(self, seconds: float, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        """transport: another way than the network's."""
        self._seconds, self._transport = seconds, transport
        self._client: httpx2.AsyncClient | None = None
        self._making = asyncio.Lock()

    async def send(self, method: str, url: str, query: str, headers: Headers, content: bytes | None) -> httpx2.Response:
        """The answer's beginning; its body is still to be read, and it is to be closed. Raises httpx2.HTTPError."""
        client = await self._opened()
        address = f"{url}?{query}" if query else url
        request = client.build_request(method, address, headers=headers, content=content)
        return await client.send(request, stream=True)

    async def close(self) -> None:
        """Hangs up. Whoever sends afterwards begins anew."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _opened(self) -> httpx2.AsyncClient:
        async with self._making:
            if self._client is None:
                # Reading the certificates takes a while.
                self._client = await asyncio.to_thread(self._made)
            return self._client

    def _made(self) -> httpx2.AsyncClient:
        import httpx2

        return httpx2.AsyncClient(
            transport=self._transport,
            timeout=httpx2.Timeout(self._seconds, connect=CONNECT_SECONDS),
            follow_redirects=False,
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=IDLE_MAX, keepalive_expiry=IDLE_SECONDS
            ),
            # No cookie is kept: what one principal was given would go out with another's request.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"user-agent": "ctxmem-mcp"},
        )
