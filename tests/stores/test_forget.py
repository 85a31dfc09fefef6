"""Law 9: what was forgotten, or has expired and was swept, is in no file any more, byte by byte."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Receipt, Summary
from ctxmem_mcp.stores.sqlite import SqliteStore, file_lifecycle
from ctxmem_mcp.stores.sqlite.catalog import FOLDER, file_name
from ctxmem_mcp.stores.sqlite.compression import TextCompression
from ctxmem_mcp.stores.testing.builders import DAY, NOW
from tests.stores.samples import memory_over, raw_files
from tests.stores.writer_process import acknowledged, writers

pytestmark = pytest.mark.anyio

ID = "conversation-zebra"
# Letters that no stemmer shortens and no other text here has.
MARKERS = ("quixoplex", "vandrubel", "mizzentorp", "zebra", "oxyclamp", "jabberkin")


@pytest.fixture(params=["compressed", "as it is"])
def bodies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Bodies compressed, as they are, and raw, so that compression hides nothing from a look at the bytes."""
    if request.param == "as it is":
        monkeypatch.setattr(TextCompression, "compress", lambda self, text: (0, text.encode()))
    return str(request.param)


class Clock:
    now = NOW


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def memory(tmp_path: Path, clock: Clock) -> AsyncIterator[Memory]:
    opened = memory_over(SqliteStore(tmp_path), lambda: clock.now)
    yield opened
    await opened.close()


async def fill(memory: Memory, conversation_id: str = ID, days: int = 30) -> None:
    """Text, titles, summaries, names, call ids, branches, all with markers in them."""
    said = [
        NewTurn("user" if i % 2 == 0 else "assistant", f"quixoplex {i}: the vandrubel " + f"failed at step {i}. " * 25)
        for i in range(70)
    ]
    said[3] = NewTurn("assistant", '{"command":"run mizzentorp"}', "oxyclamp", None, "call-jabberkin")
    said[4] = NewTurn("tool", "mizzentorp", None, "2026-01-01T00:00:00Z", "call-jabberkin")
    ids = (await memory.sync(said, conversation_id=conversation_id, space="zebra space", retention_days=days)).turn_ids
    await memory.append(NewTurn("user", "vandrubel elsewhere"), conversation_id=conversation_id, parent_id=ids[40])
    outline = await memory.outline(conversation_id, turn_id=ids[-1])
    closed = [node.id for node in outline if node.id is not None]
    await memory.add_summary(conversation_id, closed[0], Summary("agent", "All about the quixoplex"))
    for i in range(3):
        await memory.append(NewTurn("user", f"what stays, number {i}"), conversation_id=f"other{i}")
    listed = (await memory.conversations()).conversations
    assert len(listed) == 4
    await memory.sync(said[:1])  # found by its first turn: the catalog knows its digest


def holding(folder: Path, *more: bytes) -> list[tuple[str, str]]:
    files = raw_files(folder)
    assert files
    wanted = [*(m.encode() for m in MARKERS), *more]
    found = [(name, w.decode("latin-1")) for name, raw in files.items() for w in wanted if w in raw.lower() or w in raw]
    return found + [(name, "its name") for name in files if "zebra" in name]


async def roots(memory: Memory) -> bytes:
    return (await memory.turn(ID, "t0")).digest


async def test_the_markers_can_be_seen_as_long_as_it_is_kept(tmp_path: Path, memory: Memory, bodies: str) -> None:
    """The other tests look for them in vain: here is what they would see."""
    await fill(memory)
    root = await roots(memory)
    seen = holding(tmp_path, root)
    assert {marker for _, marker in seen} >= {"quixoplex", "vandrubel", "zebra", root.decode("latin-1")}
    assert ("catalog.db", "zebra") in seen


async def test_after_forgetting_no_byte_of_it_is_in_any_file(tmp_path: Path, memory: Memory, bodies: str) -> None:
    await fill(memory)
    root = await roots(memory)
    receipt = await memory.forget(ID, ID)
    assert holding(tmp_path, root) == []
    assert receipt.turns == 71
    assert len(receipt.checked) == 3
    assert len((await memory.conversations()).conversations) == 3
    await memory.close()
    assert holding(tmp_path, root) == []


async def test_after_expiry_and_a_sweep_no_byte_of_it_is_in_any_file(
    tmp_path: Path, memory: Memory, clock: Clock, bodies: str
) -> None:
    await fill(memory, days=2)
    root = await roots(memory)
    clock.now += 2 * DAY
    assert await memory.sweep() == [ID]
    assert holding(tmp_path, root) == []
    assert len((await memory.conversations()).conversations) == 3


async def test_the_receipt_says_what_was_removed(tmp_path: Path, memory: Memory) -> None:
    await fill(memory)
    state = await memory.info(ID)
    path = tmp_path / FOLDER / file_name(ID)
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    receipt = await memory.forget(ID, ID)
    assert (receipt.conversation_id, receipt.turns, receipt.nodes) == (ID, state.turns, state.nodes)
    assert 0 < receipt.bytes <= size + 4096 * 10
    assert not list(path.parent.glob(f"{path.name}*"))
    with pytest.raises(UnknownConversation):
        await memory.forget(ID, ID)


