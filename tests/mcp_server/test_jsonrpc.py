"""Every message that is owed a response gets exactly one, whatever it is, and the server goes on."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ctxmem_mcp.mcp_server.jsonrpc import BATCH_MAX, Rejection, parse_message

PING = b'{"jsonrpc":"2.0","id":%d,"method":"ping"}'
DEEP = b"[" * 100_000
RESPONSE_SECONDS = 60


class ServerProcess:
    """`ctxmem-mcp` over stdin and stdout, used by the line."""

    def __init__(self, data: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ctxmem_mcp", "--data-dir", data],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ),
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._pings = 10**6

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)

    def responses(self, line: bytes, expected: int) -> list[Any]:
        """The responses to a line: all until a later request has its response, and as many more as are expected."""
        assert self.process.stdin
        self._pings += 1
        self.process.stdin.write(line + b"\n" + PING % self._pings + b"\n")
        self.process.stdin.flush()
        found: list[Any] = []
        pinged = False
        while not pinged or len(found) < expected:
            response = json.loads(self._lines.get(timeout=RESPONSE_SECONDS))
            if isinstance(response, dict) and response.get("id") == self._pings:
                assert response["result"] == {}
                pinged = True
            else:
                found.append(response)
        return found

    def close(self) -> bytes:
        """Ends the server; returns the output that nothing was expected for."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(100) == 0
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()
        return b"".join(self._lines.queue)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(str(tmp_path_factory.mktemp("data")))
    yield process
    assert process.close() == b""


def _request(request_id: bytes, params: bytes = b"{}", method: bytes = b'"tools/call"') -> bytes:
    return b'{"jsonrpc":"2.0","id":%s,"method":%s,"params":%s}' % (request_id, method, params)


PARSE, REQUEST, PARAMS = -32700, -32600, -32602
CASES: dict[str, tuple[bytes, object, int]] = {
    "deep in params": (_request(b"7", b'{"a":' + DEEP + b"]" * len(DEEP) + b"}"), 7, PARSE),
    "deep, id at the end": (b'{"params":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b',"id":"x"}', "x", PARSE),
    "deep and not closed": (DEEP, None, PARSE),
    "less deep than Python allows": (_request(b"7", b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"), 7, PARSE),
    "a list as params": (_request(b"7", b"[1, 2]"), 7, PARAMS),
    "text as params": (_request(b"7", b'"a"'), 7, REQUEST),
    "a fractional id": (_request(b"1.5"), 1.5, REQUEST),
    "a whole float as id": (_request(b"1.0"), 1.0, REQUEST),
    "an id that is no number": (_request(b"1e999"), None, REQUEST),
    "null as id": (_request(b"null"), None, REQUEST),
    "a boolean as id": (_request(b"true"), None, REQUEST),
    "a list as id": (_request(b"[1]"), None, REQUEST),
    "an id of 5,000 digits": (_request(b"9" * 5_000), None, PARSE),
    "an escaped key": (b'{"jsonrpc":"2.0","\\u0069d":null,"method":"ping"}', None, REQUEST),
    "NUL after the message": (_request(b"7") + b"\0", 7, PARSE),
    "NUL inside": (_request(b"7", b'{"a":"\0"}'), 7, PARSE),
    "only NULs": (b"\0\0\0", None, PARSE),
    "a control character": (_request(b"7", b'{"a":"\x1b"}'), 7, PARSE),
    "invalid UTF-8": (_request(b"7", b'{"a":"\xff"}'), 7, PARSE),
    "an encoded surrogate": (_request(b'"ab"', b'{"a":"\xed\xa0\xbd"}'), "ab", PARSE),
    "half a surrogate pair": (_request(b"7", b'{"a":"\\ud83d"}'), 7, PARSE),
    "half a surrogate pair as id": (_request(b'"\\ud83d"'), None, PARSE),
    "no jsonrpc": (b'{"id":7,"method":"ping"}', 7, REQUEST),
    "another jsonrpc": (b'{"jsonrpc":"1.0","id":7,"method":"ping"}', 7, REQUEST),
    "no method": (b'{"jsonrpc":"2.0","id":7}', 7, REQUEST),
    "a number as method": (_request(b"7", method=b"1"), 7, REQUEST),
    "a method and a result": (b'{"jsonrpc":"2.0","id":7,"method":1,"result":{}}', 7, REQUEST),
    "an unknown method": (_request(b"7", method=b'"none"'), 7, -32601),
    "not JSON": (b"hello", None, PARSE),
    "cut off": (b'{"jsonrpc":"2.0","id":7,"method":', 7, PARSE),
    "NaN": (b'{"jsonrpc":"2.0","id":7,"method":NaN}', 7, PARSE),
    "a number": (b"1", None, REQUEST),
    "an empty object": (b"{}", None, REQUEST),
    "an empty batch": (b"[]", None, REQUEST),
    "a batch that is too large": (b"[" + b"1," * BATCH_MAX + b"1]", None, REQUEST),
}


@pytest.mark.parametrize("case", CASES)
def test_a_line_that_is_no_valid_request_gets_one_error(server: ServerProcess, case: str) -> None:
    line, request_id, code = CASES[case]
    (response,) = server.responses(line, 1)
    assert response["jsonrpc"] == "2.0"
    assert (response["id"], type(response["id"])) == (request_id, type(request_id))
    assert response["error"]["code"] == code
    assert response["error"]["message"]


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf", b" \xef\xbb\xbf\t"])
def test_a_byte_order_mark_before_a_message_is_skipped(server: ServerProcess, mark: bytes) -> None:
    (response,) = server.responses(mark + _request(b"7", method=b'"ping"') + b"\r", 1)
    assert response == {"jsonrpc": "2.0", "id": 7, "result": {}}


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\r", b" \t ", b"\xef\xbb\xbf",
        b'{"jsonrpc":"2.0","method":"notifications/unknown"}',
        b'{"jsonrpc":"2.0","method":"notifications/initialized","params":[]}',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[1]}}',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":true}}',
        b'{"jsonrpc":"2.0","id":7,"result":{}}',
        b'{"jsonrpc":"2.0","id":7,"result":5}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":"x"}}',
        b'[{"jsonrpc":"2.0","method":"notifications/unknown"}]',
    ],
)  # fmt: skip
def test_a_line_that_is_owed_no_response_gets_none(server: ServerProcess, line: bytes) -> None:
    assert server.responses(line, 0) == []


