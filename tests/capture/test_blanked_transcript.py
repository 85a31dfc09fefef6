"""A file whose messages a failed compaction emptied takes nothing back from the memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp import open_memory
from ctxmem_mcp.capture import importer
from ctxmem_mcp.capture.transcript_sync import TranscriptSync
from ctxmem_mcp.settings import Settings

pytestmark = pytest.mark.anyio


def row(number: int, words: str | None = None) -> str:
    role = "assistant" if number % 2 else "user"
    content = f"message {number}" if words is None else words
    parent = f"u{number - 1}" if number else None
    body: dict[str, Any] = {"type": role, "uuid": f"u{number}", "parentUuid": parent, "sessionId": "s"}
    return json.dumps({**body, "message": {"role": role, "content": content}}) + "\n"


@pytest.mark.parametrize("kept", [0, 3])
async def test_what_was_blanked_stays_on_the_head_and_what_follows_joins_it(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text("".join(row(n) for n in range(12)), "utf-8")
    async with open_memory(Settings(tmp_path / "data", durability="normal")) as memory:
        sync = TranscriptSync(memory, tmp_path / "data")
        await sync.sync_file(file)
        emptied = [row(n, "" if n < 12 - kept else None) for n in range(12)]
        for until in (12, 14, 15):
            file.write_text("".join([*emptied, *(row(n) for n in range(12, until))]), "utf-8")
            await sync.sync_file(file)
            assert [turn.content for turn in await memory.history("s")] == [f"message {n}" for n in range(until)]
            assert len(await memory.branches("s")) == 1


@pytest.mark.parametrize("kept", [0, 3])
async def test_an_import_keeps_what_was_blanked(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "s.jsonl"
    async with open_memory(Settings(tmp_path / "data", durability="normal")) as memory:
        file.write_text("".join(row(n) for n in range(12)), "utf-8")
        await importer.import_transcript(memory, file, importer.read(file))
        emptied = [row(n, "" if n < 12 - kept else None) for n in range(12)]
        for until in (12, 14, 15):
            file.write_text("".join([*emptied, *(row(n) for n in range(12, until))]), "utf-8")
            done = await importer.import_transcript(memory, file, importer.read(file))
            assert done is not None
            assert f"{12 - kept} messages were emptied; the stored ones stay" in done.warnings
            assert [turn.content for turn in await memory.history("s")] == [f"message {n}" for n in range(until)]
            assert len(await memory.branches("s")) == 1


async def test_an_import_stores_messages_that_were_always_empty(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    async with open_memory(Settings(tmp_path / "data", durability="normal")) as memory:
        for until in (3, 9):
            file.write_text("".join(row(n, "" if n == 5 else None) for n in range(until)), "utf-8")
            await importer.import_transcript(memory, file, importer.read(file))
        contents = [turn.content for turn in await memory.history("s")]
        assert contents == ["" if n == 5 else f"message {n}" for n in range(9)]
