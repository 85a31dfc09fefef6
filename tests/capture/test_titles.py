"""The title that a transcript gives itself is the conversation's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp import open_memory
from ctxmem_mcp.capture.importer import import_transcript
from ctxmem_mcp.capture.transcript_sync import TranscriptSync
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.transcripts import registry

pytestmark = pytest.mark.anyio


def row(number: int, words: str = "word", **more: Any) -> str:
    role = "assistant" if number % 2 else "user"
    parent = f"u{number - 1}" if number else None
    message = {"role": role, "content": f"{words} {number}, about the parser of dates"}
    row = {"type": role, "uuid": f"u{number}", "parentUuid": parent, "sessionId": "s", "message": message, **more}
    return json.dumps(row) + "\n"


async def title_of(memory: Memory, conversation: str = "s") -> str:
    return (await memory.info(conversation)).title


async def test_a_session_keeps_its_own_title_while_its_file_grows(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    async with open_memory(Settings(tmp_path / "data", durability="normal")) as memory:
        sync = TranscriptSync(memory, tmp_path / "data")
        file.write_text(row(0) + row(1), "utf-8")
        await sync.sync_file(file)
        extracted = await title_of(memory)
        for title in ({"type": "ai-title", "aiTitle": "Dates"}, {"type": "custom-title", "customTitle": "My\n dates"}):
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps({**title, "sessionId": "s"}) + "\n")
            await sync.sync_file(file)
            assert await title_of(memory) == " ".join(str([*title.values()][1]).split()) != extracted
        ids = [turn.id for turn in await memory.history("s")]
        for number in range(2, 60):
            with file.open("a", encoding="utf-8") as out:
                out.write(row(number, "something else " * 40))
            if number % 10 == 0:
                await sync.sync_file(file)
                assert await title_of(memory) == "My dates"
        await sync.sync_file(file)
        history = await memory.history("s")
        assert (await title_of(memory), len(history)) == ("My dates", 60)
        assert [turn.id for turn in history[:2]] == ids


async def test_an_imported_conversation_has_the_exports_title_unless_it_says_nothing(tmp_path: Path) -> None:
    def export(title: str) -> str:
        message = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Plan a trip to Rome."]}}
        mapping: dict[str, Any] = {"a": {"id": "a", "parent": None, "children": [], "message": {"id": "a", **message}}}
        return json.dumps([{"id": f"c-{len(title)}", "title": title, "mapping": mapping, "current_node": "a"}])

    async with open_memory(Settings(tmp_path / "data", durability="normal")) as memory:
        for title, expected in (
            ("Rome in May", "Rome in May"),
            ("x" * 300, "x" * 200),
            ("/mode", "Plan a trip to Rome"),
        ):
            transcript = registry.parse(export(title), "conversations.json")
            done = await import_transcript(memory, tmp_path, transcript)
            assert done is not None
            assert await title_of(memory, done.conversation_id) == expected


async def test_a_summary_of_another_session_is_not_the_title() -> None:
    def titled(leaf: str) -> str | None:
        summary = json.dumps({"type": "summary", "summary": "Other work", "leafUuid": leaf}) + "\n"
        return registry.parse(summary + row(0), "s.jsonl").title

    assert (titled("elsewhere"), titled("u0")) == (None, "Other work")
