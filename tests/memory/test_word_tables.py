"""Questions about German and Chinese conversations are ranked by meaning, also in another language."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctxmem_mcp import NewTurn, Settings, open_memory
from ctxmem_mcp.memory.retrieve import know_language
from ctxmem_mcp.retrieval import query as queries
from ctxmem_mcp.text.embeddings import DIMENSIONS, VectorTable, load_embedder

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
    old, new = (VectorTable(zeros, np.zeros(1), with_tables) for with_tables in (False, True))
    german, english = (queries.parse(text) for text in ("Wo war denn der Hund gestern?", "Where was the dog?"))
    assert not know_language(old, german, ["de"])
    assert know_language(new, german, ["de"])
    assert know_language(old, german, [])
    assert know_language(old, english, ["de"])
    assert not know_language(None, english, [])
