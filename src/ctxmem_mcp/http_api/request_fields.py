"""Reading and validating request bodies and query parameters. Every function raises InvalidArgument for a bad value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from ctxmem_mcp import worker_pool
from ctxmem_mcp.errors import InvalidArgument

if TYPE_CHECKING:
    from starlette.requests import Request

PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX = 50, 200
OFFSET_MAX = 10**9
# Levels of nesting in a body: the limit of pydantic's JSON parser, which the MCP endpoint has too.
DEPTH_MAX = 200
# A larger body is parsed in a worker process: the parser holds the interpreter's lock, 10 ms for each megabyte.
LARGE_BODY_BYTES = 1_000_000


async def json_object(request: Request) -> dict[str, Any]:
    """Returns the request's body, which must be a JSON object."""
    raw = await request.body()
    try:
        body, too_deep = _parse(raw) if len(raw) <= LARGE_BODY_BYTES else await _parse_elsewhere(raw)
    except RecursionError:
        body, too_deep = None, True
    except ValueError:
        raise InvalidArgument("body", "must be JSON", "Send a JSON object as application/json.") from None
    if too_deep:
        rule = f"is nested more than {DEPTH_MAX} levels deep"
        raise InvalidArgument("body", rule, "Send nested data as text.")
    if not isinstance(body, dict):
        raise InvalidArgument("body", "must be a JSON object", "Send for example {}.")
    return body


def _parse(raw: bytes) -> tuple[object, bool]:
    """Returns what the JSON says, and whether it is nested too deeply."""
    # Python's parser accepts NaN and Infinity, which JSON does not have.
    return json.loads(raw, parse_constant=_reject_constant), _is_too_deep(raw)


async def _parse_elsewhere(raw: bytes) -> tuple[object, bool]:
    return await worker_pool.shared.run(_parse_in_steps, raw)


def _parse_in_steps(raw: bytes) -> worker_pool.Steps[tuple[object, bool]]:
    yield
    return _parse(raw)


def _is_too_deep(raw: bytes) -> bool:
    """Whether the JSON has too many levels for what is done with it later, which may be recursive."""
    if raw.count(b"[") + raw.count(b"{") <= DEPTH_MAX:
        return False
    try:
        from_json(raw)
    except ValueError as error:
        return "recursion" in str(error)
    return False


def optional_text(body: dict[str, Any], name: str, max_chars: int, *, min_chars: int = 0) -> str | None:
    """Returns a text field, or None if it is absent or null."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not min_chars <= len(value) <= max_chars:
        raise InvalidArgument(name, f"must be text of {min_chars} to {max_chars} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(name, "contains half a surrogate pair, which is not valid Unicode") from None
    return value


def required_text(body: dict[str, Any], name: str, max_chars: int, *, min_chars: int = 0) -> str:
    """Returns a text field, which must be present."""
    value = optional_text(body, name, max_chars, min_chars=min_chars)
    if value is None:
        raise InvalidArgument(name, "is required")
    return value


def integer(value: object, name: str, low: int, high: int) -> int:
    """Returns a whole number from `low` to `high`, given as a number or as decimal digits."""
    number = value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12:
        number = int(value)
    if isinstance(value, float) and value.is_integer():
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise InvalidArgument(name, f"must be a whole number from {low} to {high}")
    return number


def reject_unknown_fields(body: dict[str, Any], *names: str) -> None:
    """Rejects a body with a field other than these: a misspelt field must not be ignored silently."""
    for name in body:
        if name not in names:
            raise InvalidArgument(repr(name)[:80], "is an unknown field", f"The fields are {', '.join(names)}.")


def query_integer(request: Request, name: str, default: int, low: int, high: int) -> int:
    """Returns a whole number among the query parameters."""
    return integer(request.query_params.get(name, default), name, low, high)


def page_of(request: Request) -> tuple[int, int]:
    """Returns the query parameters `limit` and `offset` of a list request."""
    limit = query_integer(request, "limit", PAGE_LIMIT_DEFAULT, 1, PAGE_LIMIT_MAX)
    return limit, query_integer(request, "offset", 0, 0, OFFSET_MAX)


def _reject_constant(name: str) -> float:
    raise ValueError(name)
