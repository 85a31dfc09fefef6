"""Evidence recall, the baselines, the tables and the measure of outlines."""

from __future__ import annotations

import gzip
import json
from contextlib import closing
from pathlib import Path

import pytest
from bench.baselines import METHODS, Baselines, split_content
from bench.data.models import Conversation, Evidence, Question
from bench.recall import Row, Settings

from bench import outline, recall
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.text import tokenizer

LONG = "\n".join(f"line {i} of the log says {i * i}" for i in range(300))


def conversation(*contents: str, evidence: tuple[Evidence, ...] = (), answer: str | None = None) -> Conversation:
    turns = {f"t{i}": NewTurn("user" if i % 2 == 0 else "assistant", content) for i, content in enumerate(contents)}
    return Conversation("c", turns, (Question("q", "Where is the key?", "where", evidence, answer),))


def share(text: str, *evidence: Evidence, contents: tuple[str, ...] = ("The key is under the mat.", LONG)) -> float:
    example = conversation(*contents, evidence=evidence)
    return recall.recall(example.questions[0], example, text)


def test_a_whole_turn_counts_only_verbatim() -> None:
    assert share("x The key is under the mat. y", Evidence("t0")) == 1
    assert share("x The key is under a mat. y", Evidence("t0")) == 0


def test_an_alternative_counts_like_the_evidence() -> None:
    evidence = Evidence("t0", "on the table", (Evidence("t0", "under the mat"), Evidence("t1")))
    assert share("... under the mat", evidence) == 1
    assert share("... on the chair", evidence) == 0


def test_a_span_counts_without_the_rest_of_its_turn() -> None:
    assert share("... under the mat", Evidence("t0", "under the mat"), Evidence("t0")) == 0.5


def test_the_lines_of_a_very_long_turn_may_be_apart() -> None:
    apart = "\n[header]\n".join(LONG.split("\n"))
    assert share(apart, Evidence("t1")) == 1
    assert share(apart.replace("line 7 of", "line of"), Evidence("t1")) == 0


def test_a_shorter_turn_must_be_contiguous() -> None:
    contents = ("\n".join(f"line {i}" for i in range(20)),)
    assert share(contents[0].replace("\n", "\n[header]\n"), Evidence("t0"), contents=contents) == 0


def test_passages_tile_a_turn_within_their_maximum_length() -> None:
    for content in (LONG, "x" * 9_000, "", "one line"):
        pieces = split_content(content)
        assert "".join(pieces) == content
        assert all(tokenizer.count(piece) <= 400 for piece in pieces)
    assert len(split_content(LONG)) > 1


def test_the_newest_turns_that_fit_are_shown_in_order() -> None:
    contents = ("What was said first.", "Then what was said second, in some more words.", "And what came third.")
    with closing(Baselines(conversation(*contents).turns)) as baselines:
        room = sum(part.tokens for part in baselines.passages[1:])
        text = baselines.text(baselines.fill(baselines.rank("newest", ""), room))
    assert text == f"[t1] assistant: {contents[1]}\n[t2] user: {contents[2]}"


def test_adjacent_passages_of_a_turn_are_shown_as_one() -> None:
    example = conversation("before", LONG, "after", evidence=(Evidence("t1"),))
    with closing(Baselines(example.turns)) as baselines:
        assert len(baselines.passages) > 3
        assert LONG in baselines.text(range(len(baselines.passages)))


def test_bm25_prefers_rare_words_and_fts5_matches_stems() -> None:
    contents = ("The key hangs here", "The dog barks", "The cat sleeps", "The dog walked in the rain", "The dog")
    with closing(Baselines(conversation(*contents).turns)) as baselines:
        assert next(iter(baselines.rank("bm25", "the key"))) == 0
        assert list(baselines.rank("bm25", "walking")) == []
        assert list(baselines.rank("fts5", "walking?")) == [3]
        assert list(baselines.rank("fts5", 'the "of" AND')) == []


@pytest.mark.parametrize("method", METHODS)
def test_no_baseline_exceeds_its_budget(method: str) -> None:
    with closing(Baselines(conversation(*(f"The key {i}. {LONG[: i * 40]}" for i in range(40))).turns)) as baselines:
        for budget in (100, 1_000, 3_000):
            text = baselines.text(baselines.fill(baselines.rank(method, "Where is the key?"), budget))
            assert 0 < tokenizer.count(text) <= budget


