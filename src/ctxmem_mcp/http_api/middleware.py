"""The middleware that a request passes before it reaches a route, outermost first.

RequestLogMiddleware      gives it an id, counts it, and logs its outcome (never its content)
HostOriginMiddleware      rejects foreign Host and Origin headers (DNS rebinding)
AuthenticationMiddleware  identifies the principal, applies its limits of requests, and looks up what it may do
LimitsMiddleware          limits the size of the body and the time until the response begins
QueueMiddleware           lets a few requests work at once (request_queue.py)
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.http_api.auth.access import in_space, no_such_space, space_of
from ctxmem_mcp.http_api.auth.oauth import METADATA_PATH, InsufficientScope
from ctxmem_mcp.http_api.errors import CLIENT_CLOSED, error_response, is_proxied, status_of
from ctxmem_mcp.http_api.page import paths as page_paths
from ctxmem_mcp.mcp_server.identity import CARD_PATH
from ctxmem_mcp.patterns import lazy_regex

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ctxmem_mcp.http_api.auth.access import AccessControl
    from ctxmem_mcp.http_api.auth.principals import Identity, Principals
    from ctxmem_mcp.http_api.concurrency import ConcurrencyLimiter
    from ctxmem_mcp.http_api.metrics import Metrics
    from ctxmem_mcp.http_api.rate_limit import RateLimiter
    from ctxmem_mcp.http_api.tenants import Tenants
    from ctxmem_mcp.team.access import Access

# Served without a token: they show nothing of a conversation.
PUBLIC_PATHS = ("/health", "/ready", "/openapi.json", CARD_PATH, METADATA_PATH)
# Served under any Host: a supervisor's probes use the process's address.
PROBE_PATHS = ("/health", "/ready")
# The access of a response that lasts is checked again after so long.
RECHECK_SECONDS = 1.0
# What clients of NanoGPT's API put before /v1.
API_PREFIX = "/api"
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_REQUEST_ID = lazy_regex(r"[A-Za-z0-9._-]{1,64}")
_SHOWN_CHARS = 80

_log = logging.getLogger("ctxmem_mcp.http")


class RequestLogMiddleware:
    """Logs and counts requests. A request's own X-Request-ID is adopted if it is well-formed."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        own_id = Headers(scope=scope).get("x-request-id", "")
        request_id = own_id if _REQUEST_ID.fullmatch(own_id) else f"req_{secrets.token_hex(8)}"
        started, status = time.perf_counter(), 0
        scope.setdefault("state", {}).update(request_id=request_id, started=started)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_request_id(MutableHeaders(scope=message), request_id)
            await send(message)

        self._metrics.in_progress += 1
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            # Not an error, and nobody is left to respond to. A response that has begun is broken off.
            if status:
                raise
        except Exception:
            status = status or 500
            raise
        finally:
            self._metrics.in_progress -= 1
            self._record(scope, request_id, status or CLIENT_CLOSED, time.perf_counter() - started)
        return None

    def _record(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = route_of(scope)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.observe(method, route, status, seconds)
        _log.info("request id=%s method=%s route=%s status=%d ms=%d", request_id, method, route, status, seconds * 1e3)


def _add_request_id(headers: MutableHeaders, request_id: str) -> None:
    """Adds the id under a name of its own if the upstream has sent one: its clients and support know only that."""
    headers["x-ctxmem-request-id" if "x-request-id" in headers else "x-request-id"] = request_id


def route_of(scope: Scope) -> str:
    """Returns the path with placeholders for its parameters, so that neither log nor metrics contain an id."""
    if scope.get("endpoint") is None:
        return "none"
    segments = scope["path"].split("/")
    for name, value in scope.get("path_params", {}).items():
        segments = [f"{{{name}}}" if segment == str(value) else segment for segment in segments]
    return "/".join(segments)


class HostOriginMiddleware:
    """Rejects requests whose Host or Origin is not among the allowed hosts. An empty list allows all."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str], metrics: Metrics) -> None:
        self._app, self._hosts, self._metrics = app, frozenset(hosts), metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._hosts and scope["path"] not in PROBE_PATHS:
            rejection = self._check(scope["path"], Headers(scope=scope))
            if rejection is not None:
                return await rejection(scope, receive, send)
        return await self._app(scope, receive, send)

    def _check(self, path: str, headers: Headers) -> Response | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_allowed(host):
            self._metrics.rejected["host"] += 1
            return error_response(path, 421, f"Host {_shown(host)} is not allowed. Add it to CTXMEM_ALLOWED_HOSTS.")
        if origin is not None and not self._is_allowed_origin(origin):
            self._metrics.rejected["origin"] += 1
            message = f"Origin {_shown(origin)} is not allowed. Add its host to CTXMEM_ALLOWED_HOSTS."
            return error_response(path, 403, message)
        return None

    def _is_allowed(self, host: str) -> bool:
        try:
            return (urlsplit(f"//{host}").hostname or "") in self._hosts
        except ValueError:
            return False

    def _is_allowed_origin(self, origin: str) -> bool:
        scheme, separator, host = origin.partition("://")
        return bool(separator) and scheme in ("http", "https") and self._is_allowed(host)


def _shown(value: str) -> str:
    return repr(value[:_SHOWN_CHARS])


class AuthenticationMiddleware:
    """Puts the access into the request's state, keeps its tenant open, and applies the principal's limits."""

    def __init__(
        self,
        app: ASGIApp,
        principals: Principals,
        control: AccessControl,
        tenants: Tenants,
        limiter: RateLimiter,
        concurrency: ConcurrencyLimiter,
        metrics: Metrics,
    ) -> None:
        self._app, self._principals, self._control, self._tenants = app, principals, control, tenants
        self._limiter, self._concurrency, self._metrics = limiter, concurrency, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        if scope["type"] != "http" or _is_public(path):
            return await self._app(scope, receive, send)
        try:
            identity = await self._principals.authenticate(Headers(scope=scope))
        except InsufficientScope:
            return await self._reject_scope(path)(scope, receive, send)
        except CtxmemError as error:
            return await error_response(path, status_of(error), str(error))(scope, receive, send)
        if identity is None:
            return await self._reject_token(path)(scope, receive, send)
        wait = self._limiter.acquire(identity.principal)
        if wait:
            return await self._reject_rate(path, wait)(scope, receive, send)
        with self._concurrency.enter(identity.principal) as admitted:
            if not admitted:
                return await self._reject_concurrency(path)(scope, receive, send)
            return await self._serve(identity, scope, receive, send)

    async def _serve(self, identity: Identity, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves an authenticated request, as far as its access reaches."""
        path, space = scope["path"], space_of(scope)
        try:
            access = await self._control.access_to(identity.principal, space)
        except CtxmemError as error:
            return await error_response(path, status_of(error), str(error))(scope, receive, send)
        if access is None:
            return await error_response(path, 404, no_such_space(space or ""))(scope, receive, send)
        scope.setdefault("state", {}).update(access=access, credential_headers=identity.headers)
        async with self._tenants.hold(access.tenant):
            response = _RevocableResponse(send, lambda: self._is_valid(scope, access))
            return await self._app(scope, receive, response)

    async def _is_valid(self, scope: Scope, access: Access) -> bool:
        """Returns whether a request that is in progress would be admitted now."""
        try:
            identity = await self._principals.authenticate(Headers(scope=scope))
        except InsufficientScope:
            return False
        if identity is None or identity.principal != access.principal:
            return False
        now = await self._control.access_to(identity.principal, access.space)
        return now is not None and now.tenant == access.tenant and now.right >= access.right

    def _reject_scope(self, path: str) -> Response:
        self._metrics.rejected["scope"] += 1
        server = self._principals.resource_server
        message = f"The token needs the scopes: {' '.join(server.scopes) if server else ''}."
        return error_response(path, 403, message, headers=self._challenge("insufficient_scope"))

    def _reject_token(self, path: str) -> Response:
        self._metrics.rejected["token"] += 1
        # "Invalid session" is what the documentation of /v1/memory promises.
        message = "Invalid session" if path == "/v1/memory" else "No valid token. Send Authorization: Bearer TOKEN."
        return error_response(path, 401, message, headers=self._challenge("invalid_token"))

    def _reject_rate(self, path: str, wait: int) -> Response:
        self._metrics.rejected["rate"] += 1
        message = f"Rate limit exceeded. Try again in {wait} s."
        return error_response(path, 429, message, headers={"Retry-After": str(wait)})

    def _reject_concurrency(self, path: str) -> Response:
        self._metrics.rejected["concurrency"] += 1
        message = (
            f"{self._concurrency.limit} requests of yours are in progress, which is the limit "
            "(CTXMEM_HTTP_CONCURRENT_REQUESTS). Try again when one has finished."
        )
        return error_response(path, 429, message, headers={"Retry-After": "1"})

    def _challenge(self, error: str) -> dict[str, str]:
        server = self._principals.resource_server
        return {"WWW-Authenticate": server.challenge(error) if server else f'Bearer error="{error}"'}


class AccessRevoked(Exception):
    """The access of a request was taken away while its response was sent. The connection is closed."""


class _RevocableResponse:
    """Sends a response. One that lasts is broken off if the request would no longer be admitted: a client that listens
    to changes receives none after its token was revoked."""

    def __init__(self, send: Send, is_valid: Callable[[], Awaitable[bool]]) -> None:
        self._send, self._is_valid = send, is_valid
        self._checked = time.monotonic()

    async def __call__(self, message: Message) -> None:
        if time.monotonic() - self._checked >= RECHECK_SECONDS:
            if not await self._is_valid():
                raise AccessRevoked
            self._checked = time.monotonic()
        await self._send(message)


def _is_public(path: str) -> bool:
    return path in PUBLIC_PATHS or path.startswith(f"{METADATA_PATH}/") or page_paths.is_public(path)


class _BodyTooLarge(Exception):
    pass


class _BodyTooLate(Exception):
    pass


class LimitsMiddleware:
    """Limits a body's bytes, and the seconds until the body has arrived and until the response begins."""

    def __init__(self, app: ASGIApp, body_bytes: int, seconds: float) -> None:
        self._app, self._bytes, self._seconds = app, body_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = scope["path"]
        if _content_length(scope) > self._bytes:
            return await self._too_large(path)(scope, receive, send)
        body = _LimitedBody(receive, self._bytes, self._seconds)
        deadline = asyncio.timeout(None if is_proxied(path) else self._seconds)
        response = _Response(send, body, deadline)
        try:
            async with deadline:
                await self._app(scope, body, response)
        except (_BodyTooLarge, _BodyTooLate, TimeoutError):
            if response.started:
                raise
        if not response.started:
            rejection = self._too_large(path) if body.too_large else self._too_late(path, body)
            await rejection(scope, receive, send)
        return None

    def _too_large(self, path: str) -> Response:
        return error_response(path, 413, f"A request body may have up to {self._bytes} bytes (CTXMEM_HTTP_BODY_BYTES).")

    def _too_late(self, path: str, body: _LimitedBody) -> Response:
        limit = f"{self._seconds:g} s (CTXMEM_HTTP_SECONDS)"
        if not body.too_late:
            return error_response(path, 504, f"No response within {limit}. Acknowledged data is kept.")
        message = f"The request body did not arrive within {limit}."
        return error_response(path, 408, message, headers={"Connection": "close"})


def _content_length(scope: Scope) -> int:
    length = Headers(scope=scope).get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() else 0


class _Response:
    """Sends a response; once it has begun, the deadline no longer applies. The inner app's response to a body that was
    cut off here is dropped."""

    def __init__(self, send: Send, body: _LimitedBody, deadline: asyncio.Timeout) -> None:
        self._send, self._body, self._deadline = send, body, deadline
        self.started = False

    async def __call__(self, message: Message) -> None:
        if not self.started:
            if self._body.too_large or self._body.too_late:
                return
            self.started = True
            self._deadline.reschedule(None)
        await self._send(message)


class _LimitedBody:
    """Receives a request body of limited size before a deadline."""

    def __init__(self, receive: Receive, limit: int, seconds: float) -> None:
        self._receive, self._left = receive, limit
        self._deadline = asyncio.get_running_loop().time() + seconds
        self.complete = self.too_large = self.too_late = False

    async def __call__(self) -> Message:
        if self.complete:
            return await self._receive()
        message = await self._before_deadline(self._receive)
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self._left < 0:
                self.too_large = True
                raise _BodyTooLarge
        return message

    async def _before_deadline(self, receive: Callable[[], Awaitable[Message]]) -> Message:
        # Set during the wait, so that the cause is known whichever timeout fires first.
        self.too_late = True
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await receive()
        except TimeoutError:
            raise _BodyTooLate from None
        self.too_late = False
        return message


class PathPrefixMiddleware:
    """Serves /spaces/NAME/... as /... in a shared space, and /api/v1/... as /v1/..., for clients of NanoGPT's API."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = in_space(scope)
        if scope["type"] == "http" and scope["path"].startswith(f"{API_PREFIX}/v1/"):
            path, raw = scope["path"].removeprefix(API_PREFIX), scope.get("raw_path", b"")
            scope = {**scope, "path": path, "raw_path": raw.removeprefix(API_PREFIX.encode())}
        await self._app(scope, receive, send)