async def test_another_store_that_has_the_file_open_sees_it_gone_and_begins_anew(
    tmp_path: Path, memory: Memory, clock: Clock
) -> None:
    await fill(memory)
    other = memory_over(SqliteStore(tmp_path), lambda: clock.now)
    await other.append(NewTurn("user", "the other has it open"), conversation_id=ID)
    await memory.forget(ID, ID)
    assert holding(tmp_path) == []
    with pytest.raises(UnknownConversation):
        await other.info(ID)
    with pytest.raises(UnknownConversation):
        await other._store.turns(ID, [1])
    begun = await other.append(NewTurn("user", "a new beginning"), conversation_id=ID)
    assert (begun.index, begun.parent_id) == (0, None)
    assert (await memory.turn(ID, "t0")).content == "a new beginning"
    assert (await memory.info(ID)).turns == 1
    await other.close()
    assert (await memory.info(ID)).turns == 1, "closing the other's old file took nothing of the new one"
    assert await memory.verify(ID) == []


async def test_a_stale_edge_does_not_reach_into_the_new_conversation(
    tmp_path: Path, memory: Memory, clock: Clock
) -> None:
    """Forgotten and begun again by one process, while another still has an edge of the old one in hand."""
    other = memory_over(SqliteStore(tmp_path), lambda: clock.now)
    await other.append(NewTurn("user", "old"), conversation_id=ID)
    await memory.forget(ID, ID)
    clock.now += 0.001
    await memory.append(NewTurn("user", "new"), conversation_id=ID)
    done = await other.append(NewTurn("user", "after new"), conversation_id=ID)
    state = await memory.info(ID)
    assert await memory.verify(ID) == []
    assert (done.index, state.turns) == (1, 2)
    await other.close()


@pytest.mark.parametrize("verb", ["nodes", "turns", "pieces_of", "summaries"])
async def test_forgotten_and_begun_anew_between_two_reads_an_append_goes_to_the_new_one(
    tmp_path: Path, memory: Memory, clock: Clock, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Whatever the append was just about to read of the old one."""
    await fill(memory)
    store = SqliteStore(tmp_path)
    other = memory_over(store, lambda: clock.now)
    read = getattr(store, verb)

    async def read_later(*asked: object, **how: object) -> object:
        monkeypatch.setattr(store, verb, read)
        await memory.forget(ID, ID)
        clock.now += 0.001
        await memory.append(NewTurn("user", "new"), conversation_id=ID)
        return await read(*asked, **how)

    monkeypatch.setattr(store, verb, read_later)
    done = await other.append(NewTurn("user", "after new"), conversation_id=ID)
    await other.close()
    assert (done.index, (await memory.info(ID)).turns) == (1, 2)
    assert await memory.verify(ID) == []


async def test_a_forgetting_that_was_cut_short_is_ended_by_the_next_sweep(
    tmp_path: Path, memory: Memory, clock: Clock
) -> None:
    """Killed after the mark and before the unlinking: invisible at once, gone with the sweep."""
    await fill(memory)
    async with memory._store._use(ID) as file:  # type: ignore[attr-defined]
        await file.connection.run(lambda db: db.execute("UPDATE conversation SET forgotten = 1"))
    with pytest.raises(UnknownConversation):
        await memory.info(ID)
    assert len((await memory.conversations()).conversations) == 3
    await memory.close()
    await memory.sweep()
    assert holding(tmp_path) == []


@pytest.fixture
async def log_alone(tmp_path: Path, memory: Memory) -> Path:
    """A write-ahead log whose file was deleted: by hand, or by a process that was killed between two unlinks."""
    await fill(memory)
    file = tmp_path / FOLDER / file_name(ID)
    log = file.with_name(file.name + "-wal")
    raw = log.read_bytes()
    await memory.forget(ID, ID)
    log.write_bytes(raw)
    assert b"zebra" in raw
    return log


async def test_a_log_without_its_file_is_not_taken_for_the_next_ones(log_alone: Path, memory: Memory) -> None:
    assert (await memory.append(NewTurn("user", "begun anew"), conversation_id=ID)).index == 0
    assert [turn.content for turn in await memory.history(ID)] == ["begun anew"]
    assert await memory.verify(ID) == []


async def test_a_log_without_its_file_goes_when_its_conversation_is_forgotten(
    tmp_path: Path, log_alone: Path, memory: Memory
) -> None:
    with pytest.raises(UnknownConversation):
        await memory.forget(ID, ID)
    assert holding(tmp_path) == []


async def test_a_log_without_its_file_is_swept_after_a_while(
    tmp_path: Path, log_alone: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await memory.sweep()
    assert log_alone.name in str(raw_files(tmp_path).keys()), "its file may be on its way here"
    monkeypatch.setattr(file_lifecycle, "ORPHAN_SECONDS", 0)
    await memory.sweep()
    assert holding(tmp_path) == []


async def test_forgetting_while_other_processes_append_loses_nothing_acknowledged_since(
    tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clock, "now", property(lambda _: time.time()))
    receipts: list[Receipt] = []
    with writers(tmp_path, *((ID, f"p{i}", 60) for i in range(3))) as processes:
        while len(receipts) < 6:
            try:
                receipts.append(await memory.forget(ID, ID))
            except UnknownConversation:
                if all(process.poll() is not None for process in processes):
                    break
        said = [acknowledged(process) for process in processes]
    assert receipts
    texts = [text for each in said for text in each.values()]
    assert len(texts) == 180
    await memory.append(NewTurn("user", "the end"), conversation_id=ID)
    state = await memory._store.load(ID, time.time())
    assert state is not None
    left = [turn.content for turn in await memory._store.turns(ID, range(1, state.next_seq))]
    assert await memory.verify(ID) == []
    assert sum(receipt.turns for receipt in receipts) + len(left) == 180 + 1, "each is in one or the other"
    assert set(left[:-1]) <= set(texts)
    forgotten = set(texts) - set(left)
    await memory.close()
    for raw in raw_files(tmp_path).values():
        assert not any(text.encode() in raw for text in forgotten)
