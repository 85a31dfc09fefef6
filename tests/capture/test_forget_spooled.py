"""Forgetting knows the conversations whose words only the spool has."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from ctxmem_mcp import Settings, open_memory
from ctxmem_mcp.capture import spool, whole_outputs
from ctxmem_mcp.capture.purge import purge_captured
from ctxmem_mcp.capture.spool_worker import drain
from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.mcp_server.server import build_server
from ctxmem_mcp.results import Synced
from tests.mcp_server.conftest import Caller
from tests.stores.samples import raw_files

pytestmark = pytest.mark.anyio

WORDS = "The quixoplex fails."


def spool_event(folder: Path, session: str, prompt: str = WORDS) -> None:
    event = {"conversation_id": session, "hook_event_name": "beforeSubmitPrompt", "prompt": prompt}
    spool.put(str(folder), "cursor", json.dumps(event).encode())


def spool_output(folder: Path, session: str, text: str = WORDS, **fields: str) -> str:
    """Spools the whole of an output that a hook shortened; returns its conversation."""
    event = {"tool_name": "Bash", "tool_input": {"command": "make"}, **fields}
    spool.put(str(folder), "claude-code", whole_outputs.event_for(event, session, text))
    return whole_outputs.output_id(session, event, text)


async def test_a_conversation_that_is_only_in_the_spool_is_forgotten(tmp_path: Path) -> None:
    spool_event(tmp_path, "one")
    spool_event(tmp_path, "other", "Stays.")
    async with Client(build_server(partial(open_memory, Settings(tmp_path), background=False))) as client:
        call = Caller(client)
        receipt = await call.record("forget_conversation", conversation_id="one", confirm="one")
        assert receipt["turns"] == 1
        spool_event(tmp_path, "one")
    async with open_memory(Settings(tmp_path), background=False) as memory:
        await drain(memory, tmp_path, wait=True)
        assert [turn.content for turn in await memory.turns("other")] == ["Stays."]
        assert [info.conversation_id for info in await memory.all_conversations()] == ["other"]
    assert not any(WORDS.encode() in raw for raw in raw_files(tmp_path).values())


async def test_a_branch_whose_end_is_only_in_the_spool_is_forgotten(tmp_path: Path) -> None:
    async with open_memory(Settings(tmp_path), background=False) as memory:
        spool_event(tmp_path, "one", "Hello.")
        await drain(memory, tmp_path, wait=True)
        spool_event(tmp_path, "one")
        (first,) = await memory.turns("one")
        assert (await memory.forget("one", "one", first.id)).turns == 2


async def test_words_that_nobody_spooled_are_still_unknown(tmp_path: Path) -> None:
    spool_event(tmp_path, "other")
    async with open_memory(Settings(tmp_path), background=False) as memory:
        with pytest.raises(UnknownConversation):
            await memory.forget("one", "one")
    assert spool.count_pending(str(tmp_path)) == 1


def test_a_purge_of_a_session_deletes_its_outputs_that_only_the_spool_has(tmp_path: Path) -> None:
    spool_output(tmp_path, "one")
    spool_output(tmp_path, "one-more")
    purge_captured(tmp_path, ["one"])
    (left,) = spool.pending(str(tmp_path))
    assert b"one-more" in Path(left.path).read_bytes()


async def test_an_output_that_is_stored_while_its_session_is_forgotten_is_forgotten_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another process does, which does not wait for the drain of this one."""
    async with open_memory(Settings(tmp_path), background=False) as memory:
        spool_event(tmp_path, "one")
        await drain(memory, tmp_path, wait=True)
        spool_output(tmp_path, "one", cwd="/w")
        sync = memory.sync

        async def forget_first(*args: Any, **kwargs: Any) -> Synced:
            await memory._store.forget("one")
            return await sync(*args, **kwargs)

        monkeypatch.setattr(memory, "sync", forget_first)
        await drain(memory, tmp_path, wait=True)
        assert await memory.all_conversations() == []
    assert not any(WORDS.encode() in raw for raw in raw_files(tmp_path).values())


async def test_an_output_is_stored_with_the_retention_of_its_session(tmp_path: Path) -> None:
    async with open_memory(Settings(tmp_path), background=False) as memory:
        spool_event(tmp_path, "one")
        await drain(memory, tmp_path, wait=True)
        await memory.set_retention("one", 3)
        output = spool_output(tmp_path, "one")
        await drain(memory, tmp_path, wait=True)
        assert (await memory.info(output)).retention_days == 3
