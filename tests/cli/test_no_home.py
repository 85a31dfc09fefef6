"""Everything works for a user without a home folder, as in containers, if CTXMEM_DATA_DIR names the data folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctxmem_mcp.capture import spool

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="every user has a profile there")

EXAMPLE = Path(__file__).parents[2] / "examples" / "session.jsonl"
# A user without HOME whom the system does not know.
NO_HOME = """
import os, pwd, sys
def unknown(_):
    raise KeyError
pwd.getpwuid = pwd.getpwnam = unknown
from ctxmem_mcp.hooks import session_start
session_start.SECONDS_MAX = 90.0
from ctxmem_mcp.__main__ import main
"""
RUN_ONE = f"{NO_HOME}sys.exit(main())"
# Each command is a process of its own, forked from one that has loaded the commands: loading them takes a second.
RUN_EACH = f"""{NO_HOME}
import json
from ctxmem_mcp.cli import commands
for number, words in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if not child:
        for descriptor in (1, 2):
            os.dup2(os.open(f"{{sys.argv[1]}}/{{number}}.{{descriptor}}", os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
        code = 70
        try:
            code = main(words)
            sys.stdout.flush()
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
START = {"session_id": "s-2", "hook_event_name": "SessionStart", "source": "startup", "cwd": "/w"}
STOP = {"session_id": "s-1", "hook_event_name": "Stop", "last_assistant_message": "Done.", "cwd": "/w"}
INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}  # fmt: skip
CALL = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "list_conversations", "arguments": {}}}


def run(
    folder: Path, *words: str, given: bytes = b"", data: str = "data", script: str = RUN_ONE
) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    if data:
        environment["CTXMEM_DATA_DIR"] = str(folder / data)
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", script, *words]
    return subprocess.run(
        command, input=given, capture_output=True, env=environment, cwd=folder, timeout=100, check=False
    )


def test_every_command_works_without_a_home_folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    commands = (
        ["import", str(EXAMPLE)], ["import", "--all"], ["list"], ["doctor"], ["show", "last"], ["verify"],
        ["context", "last", "errors"], ["backup", str(tmp_path / "backup")], ["token", "me"],
    )  # fmt: skip
    printed = tmp_path_factory.mktemp("printed")
    ran = run(tmp_path, str(printed), given=json.dumps(commands).encode(), script=RUN_EACH)
    assert (ran.returncode, ran.stderr) == (0, b"")
    codes = [int(line) for line in ran.stdout.splitlines()]
    for number, (words, code) in enumerate(zip(commands, codes, strict=True)):
        out, errors = ((printed / f"{number}.{descriptor}").read_bytes() for descriptor in (1, 2))
        assert (code, b"Traceback" in errors) == (0, False), (words, out, errors)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "data"]


def test_the_server_and_the_hooks_work_without_a_home_folder(tmp_path: Path) -> None:
    for event in (STOP, START):
        ran = run(tmp_path, "hook", "claude-code", given=json.dumps(event).encode())
        assert (ran.returncode, ran.stderr) == (0, b"")
    served = run(tmp_path, given=b"".join(json.dumps(one).encode() + b"\n" for one in (INITIALIZE, CALL)))
    assert (served.returncode, served.stderr) == (0, b"")
    assert [json.loads(line)["id"] for line in served.stdout.splitlines()] == [1, 2]
    assert "error" not in json.loads(served.stdout.splitlines()[1])
    assert spool.pending(str(tmp_path / "data")) == []
    assert b"s-1" in run(tmp_path, "list").stdout
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("words", [["install", "cursor"], ["uninstall", "cursor"]])
def test_what_needs_a_home_folder_says_so(tmp_path: Path, words: list[str]) -> None:
    ran = run(tmp_path, *words)
    assert ran.returncode == 1
    assert b"HOME" in ran.stderr
    assert b"Traceback" not in ran.stderr


@pytest.mark.parametrize("words", [["list"], ["serve"], ["hook", "claude-code"]])
def test_without_home_and_data_folder_nothing_is_written_to_the_current_folder(
    tmp_path: Path, words: list[str]
) -> None:
    ran = run(tmp_path, *words, given=json.dumps(STOP).encode(), data="")
    assert ran.returncode == (0 if words[0] == "hook" else 1)
    assert b"CTXMEM_DATA_DIR" in ran.stderr
    assert b"Traceback" not in ran.stderr
    assert list(tmp_path.iterdir()) == []
