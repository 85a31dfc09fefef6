"""What a killed agent wrote last is stored by the server that it started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.capture.agents import Agent, environment, load_turns

pytestmark = pytest.mark.anyio

INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}  # fmt: skip
CALL = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "list_conversations", "arguments": {}}}


def session(folder: Path) -> Agent:
    row = {"sessionId": "s-1", "cwd": "/w"}
    use = {"type": "tool_use", "id": "call-1", "name": "Bash", "input": {"command": "make"}}
    result = {"type": "tool_result", "tool_use_id": "call-1", "content": "make: 3 targets built"}
    rows: list[dict[str, object]] = [
        {**row, "type": "user", "uuid": "1", "parentUuid": None, "message": {"role": "user", "content": "Build it."}},
        {
            **row,
            "type": "assistant",
            "uuid": "2",
            "parentUuid": "1",
            "message": {"role": "assistant", "content": [use]},
        },
        {**row, "type": "user", "uuid": "3", "parentUuid": "2", "message": {"role": "user", "content": [result]}},
    ]  # fmt: skip
    return Agent(folder / "data", folder / "s-1.jsonl", [json.dumps(row) for row in rows])


# A server whose end may take long, because the machine is busy.
PATIENT = """
import sys
from ctxmem_mcp.serve import stdio
stdio.CATCH_UP_SECONDS = 90.0
from ctxmem_mcp.__main__ import main
sys.exit(main())
"""


def serve(agent: Agent, rows: int) -> None:
    """Runs the server that the agent started. The agent writes this many rows, and is killed."""
    command = [sys.executable, "-c", PATIENT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(agent.data)
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(INITIALIZE).encode() + b"\n" + json.dumps(CALL).encode() + b"\n")
        server.stdin.flush()
        server.stdout.readline()
        server.stdout.readline()
        agent.write(rows)
        server.stdin.close()
        assert server.wait(100) == 0


async def test_the_last_tool_result_of_a_killed_agent_is_stored_when_stdin_ends(tmp_path: Path) -> None:
    agent = session(tmp_path)
    agent.write(2)
    agent.hook("PostToolUse", tool_name="Bash", tool_input={}, tool_response="x")
    for rows in (2, 3):
        serve(agent, rows)
        turns, branches = await load_turns(agent.data, "s-1")
        assert [turn.role for turn in turns] == ["user", "assistant", "tool"][:rows]
        assert branches == 1
