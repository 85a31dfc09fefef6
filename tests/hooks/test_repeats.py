"""Before a call that failed before, the hook reports when, with which error, and what solved it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.capture import failed_calls, spool
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.settings import Settings
from tests.capture.agents import Agent, drain_spool, run

pytestmark = pytest.mark.anyio
Row = dict[str, Any]
COMMAND = "staticcheck -checks 'U1000' ./..."
MISSING = "Exit code 127\nzsh: command not found: staticcheck"
SECRET = b"k" * 32


def row(number: int, role: str, *blocks: Row) -> Row:
    return {
        "type": role, "uuid": str(number), "parentUuid": str(number - 1) if number else None, "sessionId": "s-1",
        "cwd": "/w", "timestamp": "2026-01-09T10:50:40Z", "message": {"role": role, "content": list(blocks)},
    }  # fmt: skip


def call(number: int, tool: str, **arguments: str) -> Row:
    return row(number, "assistant", {"type": "tool_use", "id": f"c{number}", "name": tool, "input": arguments})


def result(number: int, content: str) -> Row:
    return row(number, "user", {"type": "tool_result", "tool_use_id": f"c{number - 1}", "content": content})


async def worked(tmp_path: Path, *rows: Row) -> Agent:
    """A session with these rows after its prompt, stored by a drain."""
    prompt = row(0, "user", {"type": "text", "text": "Look for unused code."})
    lines = [json.dumps(one, separators=(",", ":")) for one in (prompt, *rows)]
    agent = Agent(tmp_path / "data", tmp_path / "s-1.jsonl", lines)
    agent.write(len(lines))
    agent.hook("SessionEnd")
    await drain_spool(agent.data)
    return agent


def line_for(agent: Agent, tool: str, arguments: dict[str, str], session: str = "s-1", **settings: str) -> str:
    transcript = str(agent.file.with_name(f"{session}.jsonl"))
    fields = {"tool_name": tool, "tool_input": arguments, "session_id": session, "transcript_path": transcript}
    before = agent.event("PreToolUse", **fields)
    ran = run(agent.data, "hook", "claude-code", given=before, **settings)
    assert (ran.returncode, ran.stderr) == (0, b"")
    return str(json.loads(ran.stdout)["hookSpecificOutput"]["additionalContext"]) if ran.stdout else ""


async def test_a_repeated_failure_is_reported_once_in_a_session(tmp_path: Path) -> None:
    works = "go run honnef.co/go/tools/cmd/staticcheck -checks 'U1000' ./..."
    agent = await worked(
        tmp_path, call(1, "Bash", command=COMMAND), result(2, MISSING), call(3, "Bash", command=works), result(4, "")
    )
    repeated = {"command": 'cd /w && staticcheck  -checks "U1000" ./... 2>&1 | tail -20'}
    line = line_for(agent, "Bash", repeated, "s-2")
    assert line.startswith("[ctxmem-mcp recalls] This call failed before on 2026-01-09 (conversation s-1, t2-")
    assert "zsh: command not found: staticcheck" in line
    assert f"What solved it: `{works}` worked afterwards" in line
    assert "\n" not in line
    assert line_for(agent, "Bash", repeated, "s-2") == ""
    assert line_for(agent, "Bash", repeated, "s-3") == line
    assert line_for(agent, "Bash", {"command": "staticcheck ./other"}, "s-4") == ""
    assert line_for(agent, "Bash", repeated, "s-5", CTXMEM_REPEAT_WARNINGS="off") == ""
    assert spool.pending(str(agent.data)) == []


async def test_a_failure_that_an_edit_may_have_mended_is_not_reported(tmp_path: Path) -> None:
    failed = [call(1, "Bash", command="make test"), result(2, "Exit code 2\nrelay.py:8: error: no port")]
    rerun = {"command": "make test"}
    agent = await worked(tmp_path, *failed, call(3, "Read", file_path="/w/relay.py"), result(4, "port = None"))
    assert line_for(agent, "Bash", rerun, "s-2") == ""  # another session
    assert "Nothing is recorded that solved it." in line_for(agent, "Bash", rerun)
    for change in (
        call(5, "Edit", file_path="/w/relay.py", old_string="None", new_string="1"),
        call(5, "Bash", command="sed -i s/None/1/ relay.py"),
        row(5, "user", {"type": "text", "text": "Run it again."}),
    ):
        agent.lines[5:] = [json.dumps(change, separators=(",", ":"))]
        agent.write(6)
        (agent.data / "warned" / "s-1").unlink(missing_ok=True)
        assert line_for(agent, "Bash", rerun) == ""


async def test_a_call_that_succeeded_since_is_not_reported(tmp_path: Path) -> None:
    calls = [call(1, "Bash", command=COMMAND), result(2, MISSING), call(3, "Bash", command=COMMAND), result(4, "ok")]
    agent = await worked(tmp_path, *calls)
    assert line_for(agent, "Bash", {"command": COMMAND}, "s-2") == ""


async def test_a_drain_writes_the_record_only_if_the_session_has_new_turns(tmp_path: Path) -> None:
    agent = await worked(tmp_path, call(1, "Bash", command=COMMAND), result(2, MISSING))
    (record,) = [path for path in files(agent.data / "failed_calls") if b"command not found" in path.read_bytes()]
    written = record.stat().st_mtime_ns
    agent.hook("Stop")
    await drain_spool(agent.data)
    assert record.stat().st_mtime_ns == written
    agent.lines += [json.dumps(one) for one in (call(3, "Bash", command="make"), result(4, "Exit code 2\nno rule"))]
    agent.write(len(agent.lines))
    agent.hook("SessionEnd")
    await drain_spool(agent.data)
    assert b"no rule" in record.read_bytes()


async def test_a_forgotten_conversations_failures_are_forgotten(tmp_path: Path) -> None:
    agent = await worked(tmp_path, call(1, "Bash", command=COMMAND), result(2, MISSING))
    assert [path for path in files(agent.data / "failed_calls") if b"command not found" in path.read_bytes()]
    assert line_for(agent, "Bash", {"command": COMMAND})
    async with open_memory(Settings(agent.data)) as memory:
        await memory.forget("s-1", confirm="s-1")
    assert files(agent.data / "warned") == []
    assert [path for path in files(agent.data) if b"command not found" in path.read_bytes()] == []
    assert line_for(agent, "Bash", {"command": COMMAND}, "s-2") == ""


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_forgotten_branchs_failures_are_forgotten(tmp_path: Path) -> None:
    agent = await worked(tmp_path, call(1, "Bash", command=COMMAND), result(2, MISSING))
    async with open_memory(Settings(agent.data)) as memory:
        turns = await memory.history("s-1")
        await memory.forget_from("s-1", turns[1].id)
    assert [path for path in files(agent.data) if b"command not found" in path.read_bytes()] == []


async def test_other_events_that_name_this_one_are_spooled(tmp_path: Path) -> None:
    agent = await worked(tmp_path, call(1, "Bash", command=COMMAND), result(2, MISSING))
    agent.hook("PostToolUse", tool_name="Bash", tool_input={}, tool_response='{"hook_event_name": "PreToolUse"}')
    assert len(spool.pending(str(agent.data))) == 1


async def test_worktrees_and_subfolders_are_one_project(tmp_path: Path) -> None:
    main, worktree = tmp_path / "main", tmp_path / "worktree"
    (main / ".git" / "worktrees" / "w").mkdir(parents=True)
    (main / "src").mkdir()
    worktree.mkdir()
    (worktree / ".git").write_text(f"gitdir: {main}/.git/worktrees/w\n")
    failed = failed_calls.FailedCall("k", "c1", "s-1", "t2-1", "", True, "broken", "")
    failed_calls.update(str(tmp_path), str(main), [failed], ())
    for folder in (main, main / "src", worktree):
        found = failed_calls.find(str(tmp_path), str(folder), "k")
        assert found is not None
        assert found.error == "broken"
    assert failed_calls.find(str(tmp_path), str(tmp_path), "k") is None
    assert os.name == "nt" or all(path.stat().st_mode & 0o77 == 0 for path in files(tmp_path / "failed_calls"))


WORDS = st.lists(st.text("abcxyz-./=", min_size=1, max_size=6), min_size=1, max_size=6)


@given(
    WORDS, st.sampled_from(["{}", "cd /some/where && {}", "  {} ", "{} 2>&1", "{} | tail -20", "{} 2>&1 | head -n 5"])
)
def test_a_command_has_one_key_however_it_is_wrapped(words: list[str], wrapped: str) -> None:
    plain, other = " ".join(words), wrapped.format("  ".join(words))
    keys = {failed_calls.key_of("Bash", {"command": command}, SECRET) for command in (plain, other)}
    assert len(keys) == 1


@given(WORDS, WORDS)
def test_different_commands_have_different_keys(one: list[str], other: list[str]) -> None:
    keys = [failed_calls.key_of("Bash", {"command": " ".join(words)}, SECRET) for words in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
