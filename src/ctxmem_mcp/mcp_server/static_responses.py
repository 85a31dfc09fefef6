"""Responds to the requests with which a client starts, without the SDK, whose import takes a second and 40 MB.

Many agents start a server, list its tools, and never call one. The responses to that do not depend on the memory, so
`static_responses.json` holds those that the SDK's server sent; `docs/generate.py` records them. A `StaticResponder`
responds only to messages that it understands completely, and only as the SDK would in the same state. The first other
message is left to the SDK's server, which is first sent the messages in `replay`, so that it is in that state too.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

from ctxmem_mcp.mcp_server.stdio_lines import strip_bom

FILE = os.path.join(os.path.dirname(__file__), "static_responses.json")
# The SDK refuses deeper nesting than 200 levels.
_BRACKETS_MAX = 100
_LINE_BYTES_MAX = 1 << 16
_ID_MAX = 2**53
# Notifications before the first request are kept by the SDK up to 8.
_REPLAY_MAX = 8
_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_REPLAY_ID = "ctxmem-mcp replay "


class StaticResponder:
    """Responds to the first messages of one connection."""

    def __init__(self, file: str = FILE) -> None:
        with open(file, encoding="utf-8") as recorded:
            self._recorded: dict[str, Any] = json.load(recorded)
        self._is_modern: bool | None = None
        self._version = ""  # as negotiated by `initialize`
        self._replay: list[dict[str, Any]] = []

    @property
    def replay(self) -> list[bytes]:
        """The messages that bring a server into the state of this connection."""
        return [json.dumps(message).encode() for message in self._replay]

    @property
    def replay_ids(self) -> set[str]:
        """The ids of the requests in `replay`. The client does not expect their responses."""
        return {message["id"] for message in self._replay if "id" in message}

    def respond(self, line: bytes) -> bytes | None:
        """Responds to a message.

        Returns:
            The response, a line; b"" if the message gets none; None if it, and all after it, are the SDK's to handle.
        """
        line = strip_bom(line)
        if not line:
            return b""
        message = _parse(line)
        if message is None:
            return None
        if "id" not in message:
            return self._notified(message)
        version, modern = self._version_for(message)
        recorded = self._recorded["responses"].get(version, {}).get(message["method"])
        if recorded is None or not all(self._conforms(message, one) for one in recorded["schemas"]):
            return None
        self._remember(message, version, modern)
        result = json.dumps(self._recorded["results"][recorded["result"]], ensure_ascii=False, separators=(",", ":"))
        request_id = json.dumps(message["id"], ensure_ascii=False)
        return f'{{"jsonrpc":"2.0","id":{request_id},"result":{result}}}\n'.encode()

    def _notified(self, message: dict[str, Any]) -> bytes | None:
        if message["method"] == "notifications/cancelled":  # nothing is in progress
            return b""
        if not message["method"].startswith("notifications/") or len(self._replay) >= _REPLAY_MAX:
            return None
        self._replay.append(message)
        return b""

    def _version_for(self, message: dict[str, Any]) -> tuple[str, bool]:
        """The version whose response a request gets, "" if it gets none from here; and whether the request is modern.

        As in the SDK, the first request decides the era of the connection.
        """
        params = message.get("params", {})
        meta = params.get("_meta")
        if message["method"] == "initialize":
            requested = params.get("protocolVersion")
            known = isinstance(requested, str) and requested in self._recorded["handshake"]
            version = requested if known else self._recorded["handshake"][-1]
            return ("" if self._is_modern or self._version else version), False
        modern = isinstance(meta, dict) and _VERSION_KEY in meta
        if self._is_modern not in (None, modern):
            return "", modern
        if modern:
            requested = meta[_VERSION_KEY]
            is_later = isinstance(requested, str) and requested not in self._recorded["handshake"]
            return (requested if is_later else ""), True
        return self._version or self._recorded["before_handshake"], False

    def _remember(self, message: dict[str, Any], version: str, modern: bool) -> None:
        initializes = message["method"] == "initialize"
        if self._is_modern is None or initializes:
            silent = {**message, "id": f"{_REPLAY_ID}{len(self._replay)}"}
            if initializes:  # so that another release of the SDK negotiates the same
                silent["params"] = {**message["params"], "protocolVersion": version}
            self._replay.append(silent)
        self._is_modern = modern
        if initializes:
            self._version = version

    def _conforms(self, message: dict[str, Any], schema: int) -> bool:
        recorded = self._recorded["schemas"][schema]
        value = message.get("params", {}) if recorded["of"] == "params" else message
        return _conforms(value, recorded["schema"], recorded["schema"].get("$defs", {}))


def _parse(line: bytes) -> dict[str, Any] | None:
    """The message if it is surely a valid request or notification, whose params are an object or absent."""
    if len(line) > _LINE_BYTES_MAX or line.count(b"[") + line.count(b"{") > _BRACKETS_MAX:
        return None
    if b"\\ud" in line.lower():  # may be half of a surrogate pair
        return None
    try:
        message = json.loads(line.decode(), parse_constant=_reject, parse_float=_parse_float)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return None
    if not {"jsonrpc", "method"} <= message.keys() <= {"jsonrpc", "id", "method", "params"}:
        return None
    request_id = message.get("id", "")
    valid = isinstance(request_id, str) or (type(request_id) is int and abs(request_id) < _ID_MAX)
    valid = valid and isinstance(message["method"], str) and isinstance(message.get("params", {}), dict)
    return message if valid else None


def _reject(name: str) -> float:
    raise ValueError(name)


def _parse_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _reject(text)


# ---------------------------------------------------------------- JSON schemas

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
    "null": type(None),
}  # fmt: skip
_KEYWORDS = {
    "$defs", "$ref", "anyOf", "type", "enum", "const", "properties", "required", "additionalProperties", "items",
}  # fmt: skip


def _conforms(value: Any, schema: Any, definitions: dict[str, Any]) -> bool:
    """Whether a value conforms to a JSON schema. A schema with a keyword that is not known here is not conformed to."""
    if isinstance(schema, bool):
        return schema
    if not schema.keys() <= _KEYWORDS:
        return False
    if "$ref" in schema:
        return _conforms(value, definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return any(_conforms(value, one, definitions) for one in schema["anyOf"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "type" in schema and not _is_of_type(value, schema["type"]):
        return False
    if isinstance(value, list):
        return all(_conforms(one, schema.get("items", True), definitions) for one in value)
    return not isinstance(value, dict) or _members_conform(value, schema, definitions)


def _is_of_type(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _members_conform(value: dict[str, Any], schema: dict[str, Any], definitions: dict[str, Any]) -> bool:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    return all(name in value for name in schema.get("required", ())) and all(
        _conforms(member, properties.get(name, others), definitions) for name, member in value.items()
    )
