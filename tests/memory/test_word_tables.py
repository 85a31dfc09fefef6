"""Questions about German and Chinese conversations are ranked by meaning, also in another language."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench.misses import read_branch

from ctxmem_mcp import NewTurn, Settings, open_memory
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.retrieve import know_language, languages_of
from ctxmem_mcp.retrieval import query as queries
from ctxmem_mcp.text.embeddings import DIMENSIONS, FORMAT_PREFIX, VectorTable, load_embedder

needs_vectors = pytest.mark.skipif(
    load_embedder("auto") is None, reason="there is no wheel of wordllama for this platform"
)
ANSWERS = {
    "de": (
        "Der Hund des Nachbarn war damals sehr krank und musste zum Tierarzt.",
        "Wir reden heute über das Wetter von Tag",
    ),
    "zh": ("邻居家的狗那时候病得很重，只好去看兽医。", "我们今天聊聊天气，第几天："),
}


@needs_vectors
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("de", "which animal was ill and had to see a doctor?"),
        ("de", "哪只动物生病了，去看了医生？"),
        ("zh", "which animal was ill and had to see a doctor?"),
        ("zh", "Welches Tier war denn so leidend, dass ein Arzt kommen sollte?"),
    ],
)
async def test_a_question_without_a_word_of_the_answer_finds_it(tmp_path: Path, language: str, question: str) -> None:
    answer, filler = ANSWERS[language]
    turns = [NewTurn("user", f"{filler} {number}.") for number in range(60)]
    turns.insert(20, NewTurn("user", answer))
    async with open_memory(Settings(data_dir=tmp_path, embeddings="on")) as memory:
        await memory.sync(turns, conversation_id="talk")
        assert answer in (await memory.view("talk", query=question, token_budget=500)).text


def test_vectors_from_before_the_table_are_not_compared_with_questions_in_its_language() -> None:
    zeros = np.zeros((1, DIMENSIONS), dtype=np.float32)
    old, new = (VectorTable(zeros, np.zeros(1), from_tables) for from_tables in (0, 1))
    german, english = (queries.parse(text) for text in ("Wo war denn der Hund gestern?", "Where was the dog?"))
    assert not know_language(old, german, {"de": 1.0})
    assert know_language(new, german, {"de": 1.0})
    assert know_language(old, german, {})
    assert know_language(old, english, {"de": 1.0})
    assert not know_language(None, english, {})


@needs_vectors
@pytest.mark.anyio
async def test_one_new_turn_does_not_make_the_vectors_from_before_the_table_count(tmp_path: Path) -> None:
    """The turns before it are stored as they were then: with vectors of their letters."""
    answer, filler = ANSWERS["de"]
    embedder = load_embedder("on")
    assert embedder is not None
    german = "Welches Tier war denn so leidend, dass ein Arzt kommen sollte?"

    async def counts(memory: Memory) -> bool:
        branch = await read_branch(memory._store, "talk")
        ids = list(range(1, branch.state.next_piece))
        table = embedder.table(list((await branch.vectors(ids)).values()))
        return know_language(table, queries.parse(german), await languages_of(branch))

    async with open_memory(Settings(data_dir=tmp_path, embeddings="on")) as memory:
        await memory.sync([NewTurn("user", f"{filler} {number}.") for number in range(20)], conversation_id="talk")
        await memory.view("talk", query=german, token_budget=500)
        assert await counts(memory)
        store = memory._store
        read = await store.vectors("talk", range(1, 21))
        state = (await read_branch(store, "talk")).state
        for i, vector in read.items():
            await store.replace_vectors("talk", state.created, vector, {i: FORMAT_PREFIX + vector[1:]})
        await memory.append(NewTurn("user", answer), conversation_id="talk")
        await memory.view("talk", query=german, token_budget=500)
        assert not await counts(memory)
