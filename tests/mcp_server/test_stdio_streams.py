"""Stdin and stdout: lines are read whole, a slow reader blocks nothing, stray output stays out of the protocol."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.mcp_server.stdio_lines import LineReader, LineWriter

pytestmark = pytest.mark.anyio

HELLO = json.dumps({
    "jsonrpc": "2.0", "id": 0, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
})  # fmt: skip
PING = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n'


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))), st.data())
def test_lines_are_read_whole_however_the_input_is_cut(texts: list[str], data: st.DataObject) -> None:
    sent = "\n".join(texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    parts = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert anyio.run(_lines, parts) == [text.encode() for text in texts if text]


async def _lines(parts: list[bytes]) -> list[bytes]:
    here, there = os.pipe()
    found: list[bytes] = []

    async def read() -> None:
        found.extend([line async for line in LineReader(here)])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        for part in parts:
            await anyio.lowlevel.checkpoint()
            os.write(there, part)
        os.close(there)
    os.close(here)
    return found


@pytest.mark.parametrize("kind", ["pipe", "socket"])
async def test_a_slow_reader_does_not_block_the_event_loop(kind: str) -> None:
    here, there = os.pipe() if kind == "pipe" else [end.detach() for end in socket.socketpair()]
    sent, written = "ä".encode() * 1_000_000 + b"\n", anyio.Event()

    async def write() -> None:
        await LineWriter(there).write(sent)
        written.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await anyio.sleep(0.05)  # the loop is not blocked
        assert not written.is_set()
        read = b""
        while len(read) < len(sent):
            await anyio.wait_readable(here)
            read += os.read(here, 1 << 20)
    assert read == sent
    for end in (here, there):
        os.close(end)


async def test_the_lines_end_when_the_host_has_exited() -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(b"never read")  # so that closing is a reset
    theirs.close()
    assert [line async for line in LineReader(ours.fileno())] == []
    ours.close()


@pytest.mark.parametrize("kind", ["pipe", "socket", "file"])
def test_the_server_works_over_a_pipe_a_socket_and_a_file(kind: str, tmp_path: Path) -> None:
    """A shell's redirection, a pipe, and a socket, which child processes of Node have."""
    command = [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(tmp_path / "data")]
    (tmp_path / "in").write_bytes(PING)
    if kind == "file":
        with (tmp_path / "in").open("rb") as stdin:
            output = subprocess.run(command, stdin=stdin, capture_output=True, check=True, timeout=60).stdout
    elif kind == "pipe":
        output = subprocess.run(command, input=PING, capture_output=True, check=True, timeout=60).stdout
    else:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(PING)
            ours.shutdown(socket.SHUT_WR)
            subprocess.run(command, stdin=theirs.fileno(), stdout=theirs.fileno(), check=True, timeout=60)
            output = ours.recv(1 << 16)
    assert output == b'{"jsonrpc":"2.0","id":1,"result":{}}\n'


def test_the_server_exits_quietly_when_the_host_stops_reading(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(PING)
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdout.close()
        process.stdin.write(PING)
        process.stdin.flush()
        assert process.wait(100) == 0  # although its stdin is still open
        assert process.stderr.read() == b""


def test_requests_received_before_stdin_ended_get_their_responses(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": f"turn {i} " + "words " * 500} for i in range(40)]
    requests = [
        _call(1, "sync_transcript", conversation_id="c", messages=turns),
        _call(2, "get_context", conversation_id="c", query="turn 7"),
    ]
    patient = (
        "import sys; from ctxmem_mcp.mcp_server import stdio; stdio.FINISH_SECONDS = 90.0\n"
        "from ctxmem_mcp.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", patient, "--data-dir", str(tmp_path)]
    done = subprocess.run(
        command, input="\n".join([HELLO, *requests, ""]), capture_output=True, check=True, timeout=110, text=True
    )
    responses = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(response["id"] for response in responses) == [0, 1, 2]
    assert all("result" in response for response in responses)


def _call(number: int, tool: str, **arguments: object) -> str:
    params = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
