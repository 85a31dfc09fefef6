"""The server as a host starts it: a process used over stdin and stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client, StdioServerParameters

from tests.mcp_server.conftest import Caller

pytestmark = pytest.mark.anyio

SERVE = """
import sys
from ctxmem_mcp.serve.run import serve
from ctxmem_mcp.settings import Settings
serve(Settings.load({"data_dir": sys.argv[1]}, {}))
"""
# Everything that may pollute stdout: printed and flushed, printed and buffered, written at exit.
NOISY = (
    """
import atexit, sys
from ctxmem_mcp.mcp_server import tools
call = tools.TOOLS[0].call
async def noisy(memory, arguments):
    print("flushed noise", flush=True)
    sys.stdout.write("noise without an end")
    return await call(memory, arguments)
object.__setattr__(tools.TOOLS[0], "call", noisy)
atexit.register(lambda: print("noise at exit"))
"""
    + SERVE
    + 'print("noise after serving")\n'
)
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
APPEND = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "append_turn", "arguments": {"conversation_id": "c", "role": "user", "content": "größer 🧵"}},
}


def command(data: Path, code: str = SERVE) -> list[str]:
    return [sys.executable, "-c", code, str(data)]


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> Literal["auto", "legacy"]:
    chosen: Literal["auto", "legacy"] = request.param
    return chosen


async def test_turns_are_stored_and_read_over_stdio(tmp_path: Path, mode: Literal["auto", "legacy"]) -> None:
    executable, *arguments = command(tmp_path)
    parameters = StdioServerParameters(command=executable, args=arguments, env=dict(os.environ))
    async with Client(parameters, mode=mode) as client:
        call = Caller(client)
        done = await call.append("größer 🧵\r\n" + "x" * 300_000)
        header, body = await call.text("get_context", conversation_id="c", query="größer")
        assert header["head"].startswith(done["turn_id"].split("-")[0])
        assert "größer 🧵" in body
        assert "is not an argument" in await call.refusal("get_context", conversation_id="c", budget=3)
    async with Client(parameters, mode=mode) as client:
        assert [c["turns"] for c in (await Caller(client).record("list_conversations"))["conversations"]] == [1]


def talk(data: Path, code: str, messages: list[dict[str, Any]], environ: dict[str, str]) -> tuple[bytes, str]:
    """The output of a server that is sent these messages, after each of which a response is awaited, then EOF."""
    with subprocess.Popen(
        command(data, code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        out = b""
        for message in messages:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            out += process.stdout.readline()
        rest, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors.decode()
        return out + rest, errors.decode()


def test_only_the_protocol_reaches_stdout_and_the_server_ends_with_stdin(tmp_path: Path) -> None:
    out, errors = talk(tmp_path, NOISY, [INITIALIZE, APPEND], dict(os.environ))
    responses = [json.loads(line) for line in out.splitlines()]
    assert [response["id"] for response in responses] == [1, 2]
    assert responses[1]["result"]["structuredContent"]["index"] == 0
    for noise in ("flushed noise", "noise without an end", "noise after serving", "noise at exit"):
        assert noise in errors


def test_half_a_surrogate_pair_gets_an_error_response(tmp_path: Path) -> None:
    cut = {**APPEND, "params": {"name": "append_turn", "arguments": {"role": "user", "content": "cut \ud83d here"}}}
    out, _ = talk(tmp_path, SERVE, [INITIALIZE, cut, {**APPEND, "id": 3}], dict(os.environ))
    refused, stored = [json.loads(line) for line in out.splitlines()][1:]
    assert refused["id"] == 2
    assert "half of a surrogate pair" in refused["error"]["message"]
    assert stored["result"]["structuredContent"]["index"] == 0


def test_the_server_runs_in_a_nearly_empty_environment_and_the_c_locale(tmp_path: Path) -> None:
    environ = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)}
    out, errors = talk(tmp_path, SERVE, [INITIALIZE, APPEND], environ)
    assert len(out.splitlines()) == 2
    assert errors == ""


def test_initialize_is_responded_to_before_the_memory_is_opened(tmp_path: Path) -> None:
    data = tmp_path / "data"
    out, _ = talk(data, SERVE, [INITIALIZE], dict(os.environ))
    assert json.loads(out)["result"]["serverInfo"]["name"] == "ctxmem"
    assert not data.exists()


def test_the_start_imports_nothing_that_only_a_call_needs() -> None:
    code = (
        "import sys; import ctxmem_mcp.mcp_server.server, ctxmem_mcp.serve.run, ctxmem_mcp.serve.stdio; "
        "print(*[m for m in ('rich', 'typer', 'splintr', 'tiktoken', 'aiosqlite', 'sqlite3', 'zstandard', 'numpy', "
        "'jsonschema', 'snowballstemmer', 'ctxmem_mcp.memory', 'ctxmem_mcp.retrieval', 'ctxmem_mcp.stores.sqlite') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == ""
