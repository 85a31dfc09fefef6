"""A client that sends its whole history again, with a turn that was redacted since, goes on with the conversation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctxmem_mcp import redaction
from ctxmem_mcp.capture import spool
from ctxmem_mcp.capture.spool_worker import drain
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.settings import Settings
from tests.stores.forget_process import Ways
from tests.stores.samples import raw_files

pytestmark = pytest.mark.anyio

SECRET = "the key of staging is quixoplex"


async def test_a_client_goes_on_after_a_redaction_without_a_new_branch(tmp_path: Path) -> None:
    async with open_memory(Settings(data_dir=tmp_path), background=False) as memory:
        ways = Ways(memory, tmp_path)
        messages = [{"role": "user", "content": SECRET}]
        conversation = await ways.gateway(messages, "I have noted it.")
        found = await memory.find_copies(conversation, "t0")
        await redaction.redact(memory, tmp_path, found)
        messages += [{"role": "assistant", "content": "I have noted it."}, {"role": "user", "content": "Go on."}]
        for restarted in (False, True):
            ways = Ways(memory, tmp_path) if restarted else ways
            assert await ways.gateway(messages, "It is done.") == conversation
        assert [turn.content[:9] for turn in await memory.history(conversation)] == [
            "[redacted", "I have no", "Go on.", "It is don",
        ]  # fmt: skip
        assert len(await memory.branches(conversation)) == 1
        assert await memory.verify(conversation) == []
    assert not any(b"quixoplex" in raw for raw in raw_files(tmp_path).values())


async def test_a_session_s_transcript_and_events_bring_nothing_back(tmp_path: Path) -> None:
    data, transcript = tmp_path / "data", tmp_path / "session.jsonl"
    rows = [("user", SECRET), ("assistant", "Noted."), ("user", "Go on."), ("assistant", "Done.")]
    lines = [
        json.dumps({
            "type": role, "uuid": str(i), "parentUuid": str(i - 1) if i else None, "sessionId": "session", "cwd": "/w",
            "message": {"role": role, "content": content},
        }) + "\n"
        for i, (role, content) in enumerate(rows)
    ]  # fmt: skip
    event = {"session_id": "session", "transcript_path": str(transcript), "cwd": "/w"}
    async with open_memory(Settings(data_dir=data), background=False) as memory:
        ways = Ways(memory, data)
        transcript.write_text("".join(lines[:2]))
        await ways.watch(str(transcript))
        await redaction.redact(memory, data, await memory.find_copies("session", "t0"))
        prompt = {**event, "hook_event_name": "UserPromptSubmit", "prompt": SECRET}
        spool.put(str(data), "claude-code", json.dumps(prompt).encode())
        transcript.write_text("".join(lines))
        await ways.watch(str(transcript))
        await ways.load(str(transcript))
        spool.put(str(data), "claude-code", json.dumps({**event, "hook_event_name": "Stop"}).encode())
        await drain(memory, data, wait=True)
        assert [turn.content for turn in await memory.history("session")][1:] == ["Noted.", "Go on.", "Done."]
        assert len(await memory.branches("session")) == 1
        assert await memory.verify("session") == []
    assert not any(b"quixoplex" in raw for raw in raw_files(data).values())
