"""What a request passes before it reaches a route, outermost first.

Watched        gives it an id, counts it, logs how it ended (never what was said)
Addressed      refuses names and pages from elsewhere (DNS rebinding)
Authenticated  finds out whose it is, and whether that one asks too often
Bounded        refuses what is too large, gives up what takes too long
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from ctxmem_mcp.http_api.auth.oauth import METADATA_PATH, ScopeMissing
from ctxmem_mcp.http_api.errors import failure

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ctxmem_mcp.http_api.auth.principals import Principals
    from ctxmem_mcp.http_api.metrics import Metrics
    from ctxmem_mcp.http_api.rate_limit import Rates
    from ctxmem_mcp.http_api.tenants import Rooms

# Told to everybody: no conversation stands in it.
PUBLIC_PATHS = ("/health", "/ready", "/openapi.json", METADATA_PATH)
# Whoever looks after the process asks by its address, not by a name.
PROBES = ("/health", "/ready")
# These answer when their upstream does and have a time limit of their own.
PATIENT_PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/models")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_log = logging.getLogger("ctxmem_mcp.http")


class Watched:
    """Log and figures. A request's own X-Request-ID is taken over."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"
        begun, status = time.perf_counter(), 0
        scope.setdefault("state", {}).update(request_id=request_id, begun=begun)

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _name_request(MutableHeaders(scope=message), request_id)
            await send(message)

        self._metrics.under_way += 1
        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            # Nobody is left to tell, and nothing went wrong here. An answer that has begun is broken off.
            if status:
                raise
        except Exception:
            status = status or 500
            raise
        finally:
            self._metrics.under_way -= 1
            self._ended(scope, request_id, status, time.perf_counter() - begun)
        return None

    def _ended(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        # 499: whoever asked went away before there was an answer.
        route, status = route_of(scope), status or 499
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.done(method, route, status, seconds)
        _log.info("request id=%s method=%s route=%s status=%d ms=%d", request_id, method, route, status, seconds * 1e3)


def _name_request(headers: MutableHeaders, request_id: str) -> None:
    """An upstream's own id of the request stays: its clients and its support know no other."""
    headers["x-ctxmem-request-id" if "x-request-id" in headers else "x-request-id"] = request_id


_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def route_of(scope: Scope) -> str:
    """The path with names for what varies in it, so that neither a log nor a metric says an id."""
    if scope.get("endpoint") is None:
        return "none"
    steps = scope["path"].split("/")
    for name, value in scope.get("path_params", {}).items():
        steps = [f"{{{name}}}" if step == str(value) else step for step in steps]
    return "/".join(steps)


class Addressed:
    """Names that this server is known by; empty: any."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str], metrics: Metrics) -> None:
        self._app, self._hosts, self._metrics = app, frozenset(hosts), metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._hosts and scope["path"] not in PROBES:
            headers = Headers(scope=scope)
            if not self._ours(headers.get("host", "")):
                self._metrics.refused["host"] += 1
                return await failure(scope["path"], 421, "This server is not known by that name.")(scope, receive, send)
            origin = headers.get("origin")
            if origin is not None and not self._from_here(origin):
                self._metrics.refused["origin"] += 1
                return await failure(scope["path"], 403, "Pages from elsewhere may not ask.")(scope, receive, send)
        return await self._app(scope, receive, send)

    def _ours(self, host: str) -> bool:
        try:
            return (urlsplit(f"//{host}").hostname or "") in self._hosts
        except ValueError:
            return False

    def _from_here(self, origin: str) -> bool:
        scheme, colon, rest = origin.partition("://")
        return bool(colon) and scheme in ("http", "https") and self._ours(rest)


class Authenticated:
    """Puts the principal into the request's state, keeps its room open, and holds it to its rate."""

    def __init__(self, app: ASGIApp, principals: Principals, rooms: Rooms, rates: Rates, metrics: Metrics) -> None:
        self._app, self._principals, self._rooms, self._rates = app, principals, rooms, rates
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _public(scope["path"]):
            return await self._app(scope, receive, send)
        try:
            asker = await self._principals.asking(Headers(scope=scope))
        except ScopeMissing:
            self._metrics.refused["scope"] += 1
            message = "The token lacks a scope that this server asks for."
            headers = self._challenge("insufficient_scope")
            return await failure(scope["path"], 403, message, headers=headers)(scope, receive, send)
        if asker is None:
            self._metrics.refused["token"] += 1
            answer = failure(scope["path"], 401, _unknown(scope["path"]), headers=self._challenge("invalid_token"))
            return await answer(scope, receive, send)
        wait = self._rates.wait(asker.principal)
        if wait:
            self._metrics.refused["rate"] += 1
            message = f"Rate limit exceeded. Try again in {wait} s."
            return await failure(scope["path"], 429, message, headers={"Retry-After": str(wait)})(scope, receive, send)
        scope.setdefault("state", {}).update(principal=asker.principal, credential_headers=asker.headers)
        async with self._rooms.used(asker.principal):
            return await self._app(scope, receive, send)

    def _challenge(self, error: str) -> dict[str, str]:
        authority = self._principals.authority
        return {"WWW-Authenticate": authority.challenge(error) if authority else f'Bearer error="{error}"'}


def _public(path: str) -> bool:
    return path in PUBLIC_PATHS or path.startswith(f"{METADATA_PATH}/")


def _unknown(path: str) -> str:
    return "Invalid session" if path == "/v1/memory" else "No token that this server knows. Send Authorization: Bearer."


class _TooLarge(Exception):
    pass


class _TooSlow(Exception):
    pass


class Bounded:
    """Bytes of a body; seconds until it has come, and until its answer begins."""

    def __init__(self, app: ASGIApp, body_bytes: int, seconds: float) -> None:
        self._app, self._bytes, self._seconds = app, body_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = scope["path"]
        if self._declared(scope) > self._bytes:
            return await self._too_large(path)(scope, receive, send)
        coming = _Coming(receive, self._bytes, self._seconds)
        clock = asyncio.timeout(None if path.startswith(PATIENT_PATHS) else self._seconds)
        answer = _Answer(send, coming, clock)
        try:
            async with clock:
                await self._app(scope, coming, answer)
        except (_TooLarge, _TooSlow, TimeoutError):
            if answer.began:
                raise
        if not answer.began:
            late = self._too_large(path) if coming.too_large else self._too_slow(path, coming)
            await late(scope, receive, send)
        return None

    def _declared(self, scope: Scope) -> int:
        length = Headers(scope=scope).get("content-length", "0")
        return int(length) if length.isascii() and length.isdigit() else 0

    def _too_large(self, path: str) -> Response:
        return failure(path, 413, f"A request takes up to {self._bytes} bytes.")

    def _too_slow(self, path: str, coming: _Coming) -> Response:
        if not coming.too_slow:
            return failure(path, 504, f"There was no answer in {self._seconds:g} s. What was acknowledged is kept.")
        message = f"The request did not come in {self._seconds:g} s."
        return failure(path, 408, message, headers={"Connection": "close"})


class _Answer:
    """An answer as it goes: once it has begun it may take its time. What an inner app makes of a body that broke off
    because it was too large is not sent."""

    def __init__(self, send: Send, coming: _Coming, clock: asyncio.Timeout) -> None:
        self._send, self._coming, self._clock = send, coming, clock
        self.began = False

    async def __call__(self, message: Message) -> None:
        if not self.began:
            if self._coming.too_large or self._coming.too_slow:
                return
            self.began = True
            self._clock.reschedule(None)
        await self._send(message)


class _Coming:
    """A body as it comes: counted, and by a deadline."""

    def __init__(self, receive: Receive, limit: int, seconds: float) -> None:
        self._receive, self._left = receive, limit
        self._by = asyncio.get_running_loop().time() + seconds
        self.whole = self.too_large = self.too_slow = False

    async def __call__(self) -> Message:
        if self.whole:
            return await self._receive()
        message = await self._by_the_deadline(self._receive)
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
            if self._left < 0:
                self.too_large = True
                raise _TooLarge
        return message

    async def _by_the_deadline(self, receive: Callable[[], Awaitable[Message]]) -> Message:
        # Set while it is waited for, so that whichever clock rings knows what was late.
        self.too_slow = True
        try:
            async with asyncio.timeout_at(self._by):
                message = await receive()
        except TimeoutError:
            raise _TooSlow from None
        self.too_slow = False
        return message
