"""Dense vectors beside a conversation, in all stores: kept by model, and gone with the text that they were made of."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.memory import Memory, dense_queue
from ctxmem_mcp.memory.dense_queue import DenseQueue
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.extensions import DenseVectorStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing.builders import NOW, extend, new_state
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.stores.samples import raw_files
from tests.word_embedder import WordEmbedder

pytestmark = pytest.mark.anyio
DAY = "2026-11-30"
SECRET = "The password of staging is quixoplex, then go on with the tests."
TEXTS = [f"Matter {i}: we spoke of the weather in town {i} and of lunch." for i in range(24)]
TEXTS[10] = SECRET


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_queue, "QUIET_SECONDS", 0.0)


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def memory(store: DenseVectorStore, embedder: WordEmbedder) -> Memory:
    queue = DenseQueue(store, embedder, chunks_max=1_000, seconds_max=60)
    return Memory(store, ExtractiveSummarizer(), clock=lambda: NOW, dense=queue)


def turns() -> list[NewTurn]:
    return [NewTurn("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(TEXTS)]


async def wait_for(store: DenseVectorStore, embedder: WordEmbedder, count: int) -> dict[int, bytes]:
    with anyio.fail_after(60):
        while len(found := await store.dense_vectors("c", embedder.tag, range(1, 100))) < count:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return found


async def test_vectors_are_kept_by_chunk_and_model(store: DenseVectorStore) -> None:
    await store.commit(extend(new_state(), list("abc")), NOW)
    generation = await store.dense_generation("c")
    assert await store.dense_generation("c") == generation
    assert await store.dense_vectors("c", b"one.", [1, 2, 3]) == {}
    await store.add_dense_vectors("c", generation, {1: b"one.\x00\xff", 3: b"one.b"})
    await store.add_dense_vectors("c", generation, {3: b"two.b"})
    assert await store.dense_vectors("c", b"one.", [3, 2, 1, 99]) == {1: b"one.\x00\xff"}
    assert await store.dense_vectors("c", b"two.", range(1, 4)) == {3: b"two.b"}
    await store.add_dense_vectors("c", b"another", {2: b"one.late"})
    assert await store.dense_vectors("c", b"one.", [2]) == {}
    assert await store.check("c") == []
    with pytest.raises(UnknownConversation):
        await store.dense_vectors("nobody", b"one.", [1])


def change_first_vector(folder: Path) -> None:
    (file,) = folder.rglob("*.ctxmem")
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("UPDATE extra SET value = x'6f6e652e63' WHERE value = x'6f6e652e61'")


async def test_a_damaged_vector_is_left_out_and_reported(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.commit(extend(new_state(), list("abc")), NOW)
    await store.add_dense_vectors("c", await store.dense_generation("c"), {1: b"one.a", 2: b"one.b"})
    await store.close()
    change_first_vector(tmp_path)
    assert await store.dense_vectors("c", b"one.", [1, 2]) == {2: b"one.b"}
    assert any("extra" in problem for problem in await store.check("c"))
    await store.close()


async def test_a_conversation_that_is_forgotten_and_stored_again_has_no_vector(store: DenseVectorStore) -> None:
    await store.commit(extend(new_state(), list("abc")), NOW)
    generation = await store.dense_generation("c")
    await store.add_dense_vectors("c", generation, {1: b"one.a"})
    await store.forget("c")
    with pytest.raises(UnknownConversation):
        await store.add_dense_vectors("c", generation, {1: b"one.a"})
    await store.lift("c", [[NewTurn("user", "a")]])
    await store.commit(extend(new_state(), list("xyz")), NOW)
    await store.add_dense_vectors("c", generation, {1: b"one.a"})
    assert await store.dense_vectors("c", b"one.", [1, 2, 3]) == {}


@pytest.mark.parametrize("removal", ["redact", "forget the branch"])
async def test_a_text_that_is_removed_takes_its_vector_along(
    removal: str, store: DenseVectorStore, memory: Memory, embedder: WordEmbedder, tmp_path: Path
) -> None:
    ids = (await memory.sync(turns(), conversation_id="c")).turn_ids
    await wait_for(store, embedder, len(TEXTS))
    generation = await store.dense_generation("c")
    if removal == "redact":
        found = await memory.find_copies("c", ids[10])
        await memory.redact("c", {one.turn.digest for one in found}, DAY)
        kept = len(TEXTS) - 1
    else:
        await memory.forget_from("c", ids[10])
        kept = 10
    late = {11: embedder.vector(SECRET)}
    await store.add_dense_vectors("c", generation, late)  # as a process would that was computing it
    assert await store.dense_vectors("c", embedder.tag, range(1, 100)) == {}
    await memory.view("c", query="What was for lunch?", token_budget=1_000)
    after = await wait_for(store, embedder, kept)
    assert embedder.vector(SECRET) not in after.values()
    await memory.close()
    assert embedder.closed
    if isinstance(store, SqliteStore):
        assert not any(embedder.vector(SECRET) in raw for raw in raw_files(tmp_path).values())


async def test_vectors_of_another_model_are_computed_anew(
    store: DenseVectorStore, memory: Memory, embedder: WordEmbedder
) -> None:
    await memory.sync(turns(), conversation_id="c")
    before = await wait_for(store, embedder, len(TEXTS))
    other = WordEmbedder("other words")
    queue = DenseQueue(store, other, chunks_max=1_000, seconds_max=60)
    queue.add("c")
    after = await wait_for(store, other, len(TEXTS))
    assert set(before) == set(after)
    assert await store.dense_vectors("c", embedder.tag, range(1, 100)) == {}
    await queue.close()
