"""Damage to a conversation's file: any row may hold anything. What is read is what was written, or an error."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.errors import CtxmemError, DamagedConversation, UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Turn
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.stores.testing.builders import NOW
from tests.stores.samples import memory_over, sample_turns

pytestmark = pytest.mark.anyio

DAMAGED, SOUND = "damaged", "sound"


def open_memory(data: Path) -> Memory:
    return memory_over(SqliteStore(data, durability="normal"), lambda: NOW)


async def every_turn(memory: Memory, conversation_id: str) -> dict[str, Turn]:
    found: dict[str, Turn] = {}
    for tip in await memory.branches(conversation_id):
        found |= {turn.id: turn for turn in await memory.history(conversation_id, turn_id=tip.id)}
    return found


class Sample:
    """A data folder with two conversations, and what is in them."""

    def __init__(self, folder: Path, turns: Sequence[NewTurn] = ()) -> None:
        """turns: those of the conversation that is damaged."""
        self.folder = folder
        self._turns = {DAMAGED: turns} if turns else {}
        self.turns: dict[str, Turn] = {}
        self.sound_view = ""

    async def fill(self) -> None:
        memory = open_memory(self.folder)
        for name in (DAMAGED, SOUND):
            turns = self._turns.get(name) or sample_turns(40, f"the parser of {name}")
            await memory.sync(turns, conversation_id=name)
            await memory.append(NewTurn("user", "Another way."), conversation_id=name, parent_id="t20")
            await memory.write_summary(name, (await memory.outline(name))[0].id or "", "A title", "What was done")
        assert await memory.verify(DAMAGED) == []
        self.turns = await every_turn(memory, DAMAGED)
        self.sound_view = (await memory.view(SOUND, query="parser")).text
        await memory.close()

    def copy(self, to: Path) -> Path:
        """Copies the folder; returns the path of the conversation to damage."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.folder, to)
        return to / FOLDER / file_name(DAMAGED)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    made = Sample(tmp_path_factory.mktemp("damage"))
    await made.fill()
    return made


def _random_lines(rng: random.Random) -> str:
    """Lines that are too short to be taken for data, of few terms, so that the index takes little of the file."""
    return "\n".join(rng.randbytes(145).hex() for _ in range(20))


@pytest.fixture(scope="module")
async def random_sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Turns that compress badly, so that their texts take most of the file."""
    rng = random.Random(7)
    turns = [NewTurn("user" if i % 2 else "assistant", _random_lines(rng)) for i in range(60)]
    made = Sample(tmp_path_factory.mktemp("bits"), turns)
    await made.fill()
    return made


async def failures(memory: Memory, sample: Sample) -> list[CtxmemError]:
    """Calls every verb on the damaged conversation. Returns their errors, each of which has to have a remedy."""
    errors: list[CtxmemError] = []

    async def call(verb: Any) -> Any:
        try:
            return await verb
        except CtxmemError as error:
            errors.append(error)
            return None

    for turn_id, turn in sample.turns.items():
        found = await call(memory.turn(DAMAGED, turn_id))
        assert found in (None, turn)
        if found is None and len(errors) > 5:
            break
    for turn_id, turn in (await call(every_turn(memory, DAMAGED)) or {}).items():
        assert turn == sample.turns[turn_id]
    await call(memory.view(DAMAGED, query="parser word7"))
    await call(memory.view(DAMAGED, query="what errors did we meet?", token_budget=2_000))
    await call(memory.view(DAMAGED, layout="stable"))
    await call(memory.hand_off(DAMAGED))
    await call(memory.outline(DAMAGED))
    await call(memory.search("parser word7", conversation_id=DAMAGED))
    await call(memory.model_usage(DAMAGED))
    await call(memory.expand(DAMAGED, "t3"))
    await call(memory.info(DAMAGED))
    await call(memory.append(NewTurn("user", "Fork."), conversation_id=DAMAGED, parent_id="t10"))
    await call(memory.append(NewTurn("user", "One more request about the parser."), conversation_id=DAMAGED))
    await call(memory.revert(DAMAGED, "t5"))
    await call(memory.set_retention(DAMAGED, 30))
    return errors


async def check_others(memory: Memory, sample: Sample) -> None:
    """The other conversation of the folder is read as before, and lists and searches over all work."""
    assert SOUND in {info.conversation_id for info in (await memory.conversations()).conversations}
    assert SOUND in {hit.conversation_id for hit in await memory.search("parser word7")}
    assert (await memory.view(SOUND, query="parser")).text == sample.sound_view
    await memory.sweep()


async def check(folder: Path, sample: Sample) -> bool:
    """Checks everything on a damaged folder. Returns whether verify found a fault."""
    memory = open_memory(folder)
    try:
        try:
            faults = await memory.verify(DAMAGED)
        except UnknownConversation:
            raise
        except CtxmemError as error:
            faults = [error.message]
        errors = await failures(memory, sample)
        assert all(error.hint for error in errors), errors
        assert faults or not errors, errors
        await check_others(memory, sample)
        return bool(faults)
    finally:
        await memory.close()


# ------------------------------------------------------------ rows

VALUES: tuple[object, ...] = (None, "x", b"\x00\xff", 2**63 - 1, -1, 0, 1.5, "", b"", "\N{GRINNING FACE}" * 40)


def cells(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Every column of every table, those of the index's own tables included."""
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")]
    return [(table, column[1]) for table in tables for column in db.execute(f"PRAGMA table_info({table})")]


