"""Repair: everything that can be read of a damaged conversation is saved, and nothing is made worse."""

from __future__ import annotations

import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ctxmem_mcp.errors import NewerFormat, StoreUnavailable, UnknownConversation
from ctxmem_mcp.memory.repair import LOST_TEXT
from ctxmem_mcp.models import NewTurn
from tests.stores.samples import raw_files
from tests.stores.test_damage import DAMAGED, Sample, every_turn, open_memory

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    made = Sample(tmp_path_factory.mktemp("repair"))
    await made.fill()
    return made


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


async def test_a_sound_conversation_is_the_same_afterwards(sample: Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path / "data")
    before = path.read_bytes()
    memory = open_memory(tmp_path / "data")
    outline, info = await memory.outline(DAMAGED), await memory.info(DAMAGED)
    done = await memory.repair(DAMAGED)
    assert (done.turns, done.lost) == (41, ())
    assert await every_turn(memory, DAMAGED) == sample.turns
    assert await memory.outline(DAMAGED) == outline
    after = await memory.info(DAMAGED)
    assert (after.title, after.turns, after.tokens, after.expires) == (
        info.title,
        info.turns,
        info.tokens,
        info.expires,
    )
    assert await memory.verify(DAMAGED) == []
    assert (await memory.append(NewTurn("user", "On."), conversation_id=DAMAGED)).index == 22
    assert done.damaged_file.startswith(f"{path}.damaged-")
    assert raw_files(path.parent)[Path(done.damaged_file).name] == before
    await memory.forget(DAMAGED, DAMAGED)
    assert [name for name in raw_files(path.parent) if "damaged" in name] == []
    await memory.close()


async def test_a_lost_text_is_named_and_every_other_turn_keeps_its_id(sample: Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path / "data")
    execute(
        path, "UPDATE turns SET body = x'0011' WHERE seq IN (3, 30)", "UPDATE nodes SET children = x'00', first = 7"
    )
    memory = open_memory(tmp_path / "data")
    lost = {turn.id for turn in sample.turns.values() if turn.seq in (3, 30)}
    done = await memory.repair(DAMAGED)
    assert (done.turns, {turn for _, turn in done.lost}) == (39, lost)
    after = await every_turn(memory, DAMAGED)
    assert after.keys() == sample.turns.keys()
    assert {i for i, turn in after.items() if turn.content != sample.turns[i].content} == lost
    assert {after[i].content for i in lost} == {LOST_TEXT}
    assert "word7" in (await memory.view(DAMAGED, query="word7")).text
    await memory.close()


async def test_a_turn_lost_to_a_repair_is_a_warning_from_then_on_and_no_new_damage(
    sample: Sample, tmp_path: Path
) -> None:
    path = sample.copy(tmp_path / "data")
    execute(path, "UPDATE turns SET body = x'0011' WHERE seq IN (3, 30)")
    memory = open_memory(tmp_path / "data")
    assert len(await memory.verify(DAMAGED)) == 2
    assert await memory.lost_turns(DAMAGED) == []
    lost = sorted(turn for _, turn in (await memory.repair(DAMAGED)).lost)
    for _ in range(2):
        assert await memory.verify(DAMAGED) == []
        warned = sorted(await memory.lost_turns(DAMAGED))
        assert [line.partition(":")[0] for line in warned] == lost
        assert all(re.search(r": lost, repaired on \d{4}-\d\d-\d\d$", line) for line in warned)
        await memory.repair(DAMAGED)  # a second repair finds nothing new, and keeps the day
    execute(path, "UPDATE turns SET body = x'0011' WHERE seq = 5")
    assert len(await memory.verify(DAMAGED)) == 1, "new damage is still found"
    await memory.close()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM conversation", "UPDATE conversation SET frontier = x'00', head = 9999", "DELETE FROM runs",
        "UPDATE runs SET parent_seq = 3", "DELETE FROM summaries", "DELETE FROM nodes",
        "UPDATE terms_data SET block = x'00'",
        "DELETE FROM pieces WHERE id > 4", "UPDATE closings SET node = 3", "UPDATE waiting SET words = 5",
    ],
)  # fmt: skip
async def test_damage_to_all_but_turns_loses_no_turn(sample: Sample, tmp_path: Path, damage: str) -> None:
    execute(sample.copy(tmp_path / "data"), damage)
    memory = open_memory(tmp_path / "data")
    done = await memory.repair(DAMAGED)
    assert (done.turns, done.lost) == (41, ())
    assert await every_turn(memory, DAMAGED) == sample.turns
    assert await memory.verify(DAMAGED) == []
    assert DAMAGED in {info.conversation_id for info in (await memory.conversations()).conversations}
    await memory.close()


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
async def test_a_truncated_file_is_saved_as_far_as_it_goes(sample: Sample, tmp_path: Path, part: float) -> None:
    path = sample.copy(tmp_path / "data")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    memory = open_memory(tmp_path / "data")
    done = await memory.repair(DAMAGED)
    if done.turns:
        after = await every_turn(memory, DAMAGED)
        kept = {i for i, turn in after.items() if turn.content != LOST_TEXT}
        assert len(kept) == done.turns
        assert all(after[i] == sample.turns[i] for i in kept)
    else:
        assert not path.exists()
    await memory.close()


