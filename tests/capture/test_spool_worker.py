"""Draining the spool: messages that a transcript lacks, other agents, forgotten conversations."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.capture import spool, spool_worker
from ctxmem_mcp.capture.spool_worker import DrainResult, drain
from ctxmem_mcp.capture.transcript_sync import TranscriptSync, read_whole_lines
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import StoreUnavailable, UnknownConversation
from ctxmem_mcp.settings import Settings
from tests.capture.agents import Agent, drain_spool, fields_of, load_turns, run

pytestmark = pytest.mark.anyio
Row = dict[str, Any]


def row(number: int, role: str, content: Any, **more: Any) -> str:
    message = {"role": role, "content": content}
    parent = str(number - 1) if number else None
    named: Row = {"type": role, "uuid": str(number), "parentUuid": parent, "sessionId": "s-1", "cwd": "/w"}
    return json.dumps({**named, **more, "message": message})


def text(words: str) -> list[Row]:
    return [{"type": "text", "text": words}]


THOUGHT = [{"type": "thinking", "thinking": "The port stands in relay.toml."}]
LINES = [row(0, "user", "Name the port."), row(1, "assistant", THOUGHT), row(2, "assistant", text("It is 7412."))]


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "data", tmp_path / "s-1.jsonl", LINES)


def age_events(data: Path, seconds: int = 60) -> None:
    """Makes the pending events older than TRANSCRIPT_LAG_SECONDS."""
    for waiting in spool.pending(str(data)):
        path = Path(waiting.path)
        stamp, rest = path.name.split("-", 1)
        path.rename(path.with_name(f"{int(stamp) - int(seconds * 1e9):020d}-{rest}"))


def leave(agent: Agent, name: str, **more: Any) -> None:
    """Spools an event as the hook does, in this process."""
    spool.put(str(agent.data), "claude-code", agent.event(name, **more))


def keep_oldest_event(data: Path) -> Callable[[], object]:
    """Returns a function that restores the oldest event, as if its drain had been killed after the commit."""
    path = Path(spool.pending(str(data))[0].path)
    noted, kept = path.with_name(path.name.removesuffix(".event") + "~.event"), path.read_bytes()
    return lambda: noted.write_bytes(kept)


async def contents(agent: Agent) -> tuple[list[str], int]:
    turns, branches = await load_turns(agent.data, "s-1")
    return [turn.content for turn in turns], branches


async def test_a_message_that_the_transcript_lacks_waits_and_is_stored_once(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_worker, "TRANSCRIPT_LAG_SECONDS", 600)  # a busy machine may take longer than usual
    agent.write(2)
    leave(agent, "Stop", last_assistant_message="It is 7412.")
    assert (await drain_spool(agent.data)).pending == 1
    agent.write(3)
    assert (await drain_spool(agent.data)).pending == 0
    assert await contents(agent) == (["Name the port.", "The port stands in relay.toml.", "It is 7412."], 1)


async def test_a_read_waits_for_missing_messages_but_not_for_long(agent: Agent) -> None:
    agent.write(2)
    leave(agent, "Stop", last_assistant_message="It is 7412.")
    await asyncio.wait_for(drain_spool(agent.data, wait=True), 100)
    assert (await contents(agent))[0][-1] == "It is 7412."
    agent.write(3)
    leave(agent, "SessionEnd")
    await drain_spool(agent.data)
    assert await contents(agent) == (["Name the port.", "The port stands in relay.toml.", "It is 7412."], 1)


async def test_an_event_from_the_future_is_not_waited_for(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_worker, "TRANSCRIPT_LAG_SECONDS", 600)
    agent.write(2)
    leave(agent, "Stop", last_assistant_message="It is 7412.")
    age_events(agent.data, -3_600)
    await asyncio.wait_for(drain_spool(agent.data, wait=True), 100)
    assert (await contents(agent))[0][-1] == "It is 7412."


async def test_a_transcript_with_more_before_the_message_wins(agent: Agent) -> None:
    agent.write(1)
    leave(agent, "Stop", last_assistant_message="It is 7412.")
    age_events(agent.data)
    await drain_spool(agent.data)
    assert await contents(agent) == (["Name the port.", "It is 7412."], 1)
    agent.write(3)
    leave(agent, "SessionEnd")
    await drain_spool(agent.data)
    assert await contents(agent) == (["Name the port.", "The port stands in relay.toml.", "It is 7412."], 2)


async def test_messages_of_a_session_that_ended_without_a_transcript_are_stored(agent: Agent) -> None:
    leave(agent, "UserPromptSubmit", prompt="Name the port.")
    leave(agent, "Stop", last_assistant_message="It is 7412.")
    leave(agent, "SessionEnd")
    await drain_spool(agent.data)
    assert await contents(agent) == (["Name the port.", "It is 7412."], 1)


async def test_two_events_with_the_same_message_store_it_once(agent: Agent) -> None:
    agent.write(2)
    for _ in range(2):
        leave(agent, "Stop", last_assistant_message="It is 7412.")
    age_events(agent.data)
    await drain_spool(agent.data)
    assert (await contents(agent))[0][-2:] == ["The port stands in relay.toml.", "It is 7412."]


async def test_an_event_whose_drain_was_killed_after_the_commit_is_not_stored_again(agent: Agent) -> None:
    leave(agent, "UserPromptSubmit", prompt="yes")
    leave(agent, "SessionEnd")
    put_back = keep_oldest_event(agent.data)
    await drain_spool(agent.data)
    put_back()
    age_events(agent.data)
    await drain_spool(agent.data)
    assert await contents(agent) == (["yes"], 1)


async def test_an_unfinished_line_is_not_read(agent: Agent) -> None:
    agent.write(2, torn=30)
    assert read_whole_lines(agent.file).endswith(b"}\n")
    leave(agent, "PreCompact")
    await drain_spool(agent.data)
    assert len((await contents(agent))[0]) == 2
    agent.write(3)
    agent.file.write_bytes(agent.file.read_bytes().rstrip(b"\n"))
    assert read_whole_lines(agent.file) == agent.file.read_bytes()


async def test_a_rewritten_file_is_read_from_its_start(agent: Agent) -> None:
    agent.write(3)
    leave(agent, "Stop")
    await drain_spool(agent.data)
    agent.file.write_text(
        row(0, "user", "Name the host.") + "\n" + row(1, "assistant", text("relay-2")) + "\n", "utf-8"
    )
    leave(agent, "Stop")
    await drain_spool(agent.data)
    assert await contents(agent) == (["Name the host.", "relay-2"], 2)


async def test_a_subagents_file_becomes_its_own_conversation(agent: Agent) -> None:
    agent.write(3)
    folder = agent.file.with_suffix("") / "subagents"
    folder.mkdir(parents=True)
    aside = row(0, "user", "Look for ports.", isSidechain=True, agentId="a1")
    (folder / "agent-a1.jsonl").write_text(aside + "\n", "utf-8")
    leave(agent, "Stop")
    await drain_spool(agent.data)
    assert fields_of((await load_turns(agent.data, "s-1:a1"))[0]) == [("user", None, None, "Look for ports.")]


async def test_a_forgotten_session_leaves_the_spool_and_comes_back_only_by_import(agent: Agent) -> None:
    agent.write(3)
    leave(agent, "Stop")
    await drain_spool(agent.data)
    leave(agent, "UserPromptSubmit", prompt="a secret to be forgotten")
    async with open_memory(Settings(agent.data, durability="normal")) as memory:
        await memory.forget("s-1", "s-1")
    held = [file for file in agent.data.rglob("*") if file.is_file()]
    assert not any(b"secret" in file.read_bytes() or b"7412" in file.read_bytes() for file in held)
    leave(agent, "Stop", last_assistant_message="It is 7412.")
    await drain_spool(agent.data)
    with pytest.raises(UnknownConversation):
        await load_turns(agent.data, "s-1")
    assert spool.pending(str(agent.data)) == []
    refused = run(agent.data, "import", str(agent.file))
    assert (refused.returncode, b"--again" in refused.stderr) == (1, True)
    with pytest.raises(UnknownConversation):
        await load_turns(agent.data, "s-1")
    assert run(agent.data, "import", "--again", str(agent.file)).returncode == 0
    leave(agent, "Stop")
    await drain_spool(agent.data)
    assert len((await contents(agent))[0]) == 3


async def test_a_session_of_cursor_is_stored_from_its_events(tmp_path: Path) -> None:
    told_of: list[tuple[str, Row]] = [
        ("beforeSubmitPrompt", {"prompt": "Name the port."}),
        ("afterShellExecution", {"command": "cat relay.toml", "output": "port = 7412"}),
        ("afterFileEdit", {"file_path": "/w/a.py", "edits": [{"old_string": "1", "new_string": "2"}]}),
        ("afterAgentResponse", {"text": "It is 7412."}),
        ("stop", {"status": "completed"}),
    ]
    for name, said in told_of:
        given = {"conversation_id": "c-1", "hook_event_name": name, "workspace_roots": ["/w"], **said}
        spool.put(str(tmp_path), "cursor", json.dumps(given).encode())
    async with open_memory(Settings(tmp_path, durability="normal")) as memory:
        await drain(memory, tmp_path)
        assert [info.conversation_id for info in (await memory.conversations(space="/w")).conversations] == ["c-1"]
    assert fields_of((await load_turns(tmp_path, "c-1"))[0]) == [
        ("user", None, None, "Name the port."),
        ("assistant", "shell", None, "cat relay.toml"),
        ("tool", "shell", None, "port = 7412"),
        ("assistant", "edit_file", None,
         '{"file_path":"/w/a.py","edits":[{"old_string":"1","new_string":"2"}]}'),
        ("assistant", None, None, "It is 7412."),
    ]  # fmt: skip


async def test_events_of_cline_and_codex_are_parsed(tmp_path: Path) -> None:
    cline = {"taskId": "k", "hookName": "UserPromptSubmit", "userPromptSubmit": {"prompt": "Name the port."}}
    done = {"toolName": "attempt_completion", "parameters": {"result": "It is 7412."}}
    spool.put(str(tmp_path), "cline", json.dumps(cline).encode())
    spool.put(
        str(tmp_path), "cline", json.dumps({"taskId": "k", "hookName": "PostToolUse", "postToolUse": done}).encode()
    )
    notice = {"type": "agent-turn-complete", "thread-id": "x", "cwd": "/w", "input-messages": ["Name the port."],
              "last-assistant-message": "It is 7412."}  # fmt: skip
    spool.put(str(tmp_path), "codex", json.dumps(notice).encode())
    await drain_spool(tmp_path)
    for conversation in ("k", "x"):
        turns, _ = await load_turns(tmp_path, conversation)
        assert [turn.content for turn in turns] == ["Name the port.", "It is 7412."]


async def test_of_sessions_drained_together_the_last_to_speak_is_last_active(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.time_ns()
    for seconds, session in enumerate(("s-1", "s-2", "s-3", "s-1"), -10):
        said = {"conversation_id": session, "hook_event_name": "afterAgentResponse", "text": "Done."}
        with monkeypatch.context() as patched:
            patched.setattr(time, "time_ns", lambda at=began + seconds * 10**9: at)
            spool.put(str(tmp_path), "cursor", json.dumps(said).encode())
    await drain_spool(tmp_path)
    async with open_memory(Settings(tmp_path)) as memory:
        listed = [info.conversation_id for info in (await memory.conversations()).conversations]
    assert listed == ["s-1", "s-3", "s-2"]


def lock_holder(data: Path) -> subprocess.Popen[bytes]:
    """A process that holds the drain's lock until it is killed."""
    code = "import filelock, sys; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(data / "spool" / "lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    return holder


