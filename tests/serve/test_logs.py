"""The log: repeated lines are counted, terminals obey none of it, and no level writes words of conversations."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from ctxmem_mcp.serve.logs import LINES_MAX, CountingHandler
from tests.http_api.service_process import started

WORD = "xylophonist"


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def _logger(handler: CountingHandler) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger


def test_repeated_warnings_are_counted(stream: io.StringIO) -> None:
    handler = CountingHandler(stream)
    logger = _logger(handler)
    for i in range(LINES_MAX + 523):
        logger.warning("Closed connection %d", i)
    logger.warning("Another line")
    handler.close()
    lines = stream.getvalue().splitlines()
    assert lines[: LINES_MAX + 1] == [*(f"Closed connection {i}" for i in range(LINES_MAX)), "Another line"]
    assert lines[LINES_MAX + 1 :] == ["... and 523 more like this in the last minute: Closed connection 0"]


def test_the_count_is_written_when_the_window_ends(stream: io.StringIO) -> None:
    logger = _logger(CountingHandler(stream, window_seconds=0.05))
    for _ in range(LINES_MAX + 2):
        logger.error("Again")
    deadline = time.monotonic() + 100
    while "more like this" not in stream.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    logger.error("Again")
    assert stream.getvalue().splitlines()[LINES_MAX:] == ["... and 2 more like this in the last 0.05 s: Again", "Again"]


def test_lines_of_requests_are_not_counted(stream: io.StringIO) -> None:
    logger = _logger(CountingHandler(stream))
    for i in range(100):
        logger.info("request id=%d", i)
    assert len(stream.getvalue().splitlines()) == 100


def test_the_debug_log_of_stdio_has_no_words(tmp_path: Path) -> None:
    calls = [
        ("append_turn", {"role": "user", "content": f"the {WORD} plays", "conversation_id": "c", "name": WORD}),
        ("append_turn", {"role": WORD, "content": WORD, WORD: WORD}),
        ("sync_transcript", {"messages": [{"role": "user", "content": [{"type": WORD, WORD: 1}]}]}),
        ("get_context", {"conversation_id": "c", "query": WORD}),
        ("search_turns", {"query": WORD}),
        ("hand_off", {"conversation_id": "c", "note": WORD}),
        (WORD, {}),
    ]
    lines = [_request(i, "tools/call", name=name, arguments=given) for i, (name, given) in enumerate(calls)]
    lines += [
        _request(100, "resources/read", uri=f"memory://{WORD}"),
        _request(101, "prompts/get", name=WORD),
        _request(102, WORD),
        f'{{"jsonrpc":"2.0","id":103,"method":"{WORD}","params":[]}}'.encode(),
        f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"x":"{WORD}"}}}}'.encode(),
        WORD.encode(),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(tmp_path), "--log-level", "debug"],
        input=b"\n".join([_initialize(), *lines, b""]), capture_output=True, check=True, timeout=100,
        env=dict(os.environ),
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == len(lines)
    assert WORD not in done.stderr.decode()


def test_the_debug_log_of_the_http_service_has_no_words(tmp_path: Path) -> None:
    with started(tmp_path, log_level="debug") as (base, process):
        message = {"role": "user", "content": f"the {WORD} plays"}
        headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
        call = {"name": "append_turn", "arguments": {"role": "user", "content": WORD}}
        for path, body in (
            ("/v1/memory", {"messages": [message]}),
            ("/v1/memory", {"messages": [{"role": WORD, "content": {WORD: WORD}}]}),
            ("/v1/chat/completions", {"model": f"{WORD}:memory", "messages": [message]}),
            ("/v1/chat/sessions", {"name": WORD, WORD: WORD}),
            ("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}),
            ("/mcp", {"jsonrpc": "2.0", "id": 1, "method": WORD, "params": [WORD]}),
        ):
            assert httpx2.post(f"{base}{path}", json=body, headers=headers, timeout=60).status_code < 600
        process.terminate()
        assert process.stderr
        log = process.stderr.read()
        process.wait(100)
    assert "request id=" in log
    assert WORD not in log


def _initialize() -> bytes:
    client = {"name": "test", "version": "1"}
    return _request(99, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)


def _request(number: int, method: str, **params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()
