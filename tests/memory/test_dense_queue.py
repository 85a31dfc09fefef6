"""Dense vectors are computed in the background, within limits, and a view without them is what it was."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.memory import Memory, dense_queue
from ctxmem_mcp.memory.dense_queue import DenseQueue
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.word_embedder import WordEmbedder

pytestmark = pytest.mark.anyio
TEXTS = [f"Matter {i}: we spoke of the weather in town {i} and of lunch." for i in range(40)]
TEXTS[7] = "The mechanic got my old truck running again on Tuesday, new brakes and all."
QUERY = "Which vehicle was repaired?"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_queue, "QUIET_SECONDS", 0.0)


def turns(texts: list[str] = TEXTS) -> list[NewTurn]:
    return [NewTurn("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)]


def memory_with(
    embedder: WordEmbedder | None, store: InMemoryStore | None = None, *, chunks: int = 1_000, seconds: float = 60
) -> Memory:
    store = store or InMemoryStore()
    queue = DenseQueue(store, embedder, chunks_max=chunks, seconds_max=seconds) if embedder else None
    return Memory(store, ExtractiveSummarizer(), clock=lambda: 1.0, dense=queue)


async def text_of(memory: Memory, query: str = QUERY) -> str:
    return (await memory.view("c", query=query, token_budget=700)).render()


async def wait_for(embedder: WordEmbedder, count: int) -> None:
    with anyio.fail_after(60):
        while len(embedder.texts) < count:  # noqa: ASYNC110
            await anyio.sleep(0.005)
        await anyio.sleep(0.02)


async def test_a_turn_that_shares_no_word_with_the_query_is_found_by_its_dense_vector() -> None:
    embedder, plain = WordEmbedder(), memory_with(None)
    memory = memory_with(embedder)
    for one in (memory, plain):
        await one.sync(turns(), conversation_id="c")
    await wait_for(embedder, len(TEXTS))
    view = await memory.view("c", query=QUERY, token_budget=700, explain=True)
    assert TEXTS[7] in view.render()
    assert any("dense" in why for reason in view.reasons for why in reason.why)
    assert TEXTS[7] not in await text_of(plain)
    await memory.append(NewTurn("user", "And now the tests."), conversation_id="c")
    await wait_for(embedder, len(TEXTS) + 1)
    assert len(embedder.texts) == len(TEXTS) + 1
    await memory.close()


async def test_what_tools_return_is_not_embedded() -> None:
    embedder = WordEmbedder()
    memory = memory_with(embedder)
    work = [
        NewTurn("assistant", '{"command": "ls"}', "bash", None, "c1"),
        NewTurn("tool", "truck.txt\nbrakes.txt", "bash", None, "c1"),
    ]
    await memory.sync([*turns()[:10], *work], conversation_id="c")
    await wait_for(embedder, 10)
    assert sorted(embedder.texts) == sorted(TEXTS[:10])
    await memory.close()


async def test_the_newest_chunks_are_embedded_up_to_the_limit() -> None:
    embedder = WordEmbedder()
    memory = memory_with(embedder, chunks=16)
    await memory.sync(turns(), conversation_id="c")
    await wait_for(embedder, 16)
    await text_of(memory)
    await anyio.sleep(0.02)
    assert embedder.texts == TEXTS[:23:-1]
    await memory.append(NewTurn("user", "And now the tests."), conversation_id="c")
    await wait_for(embedder, 17)
    assert embedder.texts[16:] == ["And now the tests."]
    await memory.close()


async def test_a_query_for_code_is_ranked_without_the_model() -> None:
    embedder, plain = WordEmbedder(), memory_with(None)
    memory = memory_with(embedder)
    for one in (memory, plain):
        await one.sync(turns(), conversation_id="c")
    await wait_for(embedder, len(TEXTS))
    asked = "What did we change in repair_vehicle() of vehicle.py?"
    assert await text_of(memory, asked) == await text_of(plain, asked)
    await memory.close()


async def test_no_more_is_embedded_after_the_seconds_are_spent() -> None:
    embedder = WordEmbedder()
    memory = memory_with(embedder, seconds=1e-9)
    await memory.sync(turns(), conversation_id="c")
    await wait_for(embedder, embedder.batch)
    await text_of(memory)
    await anyio.sleep(0.02)
    assert len(embedder.texts) == embedder.batch
    await memory.close()


async def test_views_are_as_without_the_model_while_it_fails_and_use_it_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dense_queue, "FAILURE_SECONDS", 0.01)
    embedder, plain = WordEmbedder(), memory_with(None)
    memory = memory_with(embedder)
    embedder.fails = True
    for one in (memory, plain):
        await one.sync(turns(), conversation_id="c")
    assert await text_of(memory) == await text_of(plain)
    embedder.fails = False
    await wait_for(embedder, len(TEXTS))
    with anyio.fail_after(60):
        while TEXTS[7] not in await text_of(memory):  # noqa: ASYNC110
            await anyio.sleep(0.01)
    embedder.fails = True
    assert TEXTS[7] in await text_of(memory), "the question was embedded before"
    assert await text_of(memory, "Which vehicle?") == await text_of(plain, "Which vehicle?")
    await memory.close()


async def test_a_question_that_takes_too_long_is_answered_without_the_model() -> None:
    class SlowEmbedder(WordEmbedder):
        question_seconds = 0.01

        async def embed_question(self, text: str) -> bytes:
            await anyio.sleep(60)
            return self.vector(text)

    embedder, plain = SlowEmbedder(), memory_with(None)
    memory = memory_with(embedder)
    for one in (memory, plain):
        await one.sync(turns(), conversation_id="c")
    await wait_for(embedder, len(TEXTS))
    assert await text_of(memory) == await text_of(plain)
    await memory.close()


async def test_a_model_of_one_language_is_not_used_for_others() -> None:
    embedder, plain = WordEmbedder(), memory_with(None)
    embedder.languages = ("en", None)
    memory = memory_with(embedder)
    for one in (memory, plain):
        await one.sync(turns(), conversation_id="c")
    await wait_for(embedder, len(TEXTS))
    german = "Welcher vehicle wurde denn noch repaired, als wir davon gesprochen haben?"
    assert await text_of(memory, german) == await text_of(plain, german)
    await memory.close()


@settings(max_examples=8, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="abc truck.?\n", min_size=1, max_size=60), min_size=1, max_size=25),
    query=st.text(alphabet="abc truck?", min_size=1, max_size=20),
)
async def test_without_vectors_every_view_is_unchanged(texts: list[str], query: str) -> None:
    """A law: a model that has embedded nothing changes no byte."""
    embedder, plain = WordEmbedder(), memory_with(None)
    memory = memory_with(embedder, chunks=0)
    for one in (memory, plain):
        await one.sync(turns(texts), conversation_id="c")
    for asked in ("", query):
        assert await text_of(memory, asked) == await text_of(plain, asked)
    assert embedder.texts == []
    await memory.close()