def damage_cell(path: Path, rng: random.Random) -> str:
    """Puts something else into a random cell, whatever its column's constraints. Returns what was done."""
    with closing(sqlite3.connect(path)) as db:
        table, column = rng.choice(cells(db))
        schema = db.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (schema.replace(" NOT NULL", ""), table))
        db.commit()
    with closing(sqlite3.connect(path)) as db:
        key = ", ".join(c[1] for c in db.execute(f"PRAGMA table_info({table})") if c[5]) or "rowid"
        rows = db.execute(f"SELECT {key}, {column} FROM {table}").fetchall()
        done = f"{table}.{column}: nothing"
        if rows:
            *keys, old = rng.choice(rows)
            value = rng.choice([*VALUES, old[: len(old) // 2] if isinstance(old, str | bytes) else old])
            where = " AND ".join(f"{name} = ?" for name in key.split(", "))
            try:
                db.execute("PRAGMA ignore_check_constraints = ON")
                db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *keys))
                done = f"{table}.{column} of {keys}: {old!r:.60} -> {value!r:.60}"
            except sqlite3.IntegrityError:  # a key's type or uniqueness
                done = f"{table}.{column}: refused"
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (schema, table))
        db.commit()
    return done


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_a_cell_holds_every_verb_works_or_names_a_remedy(
    sample: Sample, tmp_path: Path, seed: int
) -> None:
    for round_ in range(4):
        path = sample.copy(tmp_path / "data")
        done = damage_cell(path, random.Random(seed * 1_000 + round_))
        try:
            await check(tmp_path / "data", sample)
        except UnknownConversation:
            raise AssertionError(done) from None
        except Exception as error:
            error.add_note(done)
            raise


# ------------------------------------------------------------ bits


def flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


async def flip_bits(sample: Sample, data: Path, count: int, seed: int) -> int:
    """Flips single bits, one at a time, and reads every turn. Returns how many flips were noticed."""
    rng, noticed = random.Random(seed), 0
    path = sample.copy(data)
    whole = path.read_bytes()
    for _ in range(count):
        bit = rng.randrange(len(whole) * 8)
        for side_file in path.parent.glob(f"{path.name}-*"):
            side_file.unlink()
        path.write_bytes(flip(whole, bit))
        memory = open_memory(data)
        try:
            noticed += await read_all(memory, sample)
        except Exception as error:
            error.add_note(f"bit {bit}")
            raise
        finally:
            await memory.close()
    return noticed


async def read_all(memory: Memory, sample: Sample) -> bool:
    """Reads every turn in several ways. Returns whether one of them was an error."""
    errors = 0
    read = dict.fromkeys(sample.turns, "")
    try:
        read |= {turn_id: turn.content for turn_id, turn in (await every_turn(memory, DAMAGED)).items()}
    except CtxmemError as error:
        assert error.hint, error  # noqa: PT017
        errors += 1
    for turn_id in list(sample.turns)[::7] if errors else ():
        try:
            read[turn_id] = (await memory.turn(DAMAGED, turn_id)).content
        except CtxmemError:
            errors += 1
    assert read.keys() == sample.turns.keys()
    assert all(text in ("", sample.turns[turn_id].content) for turn_id, text in read.items())
    assert errors or all(read.values())
    return bool(errors)


async def test_a_flipped_bit_is_an_error_or_nothing(random_sample: Sample, tmp_path: Path) -> None:
    assert 40 < await flip_bits(random_sample, tmp_path / "data", 200, seed=1) < 200


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(2, 7))
async def test_flipped_bits_are_errors_or_nothing(random_sample: Sample, tmp_path: Path, seed: int) -> None:
    assert await flip_bits(random_sample, tmp_path / "data", 200, seed)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(100, 120))
async def test_whatever_many_cells_hold_every_verb_works_or_names_a_remedy(
    sample: Sample, tmp_path: Path, seed: int
) -> None:
    await test_whatever_a_cell_holds_every_verb_works_or_names_a_remedy(sample, tmp_path, seed)


async def test_a_revert_over_a_missing_node_is_an_error(tmp_path: Path) -> None:
    sample = Sample(tmp_path / "sample", sample_turns(60, sentences=120))
    await sample.fill()
    with closing(sqlite3.connect(sample.copy(tmp_path / "data"))) as db, db:
        db.execute("DELETE FROM nodes WHERE first = 0 AND level > 0")
    memory = open_memory(tmp_path / "data")
    try:
        with pytest.raises(DamagedConversation):
            await memory.revert(DAMAGED, next(turn for turn in sample.turns if turn.startswith("t50-")))
    finally:
        await memory.close()


async def test_a_search_over_everything_names_what_it_could_not_read(sample: Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path / "data")
    memory = open_memory(tmp_path / "data")
    whole = await memory.search("word7")
    assert whole.unreadable == {}
    assert (whole.searched, whole.conversations) == (2, 2)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE pieces SET words = 77")
    found = await memory.search("word7")
    assert {hit.conversation_id for hit in found} == {SOUND}
    assert found.unreadable.keys() == {DAMAGED}
    assert "checksum" in found.unreadable[DAMAGED]
    assert (found.searched, found.conversations) == (1, 1)
    await memory.close()
