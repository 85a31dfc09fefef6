"""The benchmark of languages: its data is sound, and search keeps finding what it found."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.data import native
from bench.languages import DATA, measure, table

from ctxmem_mcp.text.language import detect

FILES = sorted(DATA.glob("*.jsonl"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_question_has_a_turn_that_contains_its_answer(path: Path) -> None:
    conversations = list(native.read(path))
    assert [len(conversation.questions) for conversation in conversations] == [10, 10]
    for conversation in conversations:
        for question in conversation.questions:
            (evidence,) = question.evidence
            assert evidence.text
            assert evidence.text in conversation.turns[evidence.turn].content


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_turns_are_in_the_language_of_their_file(path: Path) -> None:
    texts = [turn.content for conversation in native.read(path) for turn in conversation.turns.values()]
    assert sum(detect(text) == path.stem for text in texts) >= 0.8 * len(texts)


@pytest.mark.anyio
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_search_finds_most_answers_in_every_language(path: Path) -> None:
    score = await measure(path)
    assert score.near >= 0.8 * score.questions
    assert path.stem in table({path.stem: score})