async def test_one_drain_runs_at_a_time_and_a_killed_one_releases_the_lock(agent: Agent) -> None:
    agent.write(3)
    leave(agent, "SessionEnd")
    with lock_holder(agent.data) as holder:
        assert await drain_spool(agent.data) == DrainResult()
        waiting = asyncio.create_task(drain_spool(agent.data, wait=True))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        holder.kill()
        assert (await waiting).new == 3


async def test_a_failed_drain_keeps_the_events_and_logs_why(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("The disk is full; nothing was stored.", "Free some space and try again.")

    monkeypatch.setattr(TranscriptSync, "sync_file", full)
    agent.write(3)
    leave(agent, "SessionEnd")
    assert (await drain_spool(agent.data)).failed == 1
    (said,) = caplog.records
    assert (bool(said.exc_info), "Free some space" in said.getMessage()) == (False, True)
    assert len(spool.pending(str(agent.data))) == 1


# ------------------------------------------------------------ odd files

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")


@pytest.mark.parametrize(
    "kind", [pytest.param("pipe", marks=POSIX), "folder", pytest.param("device", marks=POSIX), "missing"]
)
async def test_an_event_whose_transcript_is_no_file_is_stored_from_its_messages(agent: Agent, kind: str) -> None:
    named = agent.file
    if kind == "pipe":
        os.mkfifo(named)
    elif kind == "folder":
        named.mkdir()
    elif kind == "device":
        named.symlink_to("/dev/zero")
    leave(agent, "Stop", last_assistant_message="It is 7412.", transcript_path=str(named))
    age_events(agent.data)
    assert (await drain_spool(agent.data)).failed == 0
    assert spool.pending(str(agent.data)) == []
    assert (await contents(agent))[0] == ["It is 7412."]


@POSIX
async def test_pipes_folders_and_links_in_the_spool_are_ignored(agent: Agent) -> None:
    agent.write(3)
    leave(agent, "Stop")
    folder = agent.data / spool.FOLDER
    os.mkfifo(folder / f"{1:020d}-1-ab.event")
    (folder / f"{2:020d}-1-ab.event").mkdir()
    (folder / f"{3:020d}-1-ab.event").symlink_to("/dev/zero")
    assert (await drain_spool(agent.data)).failed == 0
    assert spool.pending(str(agent.data)) == []
    assert len((await contents(agent))[0]) == 3


# ---------------------------------------------------------------- a backlog


def leave_backlog(data: Path, first: int, count: int) -> None:
    """Spools prompts of one session of an agent that is stored from its events."""
    for number in range(first, first + count):
        event = {"conversation_id": "s-9", "hook_event_name": "beforeSubmitPrompt", "prompt": f"prompt {number}"}
        spool.put(str(data), "cursor", json.dumps(event).encode())


def copy_of(events: list[spool.SpooledEvent]) -> Callable[[], None]:
    contents = {Path(event.path): Path(event.path).read_bytes() for event in events}

    def put_back() -> None:
        for path, content in contents.items():
            path.write_bytes(content)

    return put_back


async def prompts(data: Path) -> tuple[list[str], int]:
    turns, branches = await load_turns(data, "s-9")
    return [turn.content for turn in turns], branches


async def test_a_backlog_is_stored_in_order_while_the_event_loop_goes_on(tmp_path: Path) -> None:
    data, ticks = tmp_path / "data", 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    leave_backlog(data, 0, 1_000)
    async with open_memory(Settings(data)) as memory:
        ticking = asyncio.create_task(tick())
        while spool.has_pending(str(data)):
            await drain(memory, data, wait=True)
        ticking.cancel()
    assert await prompts(data) == ([f"prompt {number}" for number in range(1_000)], 1)
    assert ticks >= 500


@pytest.mark.parametrize("left", [1, 3, 7])
async def test_a_batch_of_which_a_killed_drain_left_the_beginning_is_stored_once(tmp_path: Path, left: int) -> None:
    data = tmp_path / "data"
    leave_backlog(data, 0, 3)
    await drain_spool(data)
    leave_backlog(data, 3, 7)
    head = (await load_turns(data, "s-9"))[0][-1].id
    for waiting in spool.pending(str(data)):
        waiting.set_after(head)  # as a drain does before the commit
    put_back = copy_of(spool.pending(str(data))[:left])
    await drain_spool(data)
    put_back()  # events are removed last first: these remained when the drain was killed
    leave_backlog(data, 10, 2)
    await drain_spool(data)
    assert await prompts(data) == ([f"prompt {number}" for number in range(12)], 1)


def test_a_command_does_not_wait_for_a_backlog(tmp_path: Path) -> None:
    data = tmp_path / "data"
    leave_backlog(data, 0, 3_000)
    listed = subprocess.run(
        [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(data), "list"],
        capture_output=True,
        text=True,
        check=True,
    )
    left = spool.count_pending(str(data))
    if left:  # this machine stores fewer than 3,000 a second
        assert "events of agents' hooks are not stored yet" in listed.stderr
