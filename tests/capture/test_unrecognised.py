"""Events from which nothing can be read are kept, reported, read again after an update, and forgotten."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.capture import arrivals, spool, unrecognised
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.settings import Settings
from tests.capture.agents import drain_spool, load_turns, run

pytestmark = pytest.mark.anyio


def cursor(name: str, **more: Any) -> bytes:
    return json.dumps({"conversation_id": "c-1", "hook_event_name": name, **more}).encode()


def files_with(folder: Path, words: bytes) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and words in file.read_bytes()]


def age(event: spool.SpooledEvent) -> None:
    """Makes an event decades old."""
    path = Path(event.path)
    path.rename(path.with_name(f"{1:020d}-{path.name.split('-', 1)[1]}"))


UNKNOWN = [
    pytest.param("cline", b"not JSON", id="not JSON"),
    pytest.param("cline", b"{}", id="no session"),
    pytest.param("cline", b"[1, 2]", id="a list"),
    pytest.param("cline", b'{"taskId": "k", "hookName": "said_by_user", "text": "Name the port."}', id="Cline: name"),
    pytest.param("cline", b'{"taskId": "k", "hookName": "prompt_submit", "prompt": "Name it."}', id="Cline: fields"),
    pytest.param("cline", b'{"taskId": "k", "hookName": "tool_result", "result": "7412"}', id="Cline: call"),
    pytest.param("cursor", cursor("afterEverything", text="Name the port."), id="Cursor: name"),
    pytest.param("cursor", cursor("beforeSubmitPrompt", words="Name the port."), id="Cursor: fields"),
    pytest.param("cursor", cursor("beforeSubmitPrompt", prompt=[{"text": "Name the port."}]), id="Cursor: type"),
    pytest.param("cursor", cursor("beforeSubmitPrompt", prompt="Name the port.")[:-3], id="Cursor: cut off"),
    pytest.param("claude-code", b'{"session_id": "s", "hook_event_name": "Said", "text": "Port."}', id="Claude: name"),
    pytest.param("a-new-agent", b'{"session_id": "s", "hook_event_name": "Said", "text": "Port."}', id="new agent"),
]


@pytest.mark.parametrize(("agent", "raw"), UNKNOWN)
async def test_an_event_that_cannot_be_read_is_kept_and_reported(tmp_path: Path, agent: str, raw: bytes) -> None:
    data = tmp_path / "data"
    spool.put(str(data), agent, raw)
    assert (await drain_spool(data)).failed == 0
    assert spool.pending(str(data)) == []
    (kept,) = spool.events_in(str(data / unrecognised.FOLDER))
    assert kept.read()[:2] == (agent, raw)


async def test_list_and_doctor_report_unrecognised_events(tmp_path: Path) -> None:
    data = tmp_path / "data"
    spool.put(str(data), "cline", b'{"taskId": "k", "hookName": "said_by_user", "text": "Name the port."}')
    assert b"1 event of agents' hooks can't be read" in run(data, "list").stderr
    report = run(data, "doctor", "--json")
    found = json.loads(report.stdout)["data"]
    assert (report.returncode, found["unrecognised"]) == (1, 1)
    what = found["faults"][0]["what"]
    assert what.startswith("1 event of Cline can't be read (the newest, 'said_by_user', is of 20")
    assert str(data / unrecognised.FOLDER) in what


@pytest.mark.parametrize("kind", ["a folder", "not a regular file"])
async def test_doctor_names_a_transcript_that_is_not_a_file(tmp_path: Path, kind: str) -> None:
    data, transcript = tmp_path / "data", tmp_path / "s.jsonl"
    transcript.mkdir() if kind == "a folder" else os.mkfifo(transcript)
    for name, more in (("UserPromptSubmit", {"prompt": "Name the port."}), ("Said", {"text": "The port."})):
        event = {"session_id": "s", "hook_event_name": name, "transcript_path": str(transcript), **more}
        spool.put(str(data), "claude-code", json.dumps(event).encode())
    report = run(data, "doctor", "--json")
    (fault,) = json.loads(report.stdout)["data"]["faults"]
    assert f"the transcript that it names, {transcript}, is {kind}" in fault["what"]
    assert "transcript_path" in fault["remedy"]
    assert "Update" not in fault["remedy"]
    assert f"{transcript} is {kind}, so only what the events of claude-code contain is stored".encode() in report.stderr


@pytest.mark.parametrize(
    ("agent", "raw"),
    [
        ("cursor", cursor("stop", status="completed")),
        ("cursor", cursor("beforeSubmitPrompt", prompt="")),
        ("claude-code", b'{"session_id": "s", "hook_event_name": "SessionEnd", "reason": "other"}'),
        ("claude-code", b'{"session_id": "s", "hook_event_name": "Stop", "last_assistant_message": null}'),
        ("cline", b'{"taskId": "k", "hookName": "TaskStart", "taskStart": {}}'),
    ],
)
async def test_an_event_without_words_is_not_kept(tmp_path: Path, agent: str, raw: bytes) -> None:
    spool.put(str(tmp_path), agent, raw)
    await drain_spool(tmp_path)
    assert (spool.pending(str(tmp_path)), unrecognised.count(tmp_path)) == ([], 0)


async def test_half_a_surrogate_pair_does_not_lose_an_event(tmp_path: Path) -> None:
    spool.put(str(tmp_path), "cursor", cursor("beforeSubmitPrompt", prompt="Name \ud83d the port."))
    await drain_spool(tmp_path)
    assert [turn.content for turn in (await load_turns(tmp_path, "c-1"))[0]] == ["Name \ufffd the port."]


async def test_a_newer_version_reads_the_events_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.put(str(tmp_path), "cursor", cursor("beforeSubmitPrompt", prompt="Name the port."))
    (waiting,) = spool.pending(str(tmp_path))
    unrecognised.keep(tmp_path, waiting)  # as a version that can't read it does
    spool.put(str(tmp_path), "cursor", cursor("afterAgentResponse", text="It is 7412."))
    await drain_spool(tmp_path)
    assert unrecognised.count(tmp_path) == 1
    monkeypatch.setattr(unrecognised, "version", lambda _: "9.9.9")
    spool.put(str(tmp_path), "cursor", cursor("afterAgentResponse", text="Anything else?"))
    await drain_spool(tmp_path)
    turns, _ = await load_turns(tmp_path, "c-1")
    assert sorted(turn.content for turn in turns) == ["Anything else?", "It is 7412.", "Name the port."]
    assert unrecognised.count(tmp_path) == 0


async def test_unrecognised_events_of_a_forgotten_conversation_are_deleted(tmp_path: Path) -> None:
    spool.put(str(tmp_path), "cursor", cursor("beforeSubmitPrompt", prompt="Name the port."))
    spool.put(str(tmp_path), "cursor", cursor("afterEverything", text="a secret to be forgotten"))
    spool.put(str(tmp_path), "cursor", b'no JSON, of c-1: "a secret to be forgotten"')
    spool.put(str(tmp_path), "cursor", b'{"conversation_id": "c-2", "hook_event_name": "afterEverything"}')
    await drain_spool(tmp_path)
    assert unrecognised.count(tmp_path) == 3
    async with open_memory(Settings(tmp_path, durability="normal")) as memory:
        await memory.forget("c-1", "c-1")
    assert unrecognised.count(tmp_path) == 1
    assert not files_with(tmp_path, b"secret")


async def test_the_oldest_unrecognised_events_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unrecognised, "EVENTS_MAX", 3)
    for number in range(5):
        spool.put(str(tmp_path), "cline", b"no event %d" % number)
    await drain_spool(tmp_path)
    kept = [event.read()[1] for event in spool.events_in(str(tmp_path / unrecognised.FOLDER))]
    assert kept == [b"no event 2", b"no event 3", b"no event 4"]
    age(spool.events_in(str(tmp_path / unrecognised.FOLDER))[0])
    unrecognised.trim(tmp_path)
    assert unrecognised.count(tmp_path) == 2


async def test_the_time_of_each_agents_last_event_is_recorded(tmp_path: Path) -> None:
    spool.put(str(tmp_path), "cursor", cursor("beforeSubmitPrompt", prompt="Name the port."))
    spool.put(str(tmp_path), "cline", b"no JSON")
    times = {event.read()[0]: event.at for event in spool.pending(str(tmp_path))}
    await drain_spool(tmp_path)
    assert arrivals.read(tmp_path) == {"cursor": times["cursor"]}
