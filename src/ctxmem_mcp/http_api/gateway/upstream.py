"""Sending requests upstream, and which headers are forwarded in either direction."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING

from ctxmem_mcp.http_api.gateway.memory_options import DAYS_HEADERS, HEADER

if TYPE_CHECKING:
    import httpx2

# Headers of the connection, not of the message.
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
     "upgrade", "host", "content-length", "expect")
)  # fmt: skip
# Not forwarded to the upstream: this server's own options, and what identifies the client or its page.
_NOT_SENT = _HOP_BY_HOP | {HEADER, *DAYS_HEADERS, "accept-encoding", "cookie", "forwarded", "origin", "referer"}
_NOT_SENT_PREFIXES = ("x-ctxmem-", "x-forwarded-", "x-real-")
# Not forwarded to the client. The body is relayed decoded, so its encoding no longer applies.
_NOT_RETURNED = _HOP_BY_HOP | {"content-encoding", "set-cookie", "server", "date"}
_KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")
CONNECT_SECONDS = 10.0
# Idle connections are closed after IDLE_SECONDS. Many servers close theirs after five seconds, some without notice; a
# request that is sent at that moment can't be distinguished from one that was processed, and must not be sent twice.
IDLE_SECONDS, IDLE_MAX = 4.0, 32


Headers = list[tuple[str, str]]


def request_headers(
    received: Iterable[tuple[str, str]], credentials: Collection[str], key: Mapping[str, str]
) -> Headers:
    """Returns the headers of the upstream request.

    Args:
        received: the client's headers.
        credentials: lower-case names of the headers that carry this server's tokens, which are removed.
        key: the header with the configured key, which replaces the client's, or nothing.
    """
    lower = [(name.lower(), value) for name, value in received]
    headers = [
        (name, value)
        for name, value in lower
        if name not in _NOT_SENT and not name.startswith(_NOT_SENT_PREFIXES) and name not in credentials
    ]
    if key:
        headers = [(name, value) for name, value in headers if name not in _KEY_HEADERS]
    return [*headers, *key.items(), ("accept-encoding", "identity")]


def response_headers(received: Iterable[tuple[str, str]]) -> Headers:
    """Returns the headers of an upstream response that are relayed to the client."""
    return [(name.lower(), value) for name, value in received if name.lower() not in _NOT_RETURNED]


class Upstream:
    """Sends requests over pooled connections. It is closed with its app.

    A connection that the upstream has closed is detected before it is used. No request is ever sent twice.
    """

    def __init__(self, seconds: float, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        """seconds: time limit of each read and write. transport: replaces the network."""
        self._seconds, self._transport = seconds, transport
        self._client: httpx2.AsyncClient | None = None
        self._lock = asyncio.Lock()

    async def send(self, method: str, url: str, query: str, headers: Headers, content: bytes | None) -> httpx2.Response:
        """Sends a request.

        Returns:
            The response, whose body the caller reads, and which the caller closes.

        Raises:
            httpx2.HTTPError: there was no response.
        """
        client = await self._get_client()
        address = f"{url}?{query}" if query else url
        request = client.build_request(method, address, headers=headers, content=content)
        return await client.send(request, stream=True)

    async def close(self) -> None:
        """Closes all connections. The next request opens a new one."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _get_client(self) -> httpx2.AsyncClient:
        async with self._lock:
            if self._client is None:
                # In a thread, because loading the certificates takes a while.
                self._client = await asyncio.to_thread(self._new_client)
            return self._client

    def _new_client(self) -> httpx2.AsyncClient:
        import httpx2

        return httpx2.AsyncClient(
            transport=self._transport,
            timeout=httpx2.Timeout(self._seconds, connect=CONNECT_SECONDS),
            follow_redirects=False,
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=IDLE_MAX, keepalive_expiry=IDLE_SECONDS
            ),
            # No cookies: those set for one principal would be sent with another's request.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"user-agent": "ctxmem-mcp"},
        )
