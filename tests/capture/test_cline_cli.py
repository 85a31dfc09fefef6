"""Events and transcripts of Cline's CLI 3, in the form in which version 3.0.65 writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.capture import spool
from ctxmem_mcp.capture.events import parse_event
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.settings import Settings
from tests.capture.agents import drain_spool, fields_of, load_turns, run

pytestmark = pytest.mark.anyio

SESSION, CALL = "1795974459143_cw7na", "call_a265a3a9e26f458b8826"
INPUT = {"commands": ["echo hi; ls /nonexist"]}
OUTPUT = [{"query": INPUT["commands"][0], "result": "[Command exited with code 2]\nhi\n", "success": False}]


def event(name: str, **more: Any) -> bytes:
    """An event as the CLI sends it: the run's conversation is not what the session's file is named after."""
    base = {
        "clineVersion": "", "timestamp": "2026-11-29T17:47:41.579Z", "taskId": "conv_1795974461239_tg8n3y3",
        "sessionContext": {"rootSessionId": SESSION}, "workspaceRoots": ["/work"], "userId": "unknown",
        "agent_id": "agent_1", "parent_agent_id": None, "hookName": name,
    }  # fmt: skip
    return json.dumps({**base, **more}).encode()


def tool_result(**more: Any) -> bytes:
    record = {"id": CALL, "name": "run_commands", "input": INPUT, "output": OUTPUT, "durationMs": 71}
    old = {"toolName": "run_commands", "parameters": {"commands": json.dumps(INPUT["commands"])}, "success": True}
    return event("tool_result", iteration=1, tool_result=record, postToolUse={**old, "result": "x"}, **more)


def write_session(home: Path, *, until: int) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": '<user_input mode="act">Look around.</user_input>'}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": CALL, "name": "run_commands", "input": INPUT}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": CALL, "content": OUTPUT}]},
        {"role": "assistant", "content": [{"type": "text", "text": "ENOENT seen."}]},
    ]
    folder = home / ".cline" / "data" / "sessions" / SESSION
    folder.mkdir(parents=True, exist_ok=True)
    document = {"version": 1, "sessionId": SESSION, "messages": messages[:until], "system_prompt": "You are Cline."}
    (folder / f"{SESSION}.messages.json").write_text(json.dumps(document), "utf-8")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("CLINE_DIR", "CLINE_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


async def test_a_one_shot_session_is_stored_from_its_transcript(home: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_session(home, until=3)
    spool.put(str(data), "cline", tool_result())
    await drain_spool(data)
    write_session(home, until=4)
    spool.put(str(data), "cline", event("agent_end", turn={"outputText": "ENOENT seen.", "status": "completed"}))
    await drain_spool(data)
    turns, branches = await load_turns(data, SESSION)
    assert [turn.content for turn in turns if turn.role != "tool"] == [
        "Look around.", '{"commands":["echo hi; ls /nonexist"]}', "ENOENT seen.",
    ]  # fmt: skip
    assert (turns[2].call_id, "[Command exited with code 2]" in turns[2].content, branches) == (CALL, True, 1)
    async with open_memory(Settings(data, durability="normal")) as memory:
        (listed,) = (await memory.conversations(space="/work")).conversations
    assert listed.conversation_id == SESSION
    assert b"can't be read" not in run(data, "list").stderr


async def test_a_session_without_a_transcript_is_stored_from_its_events(home: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for raw in (
        event("prompt_submit", userPromptSubmit={"prompt": "Look around.", "attachments": []}),
        tool_result(),
        event("agent_end", turn={"outputText": "ENOENT seen."}),
        event("session_shutdown", reason="completed"),
    ):
        spool.put(str(data), "cline", raw)
    await drain_spool(data)
    assert fields_of((await load_turns(data, SESSION))[0]) == [
        ("user", None, None, "Look around."),
        ("assistant", "run_commands", CALL, '{"commands":["echo hi; ls /nonexist"]}'),
        ("tool", "run_commands", CALL, json.dumps(OUTPUT, separators=(",", ":"), ensure_ascii=False)),
        ("assistant", None, None, "ENOENT seen."),
    ]


def test_the_words_of_a_sub_agent_are_not_the_sessions_own() -> None:
    read = parse_event("cline", event("agent_end", turn={"outputText": "Found."}, parent_agent_id="agent_0"), 0.0)
    assert read is not None
    assert (read.session_id, read.turns, read.messages, read.recognised) == (SESSION, (), (), True)


@pytest.mark.parametrize(
    "name",
    ["agent_start", "agent_resume", "agent_abort", "agent_error", "tool_call", "pre_compact", "session_shutdown"],
)
def test_events_without_words_are_recognised(name: str) -> None:
    read = parse_event("cline", event(name), 0.0)
    assert read is not None
    assert (read.turns, read.recognised) == ((), True)
