"""Flipped bits by the kind of page they hit: others are unharmed, and a repair gives back what can be read."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path

import pytest

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.memory.repair import LOST_TEXT
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from tests.stores.test_damage import DAMAGED, Sample, check_others, every_turn, flip, open_memory, read_all

pytestmark = pytest.mark.anyio

HEADER_BYTES = 100
# The first byte of a page of a b-tree.
KINDS = {2: "index", 10: "index", 5: "table interior", 13: "table leaf"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Long turns, for pages of overflow, and free pages."""
    words = random.Random(3)
    turns = [
        NewTurn("user" if i % 2 else "assistant", " ".join(f"w{words.randrange(10**7)}" for _ in range(size)))
        for i, size in enumerate([60, 1_200] * 12)
    ]
    made = Sample(tmp_path_factory.mktemp("pages"), turns)
    await made.fill()
    memory = open_memory(made.folder)
    await check_others(memory, made)  # a search makes search.db
    await memory.close()
    with closing(sqlite3.connect(made.folder / FOLDER / file_name(DAMAGED))) as db:
        db.execute("CREATE TABLE dropped AS SELECT zeroblob(20000)")
        db.execute("DROP TABLE dropped")
    return made


async def test_a_schema_that_is_not_utf_8_is_damage_that_repair_mends(sample: Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path / "data")
    whole = path.read_bytes()
    assert b"CREATE TABLE turns" in whole
    path.write_bytes(whole.replace(b"CREATE TABLE turns", b"CREATE TABL\xac turns"))
    assert await read_and_repair(sample, tmp_path / "data") == "repaired"


def pages_of(content: bytes) -> dict[str, list[range]]:
    """Returns the ranges of bytes of a database's pages by their kind."""
    size = int.from_bytes(content[16:18], "big")
    size = 65_536 if size == 1 else size
    free = set(_free_pages(content, size))
    found: dict[str, list[range]] = defaultdict(list)
    found["header"] = [range(HEADER_BYTES)]
    for number in range(1, len(content) // size + 1):
        start, end = (number - 1) * size, number * size
        start += HEADER_BYTES if number == 1 else 0
        kind = "free" if number in free else KINDS.get(content[start], "overflow")
        found[kind].append(range(start, end))
    return found


def _free_pages(content: bytes, size: int) -> Iterator[int]:
    trunk = int.from_bytes(content[32:36], "big")
    while trunk:
        yield trunk
        page = content[(trunk - 1) * size : trunk * size]
        for i in range(int.from_bytes(page[4:8], "big")):
            yield int.from_bytes(page[8 + 4 * i : 12 + 4 * i], "big")
        trunk = int.from_bytes(page[:4], "big")


async def flip_pages(sample: Sample, data: Path, count: int, seed: int) -> dict[str, Counter[str]]:
    """Flips single bits, one at a time, in each kind of page in turn. Returns what came of them, by kind."""
    rng = random.Random(seed)
    whole = sample.copy(data).read_bytes()
    pages = pages_of(whole)
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in sorted(pages)}
    for _, kind in zip(range(count), cycle(outcomes), strict=False):
        bit = rng.choice(rng.choice(pages[kind])) * 8 + rng.randrange(8)
        sample.copy(data).write_bytes(flip(whole, bit))
        try:
            outcomes[kind][await read_and_repair(sample, data)] += 1
        except BaseException as error:
            error.add_note(f"bit {bit}, {kind}")
            raise
    return outcomes


async def read_and_repair(sample: Sample, data: Path) -> str:
    """Reads every turn, and repairs the conversation if one is not read.

    Returns:
        `unnoticed`, `repaired`, or `refused` if the file is damaged so that nothing of it can be read.
    """
    memory = open_memory(data)
    try:
        noticed = await read_all(memory, sample)
        await check_others(memory, sample)
        if not noticed:
            return "unnoticed"
        try:
            await memory.repair(DAMAGED)
        except CtxmemError as error:
            assert error.hint, error  # noqa: PT017
            return "refused"
        assert await memory.verify(DAMAGED) == []
        for turn in (await every_turn(memory, DAMAGED)).values():
            assert turn.content in {LOST_TEXT, *(one.content for one in sample.turns.values())}
        await check_others(memory, sample)
        return "repaired"
    finally:
        await memory.close()


async def test_a_flip_in_each_kind_of_page_is_an_error_or_nothing(sample: Sample, tmp_path: Path) -> None:
    outcomes = await flip_pages(sample, tmp_path / "data", 6, seed=1)
    assert outcomes.keys() == {"free", "header", "index", "overflow", "table interior", "table leaf"}
    assert outcomes["free"].total() == outcomes["free"]["unnoticed"]


@pytest.mark.faults
async def test_flips_in_every_kind_of_page_are_errors_or_nothing(sample: Sample, tmp_path: Path) -> None:
    outcomes = await flip_pages(sample, tmp_path / "data", 1_000, seed=2)
    assert all(outcomes[kind]["repaired"] for kind in ("overflow", "table leaf")), outcomes
    assert outcomes["free"].total() == outcomes["free"]["unnoticed"], outcomes


def flip_bit_of(file: Path, rng: random.Random) -> int:
    """Flips a random bit of a file. Returns which."""
    content = file.read_bytes()
    bit = rng.randrange(len(content) * 8)
    file.write_bytes(flip(content, bit))
    return bit


@pytest.mark.faults
@pytest.mark.parametrize("name", ["catalog.db", "search.db"])
async def test_no_flip_in_a_file_that_can_be_rebuilt_changes_a_turn(sample: Sample, tmp_path: Path, name: str) -> None:
    data, rng, readings = tmp_path / "data", random.Random(4), Counter[str]()
    for _ in range(100):
        sample.copy(data)
        bit = flip_bit_of(data / name, rng)
        try:
            readings[await _reading(sample, data)] += 1
            _delete(data, name)
            assert await _reading(sample, data) == "whole"
        except BaseException as error:
            error.add_note(f"bit {bit} of {name}")
            raise
    assert readings["whole"], readings


def _delete(data: Path, name: str) -> None:
    for file in data.glob(f"{name}*"):
        file.unlink()


async def _reading(sample: Sample, data: Path) -> str:
    """Reads every turn, the list and a search. Returns `whole`, or `refused` if an error names a remedy."""
    memory = open_memory(data)
    try:
        assert await every_turn(memory, DAMAGED) == sample.turns
        await check_others(memory, sample)
    except CtxmemError as error:
        assert error.hint, error  # noqa: PT017
        return "refused"
    finally:
        await memory.close()
    return "whole"
