"""The questions written by hand that the ranker is trained on: their evidence is where they say it is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.train import handwritten
from bench.train.corpus import read


def assert_evidence_in_turns(conversations: Iterable[dict[str, Any]]) -> int:
    """Returns the number of questions."""
    count = 0
    for conversation in conversations:
        turns = {turn["id"]: turn["content"] for turn in conversation["turns"]}
        for question in conversation["questions"]:
            count += 1
            for evidence in question["evidence"]:
                assert (evidence["text"] or "") in turns[evidence["turn"]], question["query"]
    return count


def test_the_evidence_about_the_stories_is_in_the_turns_that_it_names() -> None:
    stories = list(handwritten.stories())
    assert assert_evidence_in_turns(stories) >= 30
    assert all(turn["role"] == ("user", "assistant")[i % 2] for s in stories for i, turn in enumerate(s["turns"]))


def test_the_evidence_about_transcripts_is_in_the_turns_that_it_names(eval_dir: Path) -> None:
    assert assert_evidence_in_turns(handwritten.transcripts()) >= 40


def test_the_evidence_about_the_data_sets_is_in_the_turns_that_it_names(eval_dir: Path) -> None:
    asked = (
        {**conversation, "questions": handwritten.paraphrases(conversation["id"])}
        for name in ("coding-dev", "longmemeval-dev")
        for conversation in read(name)
    )
    assert assert_evidence_in_turns(asked) >= 200
