"""No byte of a redacted turn is in any file of the data folder, also if the process was killed while it redacted."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
import time
from binascii import crc32
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from ctxmem_mcp import redaction
from ctxmem_mcp.capture import spool
from ctxmem_mcp.cli.conversation_file import export_file
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Summary
from ctxmem_mcp.private_files import REDACTIONS
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.stores.sqlite.compression import DICTIONARY_BYTES, TextCompression
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from tests.capture.agents import environment
from tests.stores.samples import raw_files, sample_turns
from tests.stores.writer_process import ROOT

pytestmark = pytest.mark.anyio

ID, TURNS, AT = "session", 70, 30
# Words that no stemmer shortens and that no other text of these tests contains.
MARKERS = (b"quixoplex", b"vandrubel", b"mizzentorp")
SECRET = "The quixoplex of staging opens with vandrubel, and the key is\nmizzentorp. " * 5


@pytest.fixture(params=["compressed", "raw"])
def body_format(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Texts compressed as usual, and stored raw, so that compression hides nothing from the search for markers."""
    if request.param == "raw":
        monkeypatch.setattr(TextCompression, "compress", lambda self, text: (0, crc32(text.encode()), text.encode()))
    return str(request.param)


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    async with open_memory(Settings(data_dir=tmp_path / "data"), background=False) as opened:
        yield opened


def history() -> list[NewTurn]:
    """Long enough for a dictionary, which is made of the turns' beginning."""
    turns = sample_turns(TURNS)
    turns[AT] = NewTurn("user", SECRET)
    assert 2 * sum(len(turn.content) for turn in turns) > DICTIONARY_BYTES
    return turns


async def fill(memory: Memory, data: Path) -> list[str]:
    """Stores the turn in two conversations, on two branches, in a summary, a title and in everything beside them."""
    ids = (await memory.sync(history(), conversation_id=ID)).turn_ids
    await memory.sync([NewTurn("user", "another beginning"), *history()], conversation_id=ID)
    await memory.sync(history()[: AT + 20], conversation_id="copy")
    await memory.append(NewTurn("user", "elsewhere"), conversation_id=ID, parent_id=ids[AT + 5])
    await memory.revert(ID, ids[-1])
    (leaf, *_) = [node for node in await memory.outline(ID) if node.id and node.first <= AT <= node.last]
    await memory.add_summary(ID, str(leaf.id), Summary("agent", "All about the quixoplex"))
    await memory.set_title(ID, "The quixoplex of staging opens")
    await export_file(memory, ID, data / "export.ctxmem", replace=False)
    path = data / FOLDER / file_name(ID)
    shutil.copy(data / "export.ctxmem", path.with_name(f"{path.name}.damaged-20260101-000000"))
    assert (await memory.search("vandrubel")).hits  # now the index over all conversations has it
    event = {"session_id": ID, "transcript_path": "/nowhere.jsonl", "cwd": "/w", "hook_event_name": "Mystery"}
    (data / "unrecognised").mkdir()
    unknown = spool.put(str(data), "claude-code", json.dumps({**event, "prompt": SECRET}).encode())
    shutil.move(unknown, data / "unrecognised")
    spool.put(str(data), "claude-code", json.dumps({**event, "note": SECRET}).encode())
    return ids


def holding(data: Path) -> dict[str, bytes]:
    return {name: marker for name, raw in raw_files(data).items() for marker in MARKERS if marker in raw.lower()}


async def test_the_markers_are_found_as_long_as_the_turn_is_stored(
    tmp_path: Path, memory: Memory, body_format: str
) -> None:
    """Shows that the other tests would find markers that were left."""
    await fill(memory, tmp_path / "data")
    await memory.conversations()
    names = " ".join(holding(tmp_path / "data"))
    places = ("session-", "copy-", "catalog.db", "search.db", "spool", "unrecognised", "damaged", "export.ctxmem")
    assert [place for place in places if place not in names] == []


async def test_after_redaction_no_marker_is_in_any_file(tmp_path: Path, memory: Memory, body_format: str) -> None:
    data = tmp_path / "data"
    ids = await fill(memory, data)
    before = [turn.id for turn in await memory.history(ID)]
    receipt = await redaction.redact(memory, data, await memory.find_matches(re.compile("vandrubel")))
    assert holding(data) == {}
    assert receipt.warnings == []
    assert len(receipt.checked) == 4
    assert sorted(map(len, receipt.turns.values())) == [1, 2], "in two conversations, in one after two beginnings"
    assert [turn.id for turn in await memory.history(ID)] == before
    assert (await memory.turn(ID, ids[AT])).is_redacted
    await memory.sync(history(), conversation_id=ID)
    await memory.sync([NewTurn("system", "another prompt"), *history()])
    await memory.close()
    assert holding(data) == {}


async def test_a_quotation_in_another_turn_is_reported(tmp_path: Path, memory: Memory) -> None:
    ids = await fill(memory, tmp_path / "data")
    quote = await memory.append(NewTurn("assistant", f"You said: {SECRET}"), conversation_id=ID)
    found = await memory.find_copies(ID, ids[AT])
    receipt = await redaction.redact(memory, tmp_path / "data", found)
    assert any(quote.turn_id in warning for warning in receipt.warnings)


def start(data: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.stores.redact_process", str(data), "vandrubel"],
        cwd=ROOT,
        env={**environment(data), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )


async def kill_while_redacting(folder: Path, randomly: random.Random, rounds: int) -> int:
    """Returns how many of the processes were killed before they were done."""
    original = folder / "original"
    async with open_memory(Settings(data_dir=original), background=False) as memory:
        ids = await fill(memory, original)
        before = [turn.id for turn in await memory.history(ID)]
    killed = 0
    for number in range(rounds):
        data = folder / f"data{number}"
        shutil.copytree(original, data)
        with start(data) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            await anyio.sleep(randomly.uniform(0, 0.8))
            process.kill()
            killed += process.stdout.read() == ""
        was_recorded = any((data / REDACTIONS).glob("*.json"))
        async with open_memory(Settings(data_dir=data)) as memory:
            turn = await memory.turn(ID, ids[AT])
            assert [turn.id for turn in await memory.history(ID)] == before
            assert await memory.verify(ID) == []
            if was_recorded:
                assert turn.is_redacted
        if was_recorded:
            assert not any((data / REDACTIONS).glob("*.json"))
            assert not list(data.glob("repair-*"))
            assert holding(data) == {}
        shutil.rmtree(data)
    return killed


async def test_a_redaction_that_was_killed_is_finished_at_the_next_start(tmp_path: Path) -> None:
    assert await kill_while_redacting(tmp_path, random.Random(7), 3)


@pytest.mark.faults
async def test_redactions_that_are_killed_at_many_instants_are_finished(tmp_path: Path) -> None:
    assert await kill_while_redacting(tmp_path, random.Random(time.time_ns()), 100) > 50
