"""Whether a registered command starts: it is started as the agent would, and asked who it is."""

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

SECONDS = 15.0
_ENDS_WITHIN_SECONDS = 5.0
# Of what a command says on standard error, its last line is told, up to so many characters.
_TAIL_BYTES, _SAID_MAX = 4096, 200
_INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "doctor", "version": "1"}},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What came back: the server's name and version after so many seconds, or why nothing did and what the command
    said last on standard error."""

    name: str = ""
    version: str = ""
    seconds: float = 0.0
    fault: str = ""
    said: str = ""


def probe_server(command: Sequence[str], environment: Mapping[str, str], seconds: float = SECONDS) -> ProbeResult:
    """Starts the command in this environment, sends it `initialize`, reads its answer, and ends it."""
    # A file, for a pipe that nobody reads stops who writes much to it.
    with tempfile.TemporaryFile() as errors:
        answer = _probe(command, environment, seconds, errors)
        return replace(answer, said=_last_line(errors)) if answer.fault else answer


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
    finally:
        _end(process)
    if line is None:
        return ProbeResult(fault=f"does not answer within {seconds:.0f} s")
    return _parse_response(line, process.returncode, time.monotonic() - began)


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _TAIL_BYTES))
    lines = errors.read().decode("utf-8", "replace").split("\n")
    return next((line.strip()[:_SAID_MAX] for line in reversed(lines) if line.strip()), "")


def _first_line(process: subprocess.Popen[str], seconds: float) -> str | None:
    assert process.stdin is not None
    assert process.stdout is not None
    lines: list[str] = []
    # A pipe can't be waited for with a time limit on every system; a thread can.
    reader = threading.Thread(target=lambda out=process.stdout: lines.append(out.readline()), daemon=True)
    reader.start()
    with suppress(OSError):
        process.stdin.write(json.dumps(_INITIALIZE) + "\n")
        process.stdin.flush()
    reader.join(seconds)
    if reader.is_alive():
        process.kill()
        reader.join(_ENDS_WITHIN_SECONDS)
        return None
    return lines[0] if lines else ""


def _end(process: subprocess.Popen[str]) -> None:
    """A server ends when its stdin does; one that does not is killed."""
    with suppress(OSError, ValueError):
        process.communicate(timeout=_ENDS_WITHIN_SECONDS)
        return
    process.kill()
    process.wait()


def _parse_response(line: str, code: int | None, seconds: float) -> ProbeResult:
    if not line:
        return ProbeResult(fault=f"ends without an answer (exit code {code})")
    try:
        answer: Any = json.loads(line)
        told = answer["result"]["serverInfo"]
        return ProbeResult(str(told["name"]), str(told.get("version", "")), seconds)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ProbeResult(fault=f"says {line.strip()[:80]!r} instead of answering")
