"""Checks that a registered command starts: runs it as the agent would and sends it `initialize`."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, Any

# A start takes a tenth of a second, and many times as long on a busy machine.
SECONDS = 30.0
_EXIT_SECONDS = 5.0
# How much of standard error is read for its last line, and how much of that line is reported.
_TAIL_BYTES, _MESSAGE_CHARS_MAX = 4096, 200
_INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "doctor", "version": "1"}},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of starting a server.

    Attributes:
        name: the server's name.
        version: its version.
        seconds: how long its response took.
        fault: why there was none; empty if it responded.
        said: the last line on standard error, if it did not respond.
        timed_out: whether it was still running without a response at the end.
    """

    name: str = ""
    version: str = ""
    seconds: float = 0.0
    fault: str = ""
    said: str = ""
    timed_out: bool = False


def probe_server(command: Sequence[str], environment: Mapping[str, str], seconds: float = SECONDS) -> ProbeResult:
    """Starts a command, sends it `initialize`, reads the response, and stops it.

    Args:
        command: the command line.
        environment: its whole environment.
        seconds: how long to wait for the response.
    """
    # A file, because a pipe that nobody reads blocks a process that writes much to it.
    with tempfile.TemporaryFile() as errors:
        result = _probe(command, environment, seconds, errors)
        return replace(result, said=_last_line(errors)) if result.fault else result


def _probe(command: Sequence[str], environment: Mapping[str, str], seconds: float, errors: IO[bytes]) -> ProbeResult:
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            env=dict(environment), encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        return ProbeResult(fault=f"can't be started: {error.strerror}")
    try:
        line = _first_line(process, seconds)
        took = time.monotonic() - began
    finally:
        _end(process)
    if line is None:
        return ProbeResult(fault=f"does not respond within {seconds:.0f} s", timed_out=True)
    return _parse_response(line, process.returncode, took)


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _TAIL_BYTES))
    lines = errors.read().decode("utf-8", "replace").split("\n")
    return next((line.strip()[:_MESSAGE_CHARS_MAX] for line in reversed(lines) if line.strip()), "")


def _first_line(process: subprocess.Popen[str], seconds: float) -> str | None:
    assert process.stdin is not None
    assert process.stdout is not None
    lines: list[str] = []
    # Not every system can wait for a pipe with a time limit; a thread can be waited for.
    reader = threading.Thread(target=lambda out=process.stdout: lines.append(out.readline()), daemon=True)
    reader.start()
    with suppress(OSError):
        process.stdin.write(json.dumps(_INITIALIZE) + "\n")
        process.stdin.flush()
    reader.join(seconds)
    if reader.is_alive():
        process.kill()
        reader.join(_EXIT_SECONDS)
        return None
    return lines[0] if lines else ""


def _end(process: subprocess.Popen[str]) -> None:
    """Closes stdin, at which a server exits; kills one that does not."""
    with suppress(OSError, ValueError):
        process.communicate(timeout=_EXIT_SECONDS)
        return
    process.kill()
    process.wait()


def _parse_response(line: str, code: int | None, seconds: float) -> ProbeResult:
    if not line:
        return ProbeResult(fault=f"exits without a response (exit code {code})")
    try:
        response: Any = json.loads(line)
        info = response["result"]["serverInfo"]
        return ProbeResult(str(info["name"]), str(info.get("version", "")), seconds)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ProbeResult(fault=f"prints {line.strip()[:80]!r} instead of a response")
