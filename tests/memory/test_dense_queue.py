"""Dense vectors are computed in the background, within limits, and a view without them is what it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.errors import ModelMisconfigured, ModelUnavailable
from ctxmem_mcp.memory import Memory, dense_queue
from ctxmem_mcp.memory.dense_queue import DenseQueue
from ctxmem_mcp.models import NewTurn, Turn
from ctxmem_mcp.retrieval import query
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.views import replaced
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


async def text_of(memory: Memory, asked: str = QUERY) -> str:
    return (await memory.view("c", query=asked, token_budget=700)).render()


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


# ------------------------------------------------------------ faults


class ChoosyEmbedder(WordEmbedder):
    """Refuses texts with certain words, as an endpoint does, or raises an error that nobody expects."""

    def __init__(self, refused: str = "", error: Exception | None = None) -> None:
        super().__init__()
        self.refused, self.error = refused, error
        self.questions = 0
        self.batches: list[int] = []

    async def embed_question(self, text: str) -> bytes:
        self.questions += 1
        return (await self.embed_chunks([text]))[0]

    async def embed_chunks(self, texts: Sequence[str]) -> list[bytes]:
        self.batches.append(len(texts))
        if self.error is not None:
            raise self.error
        if self.refused and any(self.refused in text for text in texts):
            raise ModelMisconfigured("The endpoint responded with 400: no.")
        return await super().embed_chunks(texts)


@pytest.mark.parametrize("refused", ["town 5 ", "town 39 ", "Matter"])
async def test_texts_that_the_model_refuses_are_skipped(refused: str) -> None:
    embedder = ChoosyEmbedder(refused)
    memory = memory_with(embedder)
    await memory.sync(turns(), conversation_id="c")
    await memory.sync(turns(["What is new?", "Nothing at all."]), conversation_id="d")
    taken = [text for text in TEXTS if refused not in text] + ["What is new?", "Nothing at all."]
    with anyio.fail_after(60):
        while not set(taken) <= set(embedder.texts):  # noqa: ASYNC110
            await anyio.sleep(0.005)
    await memory.close()


async def test_a_model_that_refuses_everything_is_not_sent_each_text(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = ChoosyEmbedder(" ")
    memory = memory_with(embedder)
    await memory.sync(turns(), conversation_id="c")
    with anyio.fail_after(60):
        while len(embedder.batches) < 2:  # noqa: ASYNC110
            await anyio.sleep(0.005)
    await anyio.sleep(0.02)
    assert embedder.batches == [embedder.batch, 1]
    await memory.close()


async def test_a_damaged_conversation_stops_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    embedder = WordEmbedder()
    store = SqliteStore(tmp_path, durability="normal")
    plain = Memory(store, ExtractiveSummarizer(), clock=lambda: 1.0)
    for name in "cd":
        await plain.sync(turns(), conversation_id=name)
    with closing(sqlite3.connect(tmp_path / FOLDER / file_name("c"))) as db, db:
        db.execute("UPDATE pieces SET checksum = checksum + 1 WHERE id = 1")
    queue = DenseQueue(store, embedder, chunks_max=1_000, seconds_max=60)
    queue.add("c")
    queue.add("d")
    await wait_for(embedder, len(TEXTS))
    assert await queue.embed_question(QUERY, "en") is not None
    assert [record.levelname for record in caplog.records if "'c' is damaged" in record.getMessage()] == ["WARNING"]
    await queue.close()
    await plain.close()


async def test_after_a_failure_of_the_model_another_conversation_is_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_queue, "FAILURE_SECONDS", 0.001)

    class PickyEmbedder(WordEmbedder):
        async def embed_chunks(self, texts: Sequence[str]) -> list[bytes]:
            if "truck" in " ".join(texts):
                raise ModelUnavailable("The endpoint responded with 500: too long.")
            return await super().embed_chunks(texts)

    embedder = PickyEmbedder()
    memory = memory_with(embedder)
    await memory.sync(turns(["My truck."]), conversation_id="c")
    await memory.sync(turns(["My brakes."]), conversation_id="d")
    await wait_for(embedder, 1)
    await memory.close()


@pytest.mark.parametrize("error", [AssertionError("no"), ImportError("numpy"), MemoryError(), RuntimeError("no")])
async def test_an_error_that_nobody_expects_is_a_model_that_is_not_there(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_queue, "FAILURE_SECONDS", 0.001)
    embedder, plain = ChoosyEmbedder(error=error), memory_with(None)
    memory = memory_with(embedder)
    for one in (memory, plain):
        await one.sync(turns(), conversation_id="c")
    assert await text_of(memory) == await text_of(plain)
    embedder.error = None
    await wait_for(embedder, len(TEXTS))
    await memory.close()


async def test_nothing_is_sent_if_all_turns_of_a_batch_are_gone() -> None:
    class ForgetfulStore(InMemoryStore):
        async def turns(self, conversation_id: str, seqs: Sequence[int], *, metadata_only: bool = False) -> list[Turn]:
            return []

    embedder, store = ChoosyEmbedder(), ForgetfulStore()
    plain = Memory(store, ExtractiveSummarizer(), clock=lambda: 1.0)
    await plain.append(NewTurn("user", "hello there"), conversation_id="c")
    queue = DenseQueue(store, embedder, chunks_max=1_000, seconds_max=60)
    queue.add("c")
    with anyio.fail_after(60):
        while queue._waiting:  # noqa: ASYNC110
            await anyio.sleep(0.005)
    assert embedder.batches == []
    await queue.close()


async def test_after_a_question_that_took_too_long_none_is_tried_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowEmbedder(ChoosyEmbedder):
        question_seconds = 0.01

        async def embed_question(self, text: str) -> bytes:
            self.questions += 1
            await anyio.sleep(60)
            return self.vector(text)

    embedder = SlowEmbedder()
    queue = DenseQueue(InMemoryStore(), embedder, chunks_max=1, seconds_max=60)
    for question in (QUERY, QUERY, "Another?"):
        assert await queue.embed_question(question, "en") is None
    assert embedder.questions == 1
    monkeypatch.setattr(dense_queue, "SLOW_SECONDS", 0.0)
    queue = DenseQueue(InMemoryStore(), embedder, chunks_max=1, seconds_max=60)
    for question in (QUERY, QUERY):
        assert await queue.embed_question(question, "en") is None
    assert embedder.questions == 3
    await queue.close()


async def test_no_cache_keeps_a_text_after_forgetting() -> None:
    memory = memory_with(WordEmbedder())
    await memory.sync(turns(), conversation_id="c")
    await text_of(memory)
    assert query._parse.cache_info().currsize
    await memory.forget("c", confirm="c")
    assert query._parse.cache_info().currsize == 0
    assert replaced._statement_of.cache_info().currsize == 0
    await memory.close()


async def test_a_conversation_is_embedded_while_others_are_appended_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_queue, "QUIET_SECONDS", 0.3)
    embedder = WordEmbedder()
    queue = DenseQueue(store := InMemoryStore(), embedder, chunks_max=1_000, seconds_max=60)
    await memory_with(None, store).sync(turns(), conversation_id="c")
    queue.add("c")
    with anyio.fail_after(10):
        while len(embedder.texts) < len(TEXTS):
            queue.add("d")
            await queue.read("c", range(1, len(TEXTS) + 1))
            await anyio.sleep(0.01)
    await queue.close()
