"""Vectors are computed after the durable answer, and no query notices."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from ctxmem_mcp.memory import Memory, vector_queue
from ctxmem_mcp.memory.vector_queue import embed_in_steps
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.embeddings import VECTOR_DUE, load_embedder
from ctxmem_mcp.worker_pool import finish

pytestmark = pytest.mark.anyio
EMBEDDER = load_embedder("auto")
if EMBEDDER is None:
    pytest.skip("there is no wheel of wordllama for this platform", allow_module_level=True)
TEXTS = [f"Matter {i}: we spoke of the weather in town {i} and of lunch." for i in range(40)]
TEXTS[7] = "The mechanic got my old truck running again on Tuesday, new brakes and all."
VECTORS = dict(enumerate(EMBEDDER.embed(TEXTS), start=1))
QUERY = "Which vehicle was repaired?"


def memory_with(store: Store) -> Memory:
    return Memory(store, ExtractiveSummarizer(), clock=lambda: 1.0, embedder=EMBEDDER)


def turns(texts: list[str] = TEXTS) -> list[NewTurn]:
    return [NewTurn("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)]


async def reasons(memory: Memory) -> list[tuple[str, str]]:
    view = await memory.view("c", query=QUERY, token_budget=600, explain=True)
    return [(reason.turn_id, ", ".join(reason.why)) for reason in view.reasons]


async def stored(store: Store) -> dict[int, bytes]:
    return await store.vectors("c", range(1, len(TEXTS) + 1))


@pytest.fixture
def no_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_queue, "QUIET_SECONDS", 3_600.0)


@pytest.mark.usefixtures("no_background")
async def test_an_append_computes_no_vector_and_the_first_query_computes_all() -> None:
    store = InMemoryStore()
    memory = memory_with(store)
    await memory.sync(turns()[:39], conversation_id="c")
    await memory.append(turns()[39], conversation_id="c")
    assert set((await stored(store)).values()) == {VECTOR_DUE}
    assert "meaning" in (await reasons(memory))[0][1]
    assert await stored(store) == VECTORS


async def test_vectors_are_computed_once_nothing_is_appended_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_queue, "QUIET_SECONDS", 0.01)
    store = InMemoryStore()
    await memory_with(store).sync(turns(), conversation_id="c")
    with anyio.fail_after(60):
        while await stored(store) != VECTORS:  # noqa: ASYNC110
            await anyio.sleep(0.01)


@pytest.mark.usefixtures("no_background")
async def test_vectors_are_computed_at_once_if_much_is_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_queue, "WAITING_CHARS_MAX", 500)
    store = InMemoryStore()
    await memory_with(store).sync(turns(), conversation_id="c")
    with anyio.fail_after(60):
        while await stored(store) != VECTORS:  # noqa: ASYNC110
            await anyio.sleep(0.01)


@pytest.mark.usefixtures("no_background")
async def test_closing_computes_what_is_waiting(tmp_path: Path) -> None:
    memory = memory_with(SqliteStore(tmp_path))
    await memory.sync(turns(), conversation_id="c")
    await memory.close()
    store = SqliteStore(tmp_path)
    assert await stored(store) == VECTORS
    await store.close()


@pytest.mark.usefixtures("no_background")
async def test_what_a_killed_process_left_is_computed_by_the_next_query(tmp_path: Path) -> None:
    killed, other = SqliteStore(tmp_path), SqliteStore(tmp_path)
    await memory_with(killed).sync(turns(), conversation_id="c")
    await killed.close()
    memory = memory_with(other)
    assert "meaning" in (await reasons(memory))[0][1]
    assert await stored(other) == VECTORS
    assert await memory.verify("c") == []
    await memory.close()


@pytest.mark.usefixtures("no_background")
async def test_a_conversation_created_again_gets_no_vector_of_the_forgotten_one() -> None:
    store = InMemoryStore()
    memory = memory_with(store)
    await memory.sync(turns(), conversation_id="c")
    await memory.forget("c", "c")
    await memory.sync(turns(TEXTS[::-1]), conversation_id="c")
    await reasons(memory)
    assert list((await stored(store)).values()) == list(VECTORS.values())[::-1]


def test_texts_embedded_together_get_the_vectors_that_they_get_alone() -> None:
    texts = [*TEXTS, "", "日本 🙂", "x" * 20_000, " ".join(f"w{i:x}" for i in range(9_000))] * 2
    assert EMBEDDER is not None
    assert finish(embed_in_steps(EMBEDDER, texts)) == [EMBEDDER.embed([text])[0] for text in texts]
