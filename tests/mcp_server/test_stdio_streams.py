"""The wire: whatever comes in pieces goes on in lines; a reader who is slow holds nobody up; stray output stays off."""

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

from ctxmem_mcp.mcp_server.stdio import LineReader, TextWriter

pytestmark = pytest.mark.anyio

HELLO = json.dumps({
    "jsonrpc": "2.0", "id": 0, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
})  # fmt: skip
PING = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n'


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))), st.data())
def test_lines_come_whole_however_they_were_cut(texts: list[str], data: st.DataObject) -> None:
    sent = "\n".join(texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    parts = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert anyio.run(_lines, parts) == [text for text in texts if text]


async def _lines(parts: list[bytes]) -> list[str]:
    here, there = os.pipe()
    found: list[str] = []

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
async def test_a_slow_reader_holds_nobody_up(kind: str) -> None:
    here, there = os.pipe() if kind == "pipe" else [end.detach() for end in socket.socketpair()]
    text, written = "ä" * 1_000_000 + "\n", anyio.Event()

    async def write() -> None:
        await TextWriter(there).write(text)
        written.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await anyio.sleep(0.05)  # the loop goes on
        assert not written.is_set()
        read = b""
        while len(read) < len(text.encode()):
            await anyio.wait_readable(here)
            read += os.read(here, 1 << 20)
    assert read.decode() == text
    for end in (here, there):
        os.close(end)


async def test_a_host_that_is_gone_is_the_end() -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(b"never read")  # so that closing is a reset
    theirs.close()
    assert [line async for line in LineReader(ours.fileno())] == []
    ours.close()


@pytest.mark.parametrize("kind", ["pipe", "socket", "file"])
def test_the_server_answers_on_whatever_it_is_started_with(kind: str, tmp_path: Path) -> None:
    """A shell's redirection, a pipe, a socket as Node's child processes have: the same answer, and nothing else."""
    command = [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(tmp_path / "data")]
    (tmp_path / "in").write_bytes(PING)
    if kind == "file":
        with (tmp_path / "in").open("rb") as stdin:
            said = subprocess.run(command, stdin=stdin, capture_output=True, check=True, timeout=60).stdout
    elif kind == "pipe":
        said = subprocess.run(command, input=PING, capture_output=True, check=True, timeout=60).stdout
    else:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(PING)
            ours.shutdown(socket.SHUT_WR)
            subprocess.run(command, stdin=theirs.fileno(), stdout=theirs.fileno(), check=True, timeout=60)
            said = ours.recv(1 << 16)
    assert said == b'{"jsonrpc":"2.0","id":1,"result":{}}\n'


def test_a_host_that_reads_no_more_is_the_end_without_a_fuss(tmp_path: Path) -> None:
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
        assert process.wait(30) == 0  # though its input is still open
        assert process.stderr.read() == b""


def test_what_was_asked_before_the_input_ended_is_answered(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": f"turn {i} " + "words " * 500} for i in range(40)]
    asked = [
        _call(1, "sync_transcript", conversation_id="c", messages=turns),
        _call(2, "get_context", conversation_id="c", query="turn 7"),
    ]
    command = [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(tmp_path)]
    done = subprocess.run(
        command, input="\n".join([HELLO, *asked, ""]), capture_output=True, check=True, timeout=60, text=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(answer["id"] for answer in answers) == [0, 1, 2]
    assert all("result" in answer for answer in answers)


def _call(number: int, tool: str, **arguments: object) -> str:
    asked = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": asked})
