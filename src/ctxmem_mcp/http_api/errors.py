"""What the service answers when it can't do what was asked: the same fault in each API's own words.

/v1/memory                 {"error": "messages must be a non-empty array"}
/v1/chat/sessions, spaces  {"success": false, "error": {"code": ..., "message": ...}, "meta": {...}}
/v1/messages               {"type": "error", "error": {"type": ..., "message": ...}}
everything else            {"error": {"message": ..., "type": ..., "code": ..., "param": null}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from ctxmem_mcp.errors import Conflict, CtxmemError, NotFound, Refused, Unavailable

if TYPE_CHECKING:
    from starlette.requests import Request

ENVELOPED = ("/v1/chat/sessions", "/v1/spaces")
# Status: the code of ours, and what Anthropic calls it.
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
_SERVER = ("internal_error", "api_error")


def failure(path: str, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to a request on this path that failed."""
    code, type_ = _CODES.get(status, _SERVER)
    return JSONResponse(_body(path, code, type_, message), status, dict(headers or {}))


def _body(path: str, code: str, type_: str, message: str) -> dict[str, Any]:
    if path == "/v1/memory":
        return {"error": message}
    if path.startswith(ENVELOPED):
        return {"success": False, "error": {"code": code, "message": message}}
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": type_, "message": message}}
    return {"error": {"message": message, "type": type_, "code": code, "param": None}}


def status_of(error: CtxmemError) -> int:
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, Refused):
        return 400
    if isinstance(error, Conflict):
        return 409
    return 503 if isinstance(error, Unavailable) else 500


async def failed(request: Request, error: Exception) -> JSONResponse:
    """Starlette's handler of errors that a caller can understand."""
    assert isinstance(error, CtxmemError)
    return failure(request.url.path, status_of(error), str(error))


async def refused(request: Request, error: Exception) -> JSONResponse:
    """Starlette's handler of its own refusals: no such route, no such method."""
    from starlette.exceptions import HTTPException

    assert isinstance(error, HTTPException)
    return failure(request.url.path, error.status_code, error.detail, headers=error.headers)


async def broken(request: Request, _: Exception) -> JSONResponse:
    """Starlette's handler of errors that nobody foresaw. What it was stands in the log only."""
    request_id = request.state.request_id
    message = f"This failed for a reason that only the server's log knows, beside request {request_id}."
    return failure(request.url.path, 500, message, headers={"x-request-id": request_id})


async def json_object(request: Request) -> dict[str, Any]:
    """The body of a request as a JSON object. Raises InvalidArgument."""
    import json

    from ctxmem_mcp.errors import InvalidArgument

    try:
        # Python's reader takes NaN and its like for numbers; JSON has none.
        body = json.loads(await request.body(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InvalidArgument("body", "is not JSON", "Send a JSON object as application/json.") from None
    if not isinstance(body, dict):
        raise InvalidArgument("body", "takes a JSON object", "For example {}.")
    return body


def _no_number(name: str) -> float:
    raise ValueError(name)