@pytest.mark.parametrize("content", [b"", b"\x00" * 20_000, 1, 100, 4_096, 5_000])
async def test_a_file_without_a_readable_turn_is_moved_aside_unchanged(
    sample: Sample, tmp_path: Path, content: bytes | int
) -> None:
    path = sample.copy(tmp_path / "data")
    before = path.read_bytes()[:content] if isinstance(content, int) else content
    path.write_bytes(before)
    memory = open_memory(tmp_path / "data")
    done = await memory.repair(DAMAGED)
    (aside,) = path.parent.glob("*.damaged-????????-??????")
    assert (done.turns, done.damaged_file, aside.read_bytes()) == (0, str(aside), before)
    assert not path.exists()
    with pytest.raises(UnknownConversation):
        await memory.info(DAMAGED)
    assert (await memory.append(NewTurn("user", "x"), conversation_id=DAMAGED)).index == 0
    assert await memory.verify(DAMAGED) == []
    await memory.close()


async def test_repair_refuses_what_is_no_damaged_file_of_ours(sample: Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path / "data")
    newer = bytearray(path.read_bytes())
    newer[60:64] = (99).to_bytes(4, "big")
    memory = open_memory(tmp_path / "data")
    path.write_bytes(newer)
    with pytest.raises(NewerFormat):
        await memory.repair(DAMAGED)
    assert path.read_bytes() == newer
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreUnavailable, match="can't be read"):
        await memory.repair(DAMAGED)
    assert path.is_dir()
    await memory.close()


async def test_pages_of_noise_lose_only_the_turns_on_them(sample: Sample, tmp_path: Path) -> None:
    saved = 0
    for seed in range(6):
        rng = random.Random(seed)
        path = sample.copy(tmp_path / "data")
        content = bytearray(path.read_bytes())
        page = rng.randrange(len(content) // 4_096)
        content[page * 4_096 : (page + 1) * 4_096] = rng.randbytes(4_096)
        path.write_bytes(content)
        memory = open_memory(tmp_path / "data")
        done = await memory.repair(DAMAGED)
        after = await every_turn(memory, DAMAGED)
        for turn_id, turn in after.items():
            if turn.content != LOST_TEXT:
                assert turn.content == sample.turns[turn_id].content
        saved += done.turns
        await memory.close()
    assert saved > 6 * 41 * 0.8


async def test_what_was_forgotten_or_never_was_is_not_repaired(sample: Sample, tmp_path: Path) -> None:
    path = sample.copy(tmp_path / "data")
    before = sorted(path.parent.iterdir())
    memory = open_memory(tmp_path / "data")
    with pytest.raises(UnknownConversation):
        await memory.repair("never")
    assert sorted(path.parent.iterdir()) == before
    await memory.close()
