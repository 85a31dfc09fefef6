"""Files of every earlier format: what they hold is the same after migration, and every row has its checksum."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ctxmem_mcp.errors import BrokenHistory
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore, schema
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.stores.testing.builders import NOW
from tests.stores.samples import memory_over

pytestmark = pytest.mark.anyio

# Written by the last version with format 3: 64 turns on two branches, a dictionary, a written summary.
FORMAT_3 = Path(__file__).parent.parent / "data" / "format-3.ctxmem.gz"
# What takes a file back to a format.
BACK_TO = {
    3: "",
    2: "DROP TABLE vectors; PRAGMA user_version = 2;",
    1: "DROP TABLE vectors; DROP TABLE model_calls; PRAGMA user_version = 1;",
}


def write_old_file(data: Path, version: int, damage: str = "") -> Path:
    path = data / FOLDER / file_name("old")
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.decompress(FORMAT_3.read_bytes()))
    with closing(sqlite3.connect(path)) as db:
        db.executescript(BACK_TO[version])
        before = db.execute("SELECT count(*), (SELECT count(*) FROM dictionaries) FROM turns").fetchone()
        assert before == (64, 1)
        db.executescript(damage)
    return path


def open_memory(data: Path) -> Memory:
    return memory_over(SqliteStore(data, durability="normal"), lambda: NOW + 1)


@pytest.mark.parametrize("version", BACK_TO)
async def test_a_file_of_an_earlier_format_holds_the_same_afterwards(tmp_path: Path, version: int) -> None:
    path = write_old_file(tmp_path, version)
    memory = open_memory(tmp_path)
    assert await memory.verify("old") == []
    history = await memory.history("old")
    assert len(history) == 25
    assert all(turn.content.startswith((f"Turn {turn.index}: ", "another way Turn ")) for turn in history)
    assert {turn.stored_at for turn in history} == {NOW}
    assert [tip.index for tip in await memory.branches("old")] == [59, 24]
    assert (await memory.outline("old"))[0].summary.title == "A written title"
    assert len(await memory.search("oslo mirror", conversation_id="old")) == 10
    added = await memory.append(NewTurn("user", "And now?"), conversation_id="old")
    assert (await memory.turn("old", added.turn_id)).stored_at == NOW + 1
    assert "And now?" in (await memory.view("old")).text
    assert await memory.verify("old") == []
    await memory.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (schema.FORMAT,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM dictionary_copies").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'old%'").fetchone() == (0,)


async def test_a_damaged_row_of_an_earlier_format_stays_an_error(tmp_path: Path) -> None:
    write_old_file(tmp_path, 3, "UPDATE turns SET body = 5 WHERE seq = 3; UPDATE pieces SET start = 'x' WHERE seq = 4;")
    memory = open_memory(tmp_path)
    assert (await memory.turn("old", "t1")).index == 1
    with pytest.raises(BrokenHistory, match=r"turn number 3.*repair old"):
        await memory.turn("old", "t2")
    await memory.close()
