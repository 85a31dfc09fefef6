"""The responses without the SDK: the same as the SDK's, whatever was sent before, and the SDK goes on from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctxmem_mcp.capture import spool
from ctxmem_mcp.mcp_server.response_recorder import modern_params, request, responses_of_sdk
from ctxmem_mcp.mcp_server.static_responses import StaticResponder

HANDSHAKE = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"
LISTS = ("tools/list", "prompts/list", "resources/templates/list")
CLIENT = {"name": "test", "version": "1"}
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
CANCELLED = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"none"}}'
# No tool, so that its call needs no memory.
CALL = {"name": "none", "arguments": {}}


def initialize(version: str = HANDSHAKE[-1], request_id: Any = 1, **more: Any) -> bytes:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT, **more}
    return request(request_id, "initialize", params)


def respond(lines: Sequence[bytes]) -> tuple[list[bytes], StaticResponder, int]:
    """The responses without the SDK, the responder, and how many lines it took."""
    responder = StaticResponder()
    responses: list[bytes] = []
    for at, line in enumerate(lines):
        response = responder.respond(line)
        if response is None:
            return responses, responder, at
        responses += [response] if response else []
    return responses, responder, len(lines)


def responses_of(lines: Sequence[bytes]) -> list[Any]:
    """The SDK's responses, in any order."""

    async def run() -> list[bytes]:
        return await responses_of_sdk(lines, _no_memory)

    return _parsed(anyio.run(run))


def _no_memory() -> Any:
    raise AssertionError("None of these requests needs a memory.")


def _parsed(lines: Sequence[bytes]) -> list[Any]:
    return sorted((json.loads(line) for line in lines), key=json.dumps)


@pytest.mark.parametrize("version", HANDSHAKE)
@pytest.mark.parametrize("method", ["ping", *LISTS])
def test_every_response_after_a_handshake_is_the_sdks(version: str, method: str) -> None:
    lines = [initialize(version), INITIALIZED, request("ä\n", method), request(2, method, {})]
    responses, _, taken = respond(lines)
    assert taken == len(lines)
    assert _parsed(responses) == responses_of(lines)


@pytest.mark.parametrize("method", ["server/discover", *LISTS])
def test_every_response_of_the_later_era_is_the_sdks(method: str) -> None:
    lines = [request(7, method, modern_params(MODERN))]
    responses, _, taken = respond(lines)
    assert taken == len(lines)
    assert _parsed(responses) == responses_of(lines)


@pytest.mark.parametrize(
    "line",
    [
        initialize(protocolVersion=3), initialize(capabilities=[]), initialize(clientInfo={}),
        initialize(capabilities={"roots": {"listChanged": "often"}}), request(1, "initialize"),
        request(1, "tools/list"),
        request(1, "tools/list", modern_params("2031-01-01")), request(1, "ping", modern_params(MODERN)),
        request(1, "tools/list", {"_meta": {"io.modelcontextprotocol/protocolVersion": MODERN}}),
        request(1, "tools/list", {**modern_params(MODERN), "cursor": 5}), request(1, "none", modern_params(MODERN)),
    ],
)  # fmt: skip
def test_a_request_that_the_sdk_refuses_is_left_to_it(line: bytes) -> None:
    assert respond([line])[2] == 0
    assert "error" in responses_of([line])[0]


# ---------------------------------------------------------------- the law

