"""Records what the SDK's server responds to the requests with which a client starts, for `static_responses`."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import anyio
from mcp.types import InitializeRequestParams
from mcp_types.methods import CLIENT_REQUESTS
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from ctxmem_mcp.mcp_server.lazy_memory import Opener
from ctxmem_mcp.mcp_server.server import build_server, run_server
from ctxmem_mcp.mcp_server.stdio import message_streams

_LISTS = ("tools/list", "prompts/list", "resources/templates/list")
HANDSHAKE_METHODS = ("ping", *_LISTS)
MODERN_METHODS = ("server/discover", *_LISTS)
# What a schema says to people.
_ANNOTATIONS = {"title", "description", "default", "examples", "deprecated"}


async def responses_of_sdk(lines: Iterable[bytes], memory: Opener) -> list[bytes]:
    """Runs an SDK server on a connection that sends these lines and ends. Returns the lines that it sends."""

    async def sent() -> AsyncIterator[bytes]:
        for line in lines:
            yield line

    output, received = anyio.create_memory_object_stream[bytes](math.inf)
    incoming, outgoing = message_streams(sent(), output)
    async with received:
        await run_server(build_server(memory), incoming, outgoing)
        return [line async for line in received]


async def record() -> dict[str, Any]:
    """Returns the content of `static_responses.json`."""
    return await _Recorder().record()


class _Recorder:
    def __init__(self) -> None:
        self._results: list[Any] = []
        self._schemas: list[Any] = []

    async def record(self) -> dict[str, Any]:
        responses: dict[str, dict[str, Any]] = {}
        for version in HANDSHAKE_PROTOCOL_VERSIONS:
            start = [_initialize(version)]
            responses[version] = {"initialize": await self._recorded(version, "initialize", start)}
            for method in HANDSHAKE_METHODS:
                responses[version][method] = await self._recorded(version, method, [*start, request(2, method)])
        for version in MODERN_PROTOCOL_VERSIONS:
            responses[version] = {
                method: await self._recorded(version, method, [request(2, method, modern_params(version))])
                for method in MODERN_METHODS
            }
        before = "before the handshake"
        ping = await self._recorded(LATEST_HANDSHAKE_VERSION, "ping", [request(2, "ping")])
        return {
            "handshake": list(HANDSHAKE_PROTOCOL_VERSIONS),
            "before_handshake": before,
            "responses": {before: {"ping": ping}, **responses},
            "results": self._results,
            "schemas": self._schemas,
        }

    async def _recorded(self, version: str, method: str, lines: Sequence[bytes]) -> dict[str, Any]:
        """The response to the last of these requests, and the schemas that its sender has to keep."""
        sent = await responses_of_sdk(lines, _no_memory)
        return {"schemas": self._schemas_of(version, method), "result": _index(self._results, _result(sent[-1]))}

    def _schemas_of(self, version: str, method: str) -> list[int]:
        # A request to initialize is validated as one of the version that a connection has before it.
        request_model = CLIENT_REQUESTS[method, LATEST_HANDSHAKE_VERSION if method == "initialize" else version]
        if method == "initialize":
            params_model: type[BaseModel] = InitializeRequestParams
        else:
            entry = build_server(_no_memory).get_request_handler(method)
            assert entry is not None
            params_model = entry.params_type
        both = (("message", request_model), ("params", params_model))
        return [_index(self._schemas, {"of": of, "schema": _schema_of(model)}) for of, model in both]


def _no_memory() -> Any:
    raise AssertionError("These responses need no memory.")


def request(request_id: int | str, method: str, params: dict[str, Any] | None = None) -> bytes:
    """A request as a line. params: None for none."""
    given = {} if params is None else {"params": params}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, **given}).encode()


def modern_params(version: str) -> dict[str, Any]:
    """The params of a request without arguments, in the protocol of 2026-07-28 and later."""
    client = {"name": "client", "version": "1"}
    keys = {"protocolVersion": version, "clientCapabilities": {}, "clientInfo": client}
    return {"_meta": {f"io.modelcontextprotocol/{key}": value for key, value in keys.items()}}


def _initialize(version: str) -> bytes:
    client = {"name": "client", "version": "1"}
    return request(1, "initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": client})


def _result(line: bytes) -> Any:
    return json.loads(line)["result"]


def _index(items: list[Any], item: Any) -> int:
    if item not in items:
        items.append(item)
    return items.index(item)


def _schema_of(model: type[BaseModel]) -> Any:
    return _without_annotations(model.model_json_schema(by_alias=True))


def _without_annotations(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
    for key in ("properties", "$defs"):
        if key in kept:
            kept[key] = {name: _without_annotations(one) for name, one in kept[key].items()}
    for key in ("items", "additionalProperties"):
        if key in kept:
            kept[key] = _without_annotations(kept[key])
    if "anyOf" in kept:
        kept["anyOf"] = [_without_annotations(one) for one in kept["anyOf"]]
    return kept
