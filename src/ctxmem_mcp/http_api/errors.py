"""Error responses, in the format of the API that was called.

/v1/memory                 {"error": "messages must be a non-empty array"}
/v1/chat/sessions, spaces  {"success": false, "error": {"code": ..., "message": ...}, "meta": {...}}
/v1/messages               {"type": "error", "error": {"type": ..., "message": ...}}
everything else            {"error": {"message": ..., "type": ..., "code": ..., "param": null}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from ctxmem_mcp.errors import AccessDenied, Conflict, CtxmemError, LimitReached, NotFound, Refused, Unavailable

if TYPE_CHECKING:
    from starlette.requests import Request

# Those of upstreams' APIs; Gemini's have versions of their own.
UPSTREAM_PATHS = ("/v1/", "/v1beta/", "/v1alpha/", "/v1internal:")
# This server's own; all other paths below /v1 are those of an upstream's API.
OWN_PATHS = ("/v1/memory", "/v1/chat/sessions", "/v1/spaces", "/v1/usage")
ENVELOPED_PATHS = ("/v1/chat/sessions", "/v1/spaces")
# HTTP status: this server's code, and Anthropic's error type.
_CODES = {
    400: ("invalid_request", "invalid_request_error"),
    401: ("unauthorized", "authentication_error"),
    403: ("forbidden", "permission_error"),
    404: ("not_found", "not_found_error"),
    405: ("method_not_allowed", "invalid_request_error"),
    408: ("request_timeout", "timeout_error"),
    409: ("conflict", "invalid_request_error"),
    413: ("request_too_large", "request_too_large"),
    421: ("misdirected_request", "invalid_request_error"),
    429: ("rate_limited", "rate_limit_error"),
    503: ("unavailable", "overloaded_error"),
    504: ("timeout", "timeout_error"),
}
# nginx's status for a client that closed the connection before there was a response.
CLIENT_CLOSED = 499
_INTERNAL = ("internal_error", "api_error")


def is_proxied(path: str) -> bool:
    """Returns whether a path waits for an upstream, which has a time limit of its own."""
    return path.startswith(UPSTREAM_PATHS) and not path.startswith(OWN_PATHS)


def error_response(path: str, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Returns the error response to a request for this path."""
    code, type_ = _CODES.get(status, _INTERNAL)
    return JSONResponse(_body(path, code, type_, message), status, dict(headers or {}))


def _body(path: str, code: str, type_: str, message: str) -> dict[str, Any]:
    if path == "/v1/memory":
        return {"error": message}
    if path.startswith(ENVELOPED_PATHS):
        return {"success": False, "error": {"code": code, "message": message}}
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": type_, "message": message}}
    return {"error": {"message": message, "type": type_, "code": code, "param": None}}


def status_of(error: CtxmemError) -> int:
    """Returns the HTTP status for an error."""
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, Refused):
        return 400
    if isinstance(error, AccessDenied):
        return 403
    if isinstance(error, LimitReached):
        return 413
    if isinstance(error, Conflict):
        return 409
    return 503 if isinstance(error, Unavailable) else 500


async def handle_ctxmem_error(request: Request, error: Exception) -> JSONResponse:
    """Starlette's exception handler for errors that a caller can act on."""
    assert isinstance(error, CtxmemError)
    return error_response(request.url.path, status_of(error), str(error))


async def handle_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Starlette's exception handler for its own errors, such as an unknown route or method."""
    from starlette.exceptions import HTTPException

    assert isinstance(error, HTTPException)
    return error_response(request.url.path, error.status_code, error.detail, headers=error.headers)


async def handle_unexpected_error(request: Request, _: Exception) -> JSONResponse:
    """Starlette's exception handler for all other errors. The response gives no details; the log has them."""
    request_id = request.state.request_id
    message = f"Internal error. The server's log has the details, under request {request_id}."
    return error_response(request.url.path, 500, message, headers={"x-request-id": request_id})


def exception_handlers() -> dict[Any, Any]:
    """Returns Starlette's exception handlers of every application that is served."""
    from starlette.exceptions import HTTPException

    return {
        CtxmemError: handle_ctxmem_error,
        HTTPException: handle_http_exception,
        Exception: handle_unexpected_error,
    }
