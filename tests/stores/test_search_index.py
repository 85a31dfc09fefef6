"""The index over all conversations: it finds what each conversation's own index does, and keeps nothing forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxmem_mcp.memory import Memory, global_search
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore, search_index
from ctxmem_mcp.stores.sqlite.search_index import FILE
from ctxmem_mcp.stores.testing.builders import NOW
from tests.stores.samples import memory_over, raw_files

pytestmark = pytest.mark.anyio

WORDS = ("zeppelin", "quixoplex", "garden", "lantern", "hull")


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    opened = memory_over(SqliteStore(tmp_path, durability="normal"), lambda: NOW)
    yield opened
    await opened.close()


async def store(memory: Memory, conversation_id: str, *texts: str) -> list[str]:
    return (await memory.sync([NewTurn("user", text) for text in texts], conversation_id=conversation_id)).turn_ids


async def found(memory: Memory, query: str) -> list[str]:
    return sorted(hit.conversation_id for hit in await memory.search(query, limit=100))


async def test_what_is_appended_after_a_search_is_found_by_the_next_in_any_process(
    memory: Memory, tmp_path: Path
) -> None:
    await store(memory, "c1", "The zeppelin leaks.")
    assert await found(memory, "zeppelin") == ["c1"]
    other = memory_over(SqliteStore(tmp_path, durability="normal"), lambda: NOW)
    try:
        for i in range(60):  # more than wait for the conversation's own index
            await other.append(NewTurn("user", f"The garden is dry, number {i}."), conversation_id="c2")
            if i == 3:
                assert await found(memory, "garden number 3") == ["c2"] * 4
        await other.append(NewTurn("assistant", "I water it beside the zeppelin."), conversation_id="c2")
        assert await found(memory, "zeppelin") == ["c1", "c2"]
        assert len(await found(other, "garden")) == 60
    finally:
        await other.close()


async def test_the_index_is_a_cache(memory: Memory, tmp_path: Path) -> None:
    await store(memory, "c1", "The zeppelin leaks.")
    for damage in (b"not a database, but long enough for a header" * 50, b"", None):
        assert await found(memory, "zeppelin") == ["c1"]
        await memory.close()
        (tmp_path / FILE).unlink()
        if damage is not None:
            (tmp_path / FILE).write_bytes(damage)
    assert await found(memory, "zeppelin") == ["c1"]
    (tmp_path / FILE).unlink()  # while it is open
    assert await found(memory, "zeppelin") == ["c1"]


async def test_a_conversation_that_could_not_be_indexed_in_time_is_found_all_the_same(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(global_search, "UPDATE_SECONDS", -1.0)
    for i in range(20):
        await store(memory, f"c{i}", f"The zeppelin leaks, number {i}." if i % 2 else "The garden is dry.")
    assert await found(memory, "zeppelin") == sorted(f"c{i}" for i in range(1, 20, 2))
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        assert db.execute("SELECT count(*) FROM indexed").fetchone() == (0,)


async def test_a_conversation_too_large_for_the_index_is_found_all_the_same(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "CHUNKS_READ_MAX", 5)
    await store(memory, "c1", *[f"The zeppelin leaks, number {i}." for i in range(10)])
    await store(memory, "c2", "The zeppelin flies.")
    assert set(await found(memory, "zeppelin")) == {"c1", "c2"}
    assert await memory.index_for_search(60.0) == 0, "no later search indexes it"
    assert (await memory.search("zeppelin")).not_indexed == 0


async def test_a_conversation_too_large_for_the_index_adds_only_its_own_languages(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search_index, "CHUNKS_READ_MAX", 5)
    await store(memory, "c1", *[f"The zeppelin leaks, number {i}." for i in range(10)])
    await store(memory, "c2", "The zeppelin flies.")
    other = SqliteStore(tmp_path, durability="normal")
    try:
        assert list(await global_search.find_languages(other, NOW)) == []
        german = "Das Luftschiff verliert Gas, und wir wissen noch nicht, warum das so ist."
        await store(memory, "c3", *[f"{german} Nummer {i}." for i in range(10)])
        assert list(await global_search.find_languages(other, NOW)) == ["de"]
    finally:
        await other.close()


async def test_forgetting_one_conversation_leaves_the_others_to_be_found(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "SHARD_BLOCKS", 3)
    for i in range(10):
        await store(memory, f"c{i}", f"The zeppelin number {i}.", f"quixoplex{i}")
    assert len(await found(memory, "zeppelin")) == 10
    await memory.forget("c4", "c4")
    assert not [name for name, raw in raw_files(tmp_path).items() if b"quixoplex4" in raw]
    left = [i for i in range(10) if f"quixoplex{i}".encode() in raw_files(tmp_path)[FILE]]
    assert 5 <= len(left) < 9, "the rest of its shard is read again by the next search"
    assert await found(memory, "zeppelin") == sorted(f"c{i}" for i in range(10) if i != 4)
    assert all(f"quixoplex{i}".encode() in raw_files(tmp_path)[FILE] for i in range(10) if i != 4)


async def test_what_a_killed_process_left_in_the_index_goes_with_the_next_listing(
    memory: Memory, tmp_path: Path
) -> None:
    await store(memory, "c1", "quixoplex")
    await store(memory, "c2", "The garden is dry.")
    assert await found(memory, "quixoplex") == ["c1"]
    await memory.close()
    for file in (tmp_path / "conversations").glob("c1-*"):
        file.unlink()
    assert b"quixoplex" in raw_files(tmp_path)[FILE]
    assert len((await memory.conversations()).conversations) == 1
    assert b"quixoplex" not in raw_files(tmp_path)[FILE]


async def test_a_removed_branch_is_not_in_the_index(memory: Memory, tmp_path: Path) -> None:
    ids = await store(memory, "c1", "The zeppelin leaks.", "It is the hull.")
    branch = await memory.append(NewTurn("user", "quixoplex"), conversation_id="c1", parent_id=ids[0])
    assert await found(memory, "quixoplex") == ["c1"]
    await memory.revert("c1", ids[1])
    await memory.forget("c1", "c1", branch.turn_id)
    assert not [name for name, raw in raw_files(tmp_path).items() if b"quixoplex" in raw]
    assert await found(memory, "hull") == ["c1"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 4), st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)),
            st.tuples(st.sampled_from(("search", "forget")), st.integers(0, 4), st.just([])),
        ),
        max_size=25,
    )
)
async def test_it_always_agrees_with_the_conversations(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, list[str]]]
) -> None:
    memory = memory_over(SqliteStore(tmp_path_factory.mktemp("data"), durability="normal"), lambda: NOW)
    stored: dict[int, set[str]] = {}
    try:
        for kind, number, words in steps:
            if kind == "append":
                await memory.append(NewTurn("user", f"{number} {' '.join(words)}"), conversation_id=f"c{number}")
                stored.setdefault(number, set()).update(words)
            elif kind == "forget" and number in stored:
                await memory.forget(f"c{number}", f"c{number}")
                del stored[number]
            else:
                word = WORDS[number]
                expected = [f"c{one}" for one, those in stored.items() if word in those]
                assert sorted(set(await found(memory, word))) == sorted(expected)
    finally:
        await memory.close()
