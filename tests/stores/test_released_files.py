"""Files that released versions wrote are opened, read, and written to."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.stores.sqlite.schema import FORMAT
from ctxmem_mcp.stores.testing.builders import NOW
from tests.data.make_files import CONVERSATION_ID, DATA, turns
from tests.stores.samples import memory_over

pytestmark = pytest.mark.anyio

# Format 3 has another content; test_migration.py reads it and the formats before it.
FILES = [path for path in sorted(DATA.glob("format-*.ctxmem.gz")) if path.name != "format-3.ctxmem.gz"]


def test_the_present_format_has_a_file() -> None:
    assert DATA / f"format-{FORMAT}.ctxmem.gz" in FILES, "Run python -m tests.data.make_files and commit the file."


def unpack(file: Path, data: Path) -> None:
    path = data / FOLDER / file_name(CONVERSATION_ID)
    path.parent.mkdir()
    path.write_bytes(gzip.decompress(file.read_bytes()))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
async def test_a_released_file_is_read_and_written(tmp_path: Path, file: Path) -> None:
    unpack(file, tmp_path)
    memory = memory_over(SqliteStore(tmp_path, durability="normal"), lambda: NOW + 1)
    tips = {tip.index: tip.id for tip in await memory.branches(CONVERSATION_ID)}
    history = await memory.history(CONVERSATION_ID, turn_id=tips[len(turns()) - 1])
    assert [(turn.role, turn.content) for turn in history] == [(turn.role, turn.content) for turn in turns()]
    assert (await memory.turn(CONVERSATION_ID, tips[21])).content == "Another way."
    assert "A written title" in {section.summary.title for section in await memory.outline(CONVERSATION_ID)}
    assert await memory.search("oslo mirror", conversation_id=CONVERSATION_ID)
    added = await memory.append(NewTurn("user", "And now?"), conversation_id=CONVERSATION_ID)
    assert (await memory.turn(CONVERSATION_ID, added.turn_id)).content == "And now?"
    assert await memory.verify(CONVERSATION_ID) == []
    await memory.close()
