"""Law 12: what was said before a receipt can't come back."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctxmem_mcp.errors import Forgotten, StoreUnavailable, UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import THINKING, NewTurn, Source
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.postgres import PostgresStore
from ctxmem_mcp.stores.sqlite import SqliteStore, tombstone_file
from ctxmem_mcp.stores.sqlite.tombstone_file import FILE, RESERVE_SLOTS, TombstoneFile
from ctxmem_mcp.stores.testing.builders import NOW
from ctxmem_mcp.stores.tombstones import LIFTED, RECORD_BYTES, SET, TombstoneRecords
from tests.postgres_server import new_principal, started_server
from tests.stores.samples import memory_over, raw_files

pytestmark = pytest.mark.anyio

SYSTEM = NewTurn("system", "You are helpful. Today is Monday.")
OLD = [
    NewTurn("user", "hi"),
    NewTurn("assistant", "Hello! What is it about the quixoplex?"),
    NewTurn("user", "It fails."),
    NewTurn("assistant", "It is the vandrubel."),
]
NEW = [NewTurn("user", "hi"), NewTurn("assistant", "Good morning."), NewTurn("user", "Something else.")]


@pytest.fixture(params=["sqlite", "in memory", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "postgres":
        return PostgresStore(started_server().url, new_principal())
    return SqliteStore(tmp_path, durability="normal") if request.param == "sqlite" else InMemoryStore()


@pytest.fixture
async def memory(store: Store) -> AsyncIterator[Memory]:
    opened = memory_over(store, lambda: NOW)
    yield opened
    await opened.close()


async def forget(memory: Memory, turns: list[NewTurn], conversation_id: str | None = "c") -> str:
    done = await memory.sync(turns, conversation_id=conversation_id)
    await memory.forget(done.conversation_id, done.conversation_id)
    return done.conversation_id


async def stored_texts(memory: Memory) -> list[str]:
    found = await memory.all_conversations()
    return [turn.content for info in found for turn in await memory.history(info.conversation_id)]


@pytest.mark.parametrize("conversation_id", ["c", "another", None])
@pytest.mark.parametrize("sent", [OLD, OLD[:2], OLD[:3], [*OLD, NewTurn("user", "more")], [SYSTEM, *OLD]])
async def test_messages_that_were_forgotten_are_not_stored_when_they_are_sent_again(
    memory: Memory, sent: list[NewTurn], conversation_id: str | None
) -> None:
    await forget(memory, OLD)
    with pytest.raises(Forgotten):
        await memory.sync(sent, conversation_id=conversation_id)
    assert await stored_texts(memory) == []


async def test_another_system_prompt_does_not_bring_a_conversation_back(memory: Memory) -> None:
    await forget(memory, [SYSTEM, *OLD], None)
    for system in ([], [NewTurn("system", "You are helpful. Today is Tuesday.")]):
        with pytest.raises(Forgotten):
            await memory.sync([*system, *OLD])


CALL = NewTurn("assistant", '{ "path": "quixoplex",  "depth": 1.0}', "read", call_id="k")
WITH_CALL = [
    NewTurn("user", "hi"),
    NewTurn("assistant", "They greet me.", THINKING),
    CALL,
    NewTurn("tool", "vandrubel", "read", call_id="k"),
]


@pytest.mark.parametrize("arguments", [CALL.content, '{"depth":1,"path":"quix\\u006fplex"}'])
@pytest.mark.parametrize("thinks", [True, False])
async def test_a_copy_that_a_client_has_serialised_again_is_recognised(
    memory: Memory, arguments: str, thinks: bool
) -> None:
    await forget(memory, WITH_CALL)
    call = replace(CALL, content=arguments)
    with pytest.raises(Forgotten):
        await memory.sync([WITH_CALL[0], *([WITH_CALL[1]] if thinks else []), call, WITH_CALL[3]])
    other = replace(CALL, content='{"path": "quixoplex", "depth": true}')
    assert (await memory.sync([WITH_CALL[0], other])).appended == 2


async def test_a_branch_that_was_forgotten_is_recognised_too(memory: Memory) -> None:
    await memory.sync(OLD, conversation_id="c")
    edited = [OLD[0], NewTurn("assistant", "Good evening."), NewTurn("user", "the oxyclamp")]
    await memory.sync(edited, conversation_id="c")
    other_root = [NewTurn("user", "hello there"), NewTurn("assistant", "Yes?")]
    await memory.sync(other_root, conversation_id="c")
    await memory.forget("c", "c")
    for turns in (OLD, edited, other_root):
        with pytest.raises(Forgotten):
            await memory.sync(turns)


async def test_an_opening_that_others_have_too_is_stored_once_it_goes_on_differently(memory: Memory) -> None:
    """Most conversations begin with a few words. A client without ids sends them again with each request."""
    await forget(memory, OLD, None)
    with pytest.raises(Forgotten):
        await memory.sync(NEW[:1])
    done = await memory.sync(NEW)
    assert (done.known, done.appended) == (0, 3)
    assert (await memory.sync(NEW[:1], conversation_id="named")).appended == 1


async def test_a_conversation_that_shares_an_opening_with_a_forgotten_one_gets_no_branch_of_it(memory: Memory) -> None:
    await memory.sync(NEW, conversation_id="stays")
    await forget(memory, OLD, "c")
    with pytest.raises(Forgotten):
        await memory.sync(OLD)
    assert await stored_texts(memory) == [turn.content for turn in NEW]


async def test_a_copy_that_is_stored_goes_on(memory: Memory) -> None:
    """Forgetting takes what was named and nothing else."""
    await memory.sync(OLD, conversation_id="copy")
    await forget(memory, OLD, "c")
    more = [*OLD, NewTurn("user", "more")]
    for source in (Source.MESSAGES, Source.TRANSCRIPT):
        assert (await memory.sync(more, conversation_id="copy", source=source)).known >= 4


async def test_a_forgotten_id_may_be_used_again_for_new_messages_but_not_by_captured_ones(memory: Memory) -> None:
    await forget(memory, OLD)
    for source in (Source.TRANSCRIPT, Source.EVENTS):
        with pytest.raises(Forgotten):
            await memory.sync([NewTurn("user", "quite new")], conversation_id="c", source=source)
    with pytest.raises(Forgotten):
        await memory.sync(NEW, conversation_id="c")  # its first message is the forgotten one's
    await memory.append(NewTurn("user", "a new start"), conversation_id="c")
    assert (await memory.sync([NewTurn("user", "and again")], conversation_id="c")).forked
    for source in (Source.TRANSCRIPT, Source.EVENTS):
        with pytest.raises(Forgotten):
            await memory.sync([NewTurn("user", "quite new")], conversation_id="c", source=source)


async def test_only_the_user_brings_a_conversation_back(memory: Memory) -> None:
    await forget(memory, OLD)
    await memory.allow_again("c", [OLD])
    assert (await memory.sync(OLD, conversation_id="c", source=Source.TRANSCRIPT)).appended == 4
    assert (await memory.sync([*OLD, NEW[2]], conversation_id="c", source=Source.TRANSCRIPT)).appended == 1
    await memory.forget("c", "c")
    with pytest.raises(Forgotten):
        await memory.sync(OLD, conversation_id="c", source=Source.TRANSCRIPT)


async def test_tombstones_outlive_the_process_and_the_catalog_and_hold_no_words(tmp_path: Path) -> None:
    first, other = (memory_over(SqliteStore(tmp_path), lambda: NOW) for _ in range(2))
    await other.append(NewTurn("user", "x"), conversation_id="open")
    await forget(first, OLD, "conversation-zebra")
    with pytest.raises(Forgotten):
        await other.sync(OLD)
    for memory in (first, other):
        await memory.close()
    (tmp_path / "catalog.db").unlink()
    again = memory_over(SqliteStore(tmp_path), lambda: NOW)
    with pytest.raises(Forgotten):
        await again.sync(OLD, conversation_id="conversation-zebra", source=Source.TRANSCRIPT)
    await again.close()
    for name, raw in raw_files(tmp_path).items():
        assert not any(word in raw for word in (b"zebra", b"quixoplex", b"vandrubel")), name
    if hasattr(stat, "S_IRWXG"):
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


async def test_two_folders_have_different_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        memory = memory_over(SqliteStore(tmp_path / name), lambda: NOW)
        await forget(memory, OLD)
        await memory.close()
    first, second = ((tmp_path / name / FILE).read_bytes()[64 : 64 + RECORD_BYTES] for name in ("a", "b"))
    assert any(first)
    assert first != second


async def test_two_copies_of_a_store_that_have_both_forgotten_since_are_one(tmp_path: Path) -> None:
    old, new = SqliteStore(tmp_path / "old"), SqliteStore(tmp_path / "new")

    await forget(memory_over(old, lambda: NOW), [NewTurn("user", "talk of the beginning")], "before")
    await new.adopt_tombstones(await old.tombstone_records())
    await forget(memory_over(old, lambda: NOW), [NewTurn("user", "talk of old things")], "in-the-old-one")
    await forget(memory_over(new, lambda: NOW), [NewTurn("user", "talk of new things")], "in-the-new-one")
    for _ in range(2):  # the second time adds nothing
        await new.adopt_tombstones(await old.tombstone_records())
        for name in ("before", "in-the-old-one", "in-the-new-one"):
            assert await new.is_forgotten(name), name
        count = await new.count_tombstones()
    await new.adopt_tombstones(await old.tombstone_records())
    assert await new.count_tombstones() == count
    await old.close()
    await new.close()


def test_each_tombstone_is_taken_over_once_however_often_it_was_set_and_lifted() -> None:
    def records(text: str) -> TombstoneRecords:
        """Returns the records for words like "+a" (set) and "-a" (lifted)."""
        return TombstoneRecords(
            b"key", [bytes([SET if w[0] == "+" else LIFTED]) + w[1:].encode() for w in text.split()]
        )

    def missing(given: str, own: str) -> list[bytes]:
        return records(given).missing_in(records(own), "The store")

    assert missing("+a -a +a", "+a -a +b") == records("+a").records
    assert missing("+a -a", "") == records("+a -a").records
    assert missing("+a", "+a -a") == []
    assert missing("+x +a", "+y +a -a") == records("+x").records  # brought back in the target
    assert missing("+x -a", "+y +a") == records("+x").records  # forgotten in the target
    assert missing("+x -a +a", "+y +x -a") == records("+a").records


async def test_a_tombstone_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It overwrites zeros; the file is enlarged as long as that is possible."""
    memory = memory_over(SqliteStore(tmp_path), lambda: NOW)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    await memory.append(NewTurn("user", "x"), conversation_id="c0")
    size = (tmp_path / FILE).stat().st_size
    monkeypatch.setattr(tombstone_file, "_extend", full)
    for i in range(40):
        await forget(memory, [NewTurn("user", f"{i}"), *OLD], f"c{i}")
    assert (tmp_path / FILE).stat().st_size == size
    with pytest.raises(Forgotten):
        await memory.sync([NewTurn("user", "39"), *OLD])
    await memory.close()


def test_the_file_grows_before_it_is_full(tmp_path: Path) -> None:
    file = TombstoneFile(tmp_path / FILE)
    for i in range(RESERVE_SLOTS // 100):
        file.reserve()
        file.write([b"\x01" + f"{i:07}.{j:07}".encode() for j in range(100)])
    assert file.read().count == TombstoneFile(tmp_path / FILE).read().count == RESERVE_SLOTS // 100 * 100
    assert (tmp_path / FILE).stat().st_size > RESERVE_SLOTS * RECORD_BYTES * 1.5


async def test_a_damaged_file_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not ours" * 20)
    memory = memory_over(SqliteStore(tmp_path), lambda: NOW)
    with pytest.raises(StoreUnavailable, match="tombstones can't be read: it is damaged"):
        await memory.append(NewTurn("user", "x"), conversation_id="c")
    with pytest.raises(UnknownConversation):
        await memory.info("c")
    await memory.close()