_IDS = st.integers(0, 5) | st.sampled_from(["a", "b", "\u00e9", ""])
_CAPABILITIES = st.sampled_from([
    {}, {"roots": {"listChanged": True}}, {"roots": {}, "sampling": {}, "elicitation": {"form": {}}},
    {"none": {"a": 1}},
    {"experimental": {"a": {"b": [1, None]}}}, {"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["a"]}}},
    {"roots": None}, {"roots": 1}, {"experimental": {"a": 1}}, {"tasks": {"requests": {"sampling": {}}}},
])  # fmt: skip
_CLIENTS = st.sampled_from([
    CLIENT, {**CLIENT, "title": "T", "websiteUrl": "u"}, {**CLIENT, "icons": [{"src": "x", "sizes": ["1x1"]}]},
    {**CLIENT, "icons": [{}]}, {"name": 1, "version": "1"}, {"name": "n"}, {**CLIENT, "title": None},
])  # fmt: skip
_INITIALIZE = st.builds(
    lambda version, number, capabilities, client: initialize(
        version, number, capabilities=capabilities, clientInfo=client
    ),
    st.sampled_from([*HANDSHAKE, MODERN, "1.0", ""]), _IDS, _CAPABILITIES, _CLIENTS,
)  # fmt: skip
_METAS = st.sampled_from([
    {}, {"progressToken": 1}, {"progressToken": "a"}, {"progressToken": [1]}, {"progressToken": 1.5},
    {"a": {"b": None}},
    modern_params(MODERN)["_meta"], modern_params("2025-11-25")["_meta"], modern_params("x")["_meta"],
    {**modern_params(MODERN)["_meta"], "io.modelcontextprotocol/clientInfo": 5},
    {**modern_params(MODERN)["_meta"], "io.modelcontextprotocol/clientCapabilities": {"roots": {}, "x": 1}},
    {**modern_params(MODERN)["_meta"], "io.modelcontextprotocol/logLevel": "loud"},
    {**modern_params(MODERN)["_meta"], "progressToken": True},
])  # fmt: skip
_PARAMS = st.none() | st.builds(
    lambda meta, more: {"_meta": meta, **more},
    _METAS, st.sampled_from([{}, {"cursor": None}, {"cursor": "x"}, {"x": 1}]),
) | st.sampled_from([{}, {"_meta": None}, {"_meta": 5}])  # fmt: skip
_REQUESTS = st.builds(
    request, _IDS, st.sampled_from(["ping", "server/discover", *LISTS, "none", "initialize"]), _PARAMS
)
_CALLS = st.builds(
    lambda number, modern: request(number, "tools/call", {**CALL, **(modern_params(MODERN) if modern else {})}),
    _IDS, st.booleans(),
)  # fmt: skip
_NOTIFICATIONS = st.sampled_from([
    INITIALIZED, CANCELLED, b'{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}',
    b'{"jsonrpc":"2.0","method":"notifications/initialized","params":{"_meta":5}}',
])  # fmt: skip
_STRAY = st.sampled_from(
    [b"", b" \r", b"\xef\xbb\xbf", b"hello", b"[]", b'{"jsonrpc":"2.0","id":null,"method":"ping"}']
)
_LINES = st.lists(_INITIALIZE | _REQUESTS | _CALLS | _NOTIFICATIONS | _STRAY, max_size=7)


@settings(max_examples=150, deadline=None)
@example([initialize(), INITIALIZED, request(1, "tools/list"), request(1, "tools/call", CALL), request(1, "ping")])
@example([request(1, "ping"), request(2, "tools/list", modern_params(MODERN)), initialize(), request(3, "tools/list")])
@example([request(1, "server/discover", modern_params(MODERN)), initialize(), request(2, "tools/list")])
@example([request(1, "ping", modern_params("2025-11-25")), request(1, "ping", modern_params("2025-11-25"))])
@example([initialize("2024-11-05"), initialize("2025-06-18"), request(2, "tools/list")])
@given(_LINES)
def test_a_connection_gets_the_responses_of_the_sdk_whoever_sends_them(lines: list[bytes]) -> None:
    _check_connection(lines)


@pytest.mark.soak
@settings(max_examples=2_000, deadline=None)
@given(_LINES)
def test_many_connections_get_the_responses_of_the_sdk(lines: list[bytes]) -> None:
    _check_connection(lines)


def _check_connection(lines: list[bytes]) -> None:
    """The first lines are responded to without the SDK, the rest by an SDK server that takes over."""
    responses, responder, taken = respond(lines)
    assert len({*responder.replay_ids}) <= 2
    if taken < len(lines):
        later = responses_of([*responder.replay, *lines[taken:]])
        responses += [json.dumps(one).encode() for one in later if one["id"] not in responder.replay_ids]
    assert _parsed(responses) == responses_of(lines)


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', b'{"jsonrpc":"2.0","id":true,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1.0,"method":"ping"}', b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1e999}}',
        b'{"jsonrpc":"2.0","id":"\\ud83d","method":"ping"}', b'{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\xff"}}', b'{"id":1,"method":"ping"}', b"[" * 9_999,
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 150 + b"1" + b"}" * 151,
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"' + b"x" * 70_000 + b'"}}',
    ],
)  # fmt: skip
def test_a_line_that_may_not_be_a_valid_message_is_left_to_the_sdk(line: bytes) -> None:
    assert respond([line])[2] == 0


# ---------------------------------------------------------------- processes


SHORT_IDLE = """
import sys
from ctxmem_mcp.serve import stdio
stdio.IDLE_SECONDS = 0.1
from ctxmem_mcp.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def server(data: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, *(command or ("-m", "ctxmem_mcp")), "--data-dir", str(data)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def ask(process: subprocess.Popen[bytes], line: bytes) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + b"\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def has_loaded_sdk(process: subprocess.Popen[bytes]) -> bool:
    return any("pydantic_core" in mapped.path for mapped in psutil.Process(process.pid).memory_maps())


@pytest.mark.skipif(sys.platform == "darwin", reason="a process's maps are not readable there")
def test_a_client_that_only_lists_costs_little_until_its_first_call(tmp_path: Path) -> None:
    with server(tmp_path) as process:
        ask(process, initialize())
        assert len(ask(process, request(2, "tools/list"))["result"]["tools"]) == 10
        assert psutil.Process(process.pid).memory_info().rss < 50 * 2**20
        assert not has_loaded_sdk(process)
        arguments = {"role": "user", "content": "größer 🧵"}
        stored = ask(process, request(2, "tools/call", {"name": "append_turn", "arguments": arguments}))
        assert stored["result"]["structuredContent"]["index"] == 0
        assert has_loaded_sdk(process)


@pytest.mark.skipif(sys.platform == "darwin", reason="a process's maps are not readable there")
def test_a_server_that_is_never_called_stores_hooks_events(tmp_path: Path) -> None:
    event = {"conversation_id": "c", "hook_event_name": "afterAgentResponse", "text": "Done."}
    with server(tmp_path, "-c", SHORT_IDLE) as process:
        ask(process, initialize())
        spool.put(str(tmp_path), "cursor", json.dumps(event).encode())
        until = time.monotonic() + 60
        while spool.has_pending(str(tmp_path)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not spool.has_pending(str(tmp_path))
        assert len(ask(process, request(2, "tools/list"))["result"]["tools"]) == 10
        assert not has_loaded_sdk(process)
        listed = ask(process, request(2, "tools/call", {"name": "list_conversations", "arguments": {}}))
        assert [one["turns"] for one in listed["result"]["structuredContent"]["conversations"]] == [1]


def test_a_client_that_writes_much_before_it_reads_is_not_blocked(tmp_path: Path) -> None:
    lines = [initialize(), *(request(i, "tools/list", {"_meta": {"x": "y" * 1_000}}) for i in range(300))]
    with server(tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(line + b"\n" for line in lines))
        process.stdin.flush()
        responses = [json.loads(process.stdout.readline()) for _ in lines]
    assert [response["id"] for response in responses] == [1, *range(300)]
