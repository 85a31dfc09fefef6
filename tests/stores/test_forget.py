"""No byte of a conversation is in any file after it was forgotten, or after it expired and was swept."""

from __future__ import annotations

import time
from binascii import crc32
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ctxmem_mcp.errors import Forgotten, UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Summary
from ctxmem_mcp.results import Receipt
from ctxmem_mcp.stores.sqlite import SqliteStore, commits, file_lifecycle
from ctxmem_mcp.stores.sqlite.compression import TextCompression
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.stores.testing.builders import DAY, NOW
from tests.stores.samples import memory_over, raw_files, sweep
from tests.stores.writer_process import acknowledged, writers

pytestmark = pytest.mark.anyio

ID = "conversation-zebra"
# Words that no stemmer shortens and that no other text of these tests contains.
MARKERS = ("quixoplex", "vandrubel", "mizzentorp", "zebra", "oxyclamp", "jabberkin")


@pytest.fixture(params=["compressed", "raw"])
def body_format(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Texts compressed as usual, and stored raw, so that compression hides nothing from the search for markers."""
    if request.param == "raw":
        monkeypatch.setattr(TextCompression, "compress", lambda self, text: (0, crc32(text.encode()), text.encode()))
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
    """Stores a conversation whose texts, titles, summaries, names, call ids and branches all contain markers."""
    turns = [
        NewTurn("user" if i % 2 == 0 else "assistant", f"quixoplex {i}: the vandrubel " + f"failed at step {i}. " * 25)
        for i in range(70)
    ]
    turns[3] = NewTurn("assistant", '{"command":"run mizzentorp"}', "oxyclamp", None, "call-jabberkin")
    turns[4] = NewTurn("tool", "mizzentorp", None, "2026-01-01T00:00:00Z", "call-jabberkin")
    ids = (await memory.sync(turns, conversation_id=conversation_id, space="zebra space", retention_days=days)).turn_ids
    await memory.append(NewTurn("user", "vandrubel elsewhere"), conversation_id=conversation_id, parent_id=ids[40])
    outline = await memory.outline(conversation_id, turn_id=ids[-1])
    closed = [node.id for node in outline if node.id is not None]
    await memory.add_summary(conversation_id, closed[0], Summary("agent", "All about the quixoplex"))
    for i in range(3):
        await memory.append(NewTurn("user", f"stays, number {i}"), conversation_id=f"other{i}")
    listed = (await memory.conversations()).conversations
    assert len(listed) == 4
    await memory.sync(turns[:1])  # finds it by its first turn: now the catalog contains its digest
    assert await memory.search("vandrubel")  # now it is in the index over all conversations


def find_markers(folder: Path, *more: bytes) -> list[tuple[str, str]]:
    files = raw_files(folder)
    assert files
    markers = [*(m.encode() for m in MARKERS), *more]
    found = [
        (name, m.decode("latin-1")) for name, raw in files.items() for m in markers if m in raw.lower() or m in raw
    ]
    return found + [(name, "its name") for name in files if "zebra" in name]


async def root_digest(memory: Memory) -> bytes:
    return (await memory.turn(ID, "t0")).digest


async def test_the_markers_are_found_as_long_as_the_conversation_is_stored(
    tmp_path: Path, memory: Memory, body_format: str
) -> None:
    """Shows that the other tests would find markers that were left."""
    await fill(memory)
    root = await root_digest(memory)
    seen = find_markers(tmp_path, root)
    assert {marker for _, marker in seen} >= {"quixoplex", "vandrubel", "zebra", root.decode("latin-1")}
    assert {("catalog.db", "zebra"), ("search.db", "quixoplex"), ("search.db", "mizzentorp")} <= set(seen)


async def test_after_forgetting_no_marker_is_in_any_file(tmp_path: Path, memory: Memory, body_format: str) -> None:
    await fill(memory)
    root = await root_digest(memory)
    receipt = await memory.forget(ID, ID)
    assert find_markers(tmp_path, root) == []
    assert receipt.turns == 71
    assert len(receipt.checked) == 3
    assert len((await memory.conversations()).conversations) == 3
    await memory.close()
    assert find_markers(tmp_path, root) == []


async def test_after_expiry_and_a_sweep_no_marker_is_in_any_file(
    tmp_path: Path, memory: Memory, clock: Clock, body_format: str
) -> None:
    await fill(memory, days=2)
    root = await root_digest(memory)
    clock.now += 2 * DAY
    assert await sweep(memory) == [ID]
    assert find_markers(tmp_path, root) == []
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


async def test_another_store_that_has_the_file_open_finds_it_removed_and_creates_a_new_one(
    tmp_path: Path, memory: Memory, clock: Clock
) -> None:
    await fill(memory)
    other = memory_over(SqliteStore(tmp_path), lambda: clock.now)
    await other.append(NewTurn("user", "the other has it open"), conversation_id=ID)
    await memory.forget(ID, ID)
    assert find_markers(tmp_path) == []
    with pytest.raises(UnknownConversation):
        await other.info(ID)
    with pytest.raises(UnknownConversation):
        await other._store.turns(ID, [1])
    created = await other.append(NewTurn("user", "a new start"), conversation_id=ID)
    assert (created.index, created.parent_id) == (0, None)
    assert (await memory.turn(ID, "t0")).content == "a new start"
    assert (await memory.info(ID)).turns == 1
    await other.close()
    assert (await memory.info(ID)).turns == 1, "closing the old file removed nothing of the new one"
    assert await memory.verify(ID) == []


async def test_a_cached_edge_of_a_forgotten_conversation_is_not_used_for_the_new_one(
    tmp_path: Path, memory: Memory, clock: Clock
) -> None:
    """One process forgets the conversation and creates it again while another has an edge of the old one cached."""
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


@pytest.mark.parametrize("operation", ["nodes", "turns", "pieces_of", "summaries"])
async def test_an_append_during_which_the_conversation_is_forgotten_is_refused(
    tmp_path: Path, memory: Memory, clock: Clock, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Its turn was said before the receipt. Whichever read of the old conversation is the next."""
    await fill(memory)
    store = SqliteStore(tmp_path)
    other = memory_over(store, lambda: clock.now)
    read = getattr(store, operation)

    async def replace_then_read(*args: object, **options: object) -> object:
        monkeypatch.setattr(store, operation, read)
        await memory.forget(ID, ID)
        clock.now += 0.001
        await memory.append(NewTurn("user", "new"), conversation_id=ID)
        return await read(*args, **options)

    monkeypatch.setattr(store, operation, replace_then_read)
    with pytest.raises(Forgotten):
        await other.append(NewTurn("user", "quixoplex said before"), conversation_id=ID)
    done = await other.append(NewTurn("user", "after new"), conversation_id=ID)
    await other.close()
    assert [turn.content for turn in await memory.history(ID)] == ["new", "after new"]
    assert done.index == 1
    assert await memory.verify(ID) == []


async def test_an_interrupted_removal_is_completed_by_the_next_sweep(
    tmp_path: Path, memory: Memory, clock: Clock
) -> None:
    """Killed after marking the file and before unlinking it: it is invisible at once and removed by the sweep."""
    await fill(memory)
    async with memory._store._files.use(ID) as file:  # type: ignore[attr-defined]
        await file.connection.run(commits.write_forgotten)
    with pytest.raises(UnknownConversation):
        await memory.info(ID)
    assert len((await memory.conversations()).conversations) == 3
    await memory.close()
    await memory.sweep()
    assert find_markers(tmp_path) == []


@pytest.fixture
async def orphan_log(tmp_path: Path, memory: Memory) -> Path:
    """A write-ahead log whose database was deleted: by hand, or by a process that was killed between two unlinks."""
    await fill(memory)
    file = tmp_path / FOLDER / file_name(ID)
    log = file.with_name(file.name + "-wal")
    raw = log.read_bytes()
    await memory.forget(ID, ID)
    log.write_bytes(raw)
    assert b"zebra" in raw
    return log


async def test_an_orphan_log_is_not_applied_to_a_new_file(orphan_log: Path, memory: Memory) -> None:
    assert (await memory.append(NewTurn("user", "started again"), conversation_id=ID)).index == 0
    assert [turn.content for turn in await memory.history(ID)] == ["started again"]
    assert await memory.verify(ID) == []


async def test_an_orphan_log_is_removed_when_its_conversation_is_forgotten(
    tmp_path: Path, orphan_log: Path, memory: Memory
) -> None:
    with pytest.raises(UnknownConversation):
        await memory.forget(ID, ID)
    assert find_markers(tmp_path) == []


async def test_an_orphan_log_is_swept_after_a_while(
    tmp_path: Path, orphan_log: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await memory.sweep()
    assert orphan_log.name in str(raw_files(tmp_path).keys()), "its database may still be copied here"
    monkeypatch.setattr(file_lifecycle, "ORPHAN_SECONDS", 0)
    await memory.sweep()
    assert find_markers(tmp_path) == []


async def test_forgetting_while_other_processes_append_loses_nothing_acknowledged_afterwards(
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
        stored = [acknowledged(process) for process in processes]
    assert receipts
    texts = [text for each in stored for text in each.values()]
    assert len(texts) == 180
    await memory.append(NewTurn("user", "the end"), conversation_id=ID)
    state = await memory._store.load(ID, time.time())
    assert state is not None
    left = [turn.content for turn in await memory._store.turns(ID, range(1, state.next_seq))]
    assert await memory.verify(ID) == []
    assert sum(receipt.turns for receipt in receipts) + len(left) == 180 + 1, "each turn is in one or the other"
    assert set(left[:-1]) <= set(texts)
    forgotten = set(texts) - set(left)
    await memory.close()
    for raw in raw_files(tmp_path).values():
        assert not any(text.encode() in raw for text in forgotten)
