"""Reads JSON-RPC 2.0 messages, and writes the error response to anything else. Pure: bytes in, a message out.

The SDK drops a message that it can't parse, and takes one whose id is null, fractional or a boolean for a notification.
In both cases the sender would wait forever. Here every message that is owed a response gets a message or a rejection.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from typing import Any

from mcp.types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError
from pydantic_core import from_json

from ctxmem_mcp.mcp_server.stdio_lines import strip_bom
from ctxmem_mcp.patterns import lazy_regex

# A larger batch gets one error for all its requests: the response must not be many times as long as the request.
BATCH_MAX = 1_000
# How far an id is looked for in a message that no parser accepts: 60 ms.
_SCANNED_TOKENS = 250_000

_REFUSED = "Nothing was done."
NOT_JSON = f"The message is not valid JSON. {_REFUSED} Send one JSON object per message."
NOT_UTF8 = f"The message is not valid UTF-8. {_REFUSED} Encode it as UTF-8 and send it again."
NOT_UNICODE = (
    "The message is JSON but not valid Unicode: it contains half of a surrogate pair, such as an emoji cut in two. "
    f"{_REFUSED} Replace it (with U+FFFD) and send the message again."
)
TOO_DEEP = f"The message is nested more than 200 levels deep. {_REFUSED} Send nested data as text."
NO_BATCHES = (
    f"Batches are not supported; MCP has none since its revision 2025-06-18. {_REFUSED} Send each message on its own."
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """What to send back instead of handling a message: JSON text, on one line."""

    text: str


def parse_message(data: bytes) -> JSONRPCMessage | Rejection | None:
    """Parses one message.

    Returns:
        A message; a rejection if it is not one and its sender may wait for a response; None if there is nothing to do.
    """
    data = strip_bom(data)
    if not data:
        return None
    try:
        message = jsonrpc_message_adapter.validate_json(data, by_name=False)
    except ValidationError:
        return _reject(data)
    return message if _is_unambiguous(message, data) else _reject(data)


def _is_unambiguous(message: JSONRPCMessage, data: bytes) -> bool:
    """Whether the message is of the kind that the SDK takes it for: it ignores a member that does not fit the kind."""
    if isinstance(message, JSONRPCNotification):
        return not _has_member(data, "id")
    if isinstance(message, JSONRPCResponse | JSONRPCError):
        return not _has_member(data, "method")
    return True


def _has_member(data: bytes, name: str) -> bool:
    # The key may be written with escapes. Parsing is left to those that may have it, because it takes time.
    return (f'"{name}"'.encode() in data or b"\\u" in data) and name in json.loads(data)


# ---------------------------------------------------------------- rejections


def _reject(data: bytes) -> Rejection | None:
    try:
        value = json.loads(data.decode(), parse_constant=_reject_constant)
        fault = _json_fault(data, value)
    except RecursionError:
        value, fault = _Unparsed(data), TOO_DEEP
    except UnicodeDecodeError:
        value, fault = _Unparsed(data), NOT_UTF8
    except ValueError:
        value, fault = _Unparsed(data), NOT_JSON
    if fault:
        return _rejection(_error(_id_of(value), PARSE_ERROR, fault))
    if isinstance(value, list):
        return _reject_batch(value)
    error = _reject_value(value)
    return None if error is None else _rejection(error)


def _reject_constant(name: str) -> float:
    raise ValueError(name)


def _json_fault(data: bytes, value: object) -> str:
    """What is wrong with JSON that only Python's parser accepts; "" if nothing is."""
    try:
        from_json(data)
    except ValueError as error:
        if "recursion" in str(error):
            return TOO_DEEP
        return NOT_JSON if _is_unicode(value) else NOT_UNICODE
    return ""


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    except RecursionError:
        return True
    return True


def _reject_batch(batch: list[Any]) -> Rejection | None:
    if not batch or len(batch) > BATCH_MAX:
        return _rejection(_error(None, INVALID_REQUEST, NO_BATCHES))
    ids = [_id_of(one) for one in batch if not (isinstance(one, dict) and (_is_response(one) or "id" not in one))]
    errors = [_error(one, INVALID_REQUEST, NO_BATCHES) for one in ids]
    return _rejection(errors) if errors else None


def _reject_value(value: object) -> dict[str, Any] | None:
    """The error response to JSON that is not a valid message; None if it gets none."""
    if not isinstance(value, dict):
        return _error(None, INVALID_REQUEST, f"A message must be a JSON object. {_REFUSED}")
    if _is_response(value):
        return None
    params = value.get("params")
    rule = ""
    if value.get("jsonrpc") != "2.0":
        rule = 'jsonrpc must be "2.0"'
    elif not isinstance(value.get("method"), str):
        rule = "method must be text"
    elif params is not None and not isinstance(params, dict | list):
        rule = "params must be an object"
    elif "id" in value and not _is_request_id(value["id"]):
        rule = "id must be text or a whole number"
    if rule:
        return _error(_id_of(value), INVALID_REQUEST, f"Not a JSON-RPC request: {rule}. {_REFUSED}")
    if "id" not in value:
        return None
    return _error(_id_of(value), INVALID_PARAMS, f"params must be an object: MCP names all parameters. {_REFUSED}")


def _is_response(value: dict[str, Any]) -> bool:
    return "method" not in value and ("result" in value or "error" in value)


def _is_request_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _rejection(response: dict[str, Any] | list[dict[str, Any]]) -> Rejection:
    return Rejection(json.dumps(response, separators=(",", ":")))


def _error(request_id: object, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}


# ---------------------------------------------------------------- ids


class _Unparsed:
    """A message that no parser accepts, but some of whose members may be readable."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def get(self, name: str) -> object:
        """A member of the outermost object if it is text or a whole number, otherwise None."""
        depth, data, key = 0, self._data, f'"{name}"'.encode()
        if not data.startswith(b"{"):
            return None
        for token in itertools.islice(_TOKEN.finditer(data), _SCANNED_TOKENS):
            text = token[0]
            if text[:1] in b"[{":
                depth += len(text)
            elif text[:1] in b"]}":
                depth -= len(text)
                if depth <= 0:
                    return None
            elif depth == 1 and text == key and (member := _MEMBER.match(data, token.end())):
                return _parsed(member[1])
        return None


# Strings, and runs of brackets. An unterminated string extends to the end, so that the time is linear.
_TOKEN = lazy_regex(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]+|[\]}]+', re.DOTALL)
_MEMBER = lazy_regex(rb'\s*:\s*(-?[0-9]{1,4000}(?![0-9.eE])|"[^"\\]*+(?:\\.[^"\\]*+)*+")\s*[,}]', re.DOTALL)


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _id_of(value: object) -> str | int | float | None:
    """The id to respond with: that of the request if it is text or a number, otherwise None."""
    found = value.get("id") if isinstance(value, dict | _Unparsed) else None
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    if isinstance(found, float) and not abs(found) < float("inf"):
        return None
    return found if _is_unicode(found) else None