def test_each_request_of_a_batch_gets_an_error(server: ServerProcess) -> None:
    batch = b"[%s,%s,1,%s]" % (_request(b"7"), _request(b'"x"'), b'{"jsonrpc":"2.0","method":"notifications/unknown"}')
    (responses,) = server.responses(batch, 1)
    assert [response["id"] for response in responses] == [7, "x", None]
    assert {response["error"]["code"] for response in responses} == {REQUEST}


# ---------------------------------------------------------------- the law

_TEXT = st.text(st.characters(codec="utf-16", exclude_characters="\n"), max_size=6) | st.just("half \ud83d")
_SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT
_JSON = st.recursive(_SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3))
_METHODS = st.sampled_from(["tools/call", "tools/list", "ping", "initialize", "resources/read", "notifications/x", "é"])
_MEMBERS = {
    "jsonrpc": st.just("2.0") | _JSON,
    "id": _JSON | st.integers() | _TEXT,
    "method": _METHODS | _JSON,
    "params": _JSON | st.fixed_dictionaries({}, optional={"name": _TEXT, "arguments": _JSON, "_meta": _JSON}),
    "result": _JSON,
    "error": _JSON,
}
_MESSAGES = st.fixed_dictionaries({}, optional=_MEMBERS) | st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "id": _MEMBERS["id"], "method": _METHODS}, optional={"params": _MEMBERS["params"]}
)
_LINES = st.one_of(
    _MESSAGES.map(lambda value: json.dumps(value).encode()),
    st.lists(_MESSAGES | _JSON, max_size=4).map(lambda value: json.dumps(value).encode()),
    _JSON.map(lambda value: json.dumps(value).encode()),
    st.tuples(_MESSAGES, st.integers(0, 200)).map(lambda pair: json.dumps(pair[0]).encode()[: pair[1]]),
    st.binary(max_size=40).filter(lambda line: b"\n" not in line),
)


def _owed(line: bytes) -> int:
    """How many lines JSON-RPC 2.0 demands in response."""
    try:
        value = json.loads(line.strip(b" \t\r\n"))
    except ValueError:
        return 1 if line.strip(b" \t\r\n") else 0
    if not isinstance(value, list):
        return _owed_to_one(value)
    return 1 if not value or any(map(_owed_to_member, value)) else 0


def _owed_to_one(value: object) -> int:
    if not isinstance(value, dict):
        return 1
    if "\\ud83d" in json.dumps(value):
        return 1
    if "method" not in value and ("result" in value or "error" in value):
        return 0
    well_formed = value.get("jsonrpc") == "2.0" and isinstance(value.get("method"), str)
    well_formed = well_formed and isinstance(value.get("params", {}), dict | list | None)
    return 0 if "id" not in value and well_formed else 1


def _owed_to_member(value: object) -> bool:
    return "\\ud83d" in json.dumps(value) or not (
        isinstance(value, dict)
        and ("id" not in value or ("method" not in value and ("result" in value or "error" in value)))
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":[]}}')
@example(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":[]}}')
@given(_LINES)
def test_every_line_gets_the_responses_it_is_owed(server: ServerProcess, line: bytes) -> None:
    owed = _owed(line)
    responses = server.responses(line, owed)
    assert len(responses) == owed
    sent = _parsed(line)
    if isinstance(sent, dict) and owed and _is_id(sent.get("id")) and "\ud83d" not in str(sent.get("id")):
        assert [response["id"] for response in responses] == [sent["id"]]


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_id(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


@pytest.mark.parametrize("unit", [b"[", b'{"a":', b'"\\"', b'"a",', b"}{", b'"id":1,', b"\\u"])
def test_a_rejection_takes_no_longer_than_the_message_is_long(unit: bytes) -> None:
    """One that is quadratic takes hours for these."""
    line = b'{"x":' + unit * (2_000_000 // len(unit))
    assert isinstance(parse_message(line), Rejection)