def test_questions_are_sampled_with_the_seed_in_their_order() -> None:
    questions = tuple(Question(str(i), "?", "c", (Evidence("t0"),)) for i in range(50))
    many = Conversation("c", {"t0": NewTurn("user", "x")}, questions)
    drawn = [q.id for q in recall.sample_questions(many, Settings((1_000,), questions=10)).questions]
    assert len(drawn) == 10
    assert drawn == sorted(drawn, key=int)
    assert drawn == [q.id for q in recall.sample_questions(many, Settings((1_000,), questions=10)).questions]
    assert drawn != [q.id for q in recall.sample_questions(many, Settings((1_000,), questions=10, seed=2)).questions]
    assert recall.sample_questions(many, Settings((1_000,), questions=60)) is many


def test_a_table_has_means_and_the_share_of_questions_with_all_evidence() -> None:
    rows = [
        Row(recall.VIEW, "a", 1_000, 1.0, 900, 5), Row(recall.VIEW, "b", 1_000, 0.5, 1_001, 7),
        Row("bm25", "a", 1_000, 0.0, 990), Row("bm25", "b", 1_000, 0.0, 990),
    ]  # fmt: skip
    lines = recall.table(rows, (1_000,), categories=True).splitlines()
    assert "| ctxmem | 2 | 75.0 (50.0) | 950 |" in lines[2]
    assert "| ctxmem: b | 1 | 50.0 (0.0) |" in lines[4]
    assert lines[5].startswith("| bm25 | 2 | 0.0 (0.0) | 990 |")
    assert recall.over_budget(rows) == [rows[1]]


def test_the_benchmark_runs_on_both_stores_without_exceeding_a_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [
        {"id": f"t{i}", "role": "user" if i % 2 == 0 else "assistant", "name": None, "said_at": None,
         "content": f"About the limiter {i}: it must be at most {i * 37} a second. " + "So it was said. " * 12}
        for i in range(60)
    ]  # fmt: skip
    evidence = [{"turn": "t20", "text": "at most 740 a second"}, {"turn": "t59", "text": "unsaid"}]
    question = {"id": "q", "query": "What did we say about the limiter 20?", "category": "made", "answer": "740"}
    file = tmp_path / "made.jsonl.gz"
    made = {"id": "m", "turns": turns, "questions": [{**question, "evidence": evidence}]}
    file.write_bytes(gzip.compress(json.dumps(made).encode()))
    for store in ("sqlite", "plain"):
        with pytest.raises(SystemExit) as done:
            recall.main([str(file), "--budgets", "2000,500", "--store", store, "--categories", "--why"])
        assert done.value.code == 0
        out = capsys.readouterr().out
        assert "60 turns" in out
        assert "over budget: 0 of 2" in out
        assert "| ctxmem | 1 | 50.0 (0.0) | 50.0 (0.0) |" in out
        assert "t59 (assistant" in out
        assert "t20 (user" not in out
    outline.main([str(file), "--rare", "3"])
    assert "| all | 1 |" in capsys.readouterr().out


def test_facts_are_rare_identifiers_numbers_names_and_words_of_the_answer() -> None:
    contents = (
        "In the end Maria moved parseConfig to port 8642, by the harbour.",
        *["The harbour with Maria."] * 3,
        "8642",
    )
    example = conversation(*contents, evidence=(Evidence("t0"),), answer="near the end of the harbour, by boat")
    rare = outline.rare_terms(example, 3)
    assert outline.facts(example.questions[0], example, rare) == {"=parseconfig", "8642", "end"}
    assert outline.facts(example.questions[0], example, outline.rare_terms(example, 4)) >= {"maria", "harbour"}


def test_an_answer_counts_only_if_the_evidence_contains_it_and_the_question_does_not() -> None:
    found = Evidence("t0")
    for answer, expected in (
        ("Under the mat.", "under the mat"),
        ("on the mat", None),
        ("the key", None),
        (None, None),
    ):
        example = conversation("The key is under the mat.", evidence=(found,), answer=answer)
        assert outline.answer_words(example.questions[0], example) == expected


def test_ids_and_roles_of_generated_lines_are_removed() -> None:
    ours = "[n0-9-213 2.1k] Fix the 404\n t47 tool error: port 8642 is taken\n open for: 2 more\n[… t9-t10 81]\n"
    assert outline.strip_markers(ours) == " Fix the 404\n port 8642 is taken\n 2 more\n\n"
