"""Reading data sets: a minimal example of each format, written by hand after its description."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from bench.data import conversations, find_data
from bench.data.models import Conversation, Evidence

from ctxmem_mcp.models import NewTurn

PEOPLE = Path(__file__).parents[2] / "bench/data/people.json"

NATIVE = {
    "id": "cc0", "kind": "coding",
    "turns": [
        {"id": "t0", "role": "user", "name": None, "content": "Fix it", "said_at": "2026-01-05T12:17:00Z"},
        {"id": "t1", "role": "tool", "name": None, "content": "setup.go:653: boom", "said_at": None},
    ],
    "questions": [
        {"id": "q0", "query": "Which error?", "asked_at": None, "category": "err", "answer": None,
         "evidence": [{"turn": "t1", "text": "boom"}]},
    ],
}  # fmt: skip

LOCOMO = [{
    "sample_id": "conv-1",
    "conversation": {
        "speaker_a": "Ann", "speaker_b": "Bob",
        "session_10_date_time": "10:05 am on 2 June, 2023",
        "session_10": [{"speaker": "Bob", "dia_id": "D10:5", "text": "Back from Rome."}],
        "session_2_date_time": "1:56 pm on 8 May, 2023",
        "session_2": [
            {"speaker": "Ann", "dia_id": "D2:1", "text": "Look!", "img_url": ["x"], "blip_caption": "a photo of a dog"},
        ],
    },
    "qa": [
        {"question": "Where was Bob?", "answer": "Rome", "evidence": ["D10:05; D2:1"], "category": 1},
        {"question": "How many dogs?", "answer": 1, "evidence": ["D2:1"], "category": 4},
        {"question": "What cat?", "adversarial_answer": "a dog", "evidence": ["D2:1", "D"], "category": 5},
        {"question": "Nobody said it?", "answer": "no", "evidence": [], "category": 3},
    ],
}]  # fmt: skip

LONGMEMEVAL: list[dict[str, Any]] = [
    {
        "question_id": "q1", "question_type": "knowledge-update", "question": "Where does Rachel work?",
        "answer": "TechCorp", "question_date": "2023/06/21 (Wed) 13:02",
        "haystack_session_ids": ["s1", "answer_1"], "answer_session_ids": ["answer_1"],
        "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/21 (Sun) 15:00"],
        "haystack_sessions": [
            [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
            [{"role": "user", "content": "Rachel is at TechCorp now.", "has_answer": True}],
        ],
    },
    {
        "question_id": "q2_abs", "question_type": "multi-session", "question": "What of my cat?", "answer": 3,
        "question_date": "2023/06/21 (Wed) 13:02", "haystack_session_ids": ["s1"], "answer_session_ids": [],
        "haystack_dates": ["2023/05/20 (Sat) 02:21"], "haystack_sessions": [[{"role": "user", "content": "Hi"}]],
    },
]  # fmt: skip

BEAM_CHAT = [
    {"batch_number": 1, "turns": [
        [
            {"role": "user", "id": 0, "time_anchor": "March-15-2024", "index": "1,1", "content": "The sprint ends?"},
            {"role": "assistant", "id": 1, "content": "On March 29."},
        ],
        [{"role": "user", "id": 2, "content": "165 commits are merged."}],
    ]},
    {"batch_number": 2, "turns": [[{"role": "user", "id": 3, "time_anchor": "April-02-2024", "content": "Done."}]]},
]  # fmt: skip
BEAM_ASKED = {
    "abstention": [{"question": "Who am I?", "ideal_response": "Not said."}],
    "knowledge_update": [{
        "question": "How many commits?", "answer": "165",
        "source_chat_ids": {"original_info": [1], "updated_info": [2, 2]},
    }],
    "event_ordering": [{"question": "In which order?", "answer": "so", "source_chat_ids": [0, 3]}],
    "summarization": [{"question": "Sum up", "ideal_summary": "so", "source_chat_ids": [0, 77]}],
}  # fmt: skip


def only(path: Path) -> Conversation:
    (found,) = conversations(path)
    return found


def written(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), "utf-8")
    return path


def test_the_native_format_keeps_ids_times_and_spans_of_evidence(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl.gz"
    file.write_bytes(gzip.compress(json.dumps(NATIVE).encode()))
    found = only(file)
    assert found.turns["t0"] == NewTurn("user", "Fix it", None, "2026-01-05T12:17:00Z")
    (question,) = found.questions
    assert (question.query, question.category, question.answer) == ("Which error?", "err", None)
    assert question.evidence == (Evidence("t1", "boom"),)


def test_locomo_sessions_are_in_numerical_order_with_image_captions(tmp_path: Path) -> None:
    found = only(written(tmp_path / "locomo10.json", LOCOMO))
    assert list(found.turns) == ["D2:1", "D10:5"]
    assert found.turns["D2:1"] == NewTurn(
        "user", "Look! [shared image: a photo of a dog]", "Ann", "2023-05-08T13:56:00Z"
    )
    assert found.turns["D10:5"] == NewTurn("assistant", "Back from Rome.", "Bob", "2023-06-02T10:05:00Z")


def test_locomo_evidence_is_parsed_in_all_spellings(tmp_path: Path) -> None:
    found = only(written(tmp_path / "locomo10.json", LOCOMO))
    assert [(q.category, q.answer, [e.turn for e in q.evidence]) for q in found.questions] == [
        ("1-multi-hop", "Rome", ["D10:5", "D2:1"]),
        ("4-single-hop", "1", ["D2:1"]),
        ("5-adversarial", "a dog", ["D2:1"]),
    ]


@pytest.mark.parametrize("indent", [None, 1])
def test_longmemeval_gives_a_conversation_per_answerable_question(tmp_path: Path, indent: int | None) -> None:
    file = tmp_path / "longmemeval_s_cleaned.json"
    file.write_text(json.dumps(LONGMEMEVAL, indent=indent), "utf-8")
    found = only(file)
    assert [(turn.role, turn.content, turn.said_at) for turn in found.turns.values()] == [
        ("user", "Hi", "2023-05-20T02:21:00Z"),
        ("assistant", "Hello", "2023-05-20T02:21:00Z"),
        ("user", "Rachel is at TechCorp now.", "2023-05-21T15:00:00Z"),
    ]
    (question,) = found.questions
    assert (question.id, question.category, question.answer) == ("q1", "knowledge-update", "TechCorp")
    assert [found.turns[e.turn].content for e in question.evidence] == ["Rachel is at TechCorp now."]


def test_longmemeval_questions_are_read_one_after_the_other(tmp_path: Path) -> None:
    twice = [LONGMEMEVAL[0], {**LONGMEMEVAL[0], "question_id": "q3"}]
    found = list(conversations(written(tmp_path / "longmemeval_s_cleaned.json", twice)))
    assert [conversation.id for conversation in found] == ["lme-q1", "lme-q3"]


def beam(folder: Path, chat: Any) -> Path:
    written(folder / "100K/7/chat.json", chat)
    written(folder / "100K/7/probing_questions/probing_questions.json", BEAM_ASKED)
    written(folder / "100K/8/probing_questions/probing_questions.json", BEAM_ASKED)
    return folder


def test_beam_turns_have_the_last_stated_time(tmp_path: Path) -> None:
    found = only(beam(tmp_path / "chats", BEAM_CHAT))
    assert found.id == "beam-100K-7"
    assert [(turn.role, turn.said_at) for turn in found.turns.values()] == [
        ("user", "2024-03-15T00:00:00Z"), ("assistant", "2024-03-15T00:00:00Z"),
        ("user", "2024-03-15T00:00:00Z"), ("user", "2024-04-02T00:00:00Z"),
    ]  # fmt: skip


def test_beam_sources_are_the_evidence_and_questions_without_known_sources_are_skipped(tmp_path: Path) -> None:
    found = only(beam(tmp_path / "chats", BEAM_CHAT))
    said = {q.category: [found.turns[e.turn].content for e in q.evidence] for q in found.questions}
    assert said == {
        "knowledge_update": ["On March 29.", "165 commits are merged."],
        "event_ordering": ["The sprint ends?", "Done."],
    }


def test_a_truncated_beam_chat_is_preferred(tmp_path: Path) -> None:
    folder = beam(tmp_path / "chats", BEAM_CHAT)
    written(folder / "100K/7/chat_trunecated.json", BEAM_CHAT[:1])
    found = only(folder)
    assert len(found.turns) == 3
    assert [question.category for question in found.questions] == ["knowledge_update"]


def test_beam_messages_are_found_at_any_depth_and_duplicate_ids_are_no_evidence(tmp_path: Path) -> None:
    again = [{"batch_number": 1, "turns": [[{"role": "user", "id": 2, "content": "Other."}]]}]
    found = only(beam(tmp_path / "chats", [{"plan-1": BEAM_CHAT}, {"plan-2": again}]))
    assert len(found.turns) == 5
    assert [question.category for question in found.questions] == ["event_ordering"]


def session_row(i: int, role: str, content: Any) -> str:
    at = f"2026-01-05T12:{i // 60:02d}:{i % 60:02d}.000Z"
    message = {"role": role, "content": content}
    row = {"type": role, "uuid": f"u{i}", "parentUuid": f"u{i - 1}" if i else None, "sessionId": "s1", "timestamp": at}
    return json.dumps({**row, "message": message})


def session(turns: int) -> str:
    rows = []
    for i in range(turns):
        words = f"We decided to rename the limiter number {i} because the parser of section {i} reads badly."
        rows.append(session_row(i, "user" if i % 2 == 0 else "assistant", words))
    return "\n".join(rows)


def test_questions_about_sessions_are_reproducible_with_the_seed(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "s1.jsonl").write_text(session(120), "utf-8")
    (tmp_path / "project" / "notes.md").write_text("no session at all", "utf-8")
    first, again = only(tmp_path), only(tmp_path)
    assert first == again
    assert len(first.turns) == 120
    for question in first.questions:
        (evidence,) = question.evidence
        said = first.turns[evidence.turn].content.lower()
        assert any(word in said for word in question.query.lower().replace("?", "").split() if len(word) > 4)
    assert next(conversations(tmp_path, seed=2)).questions != first.questions


def test_a_file_in_an_unknown_format_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"other\.json: unknown format"):
        list(conversations(written(tmp_path / "other.json", {"a": 1})))


def test_the_default_data_is_all_files_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "mine.jsonl.gz"
    file.write_bytes(b"")
    monkeypatch.setenv("CTXMEM_EVAL_DIR", str(tmp_path))
    assert find_data() == [file]
    assert find_data([tmp_path]) == [tmp_path]
    monkeypatch.delenv("CTXMEM_EVAL_DIR")
    with pytest.raises(SystemExit, match="CTXMEM_EVAL_DIR"):
        find_data()


def test_the_evidence_of_the_hand_written_questions_is_in_the_turns_that_they_name(eval_dir: Path) -> None:
    found = list(conversations(PEOPLE))
    assert sum(len(conversation.questions) for conversation in found) >= 40
    for conversation in found:
        for question in conversation.questions:
            for evidence in question.evidence:
                assert (evidence.text or "") in conversation.turns[evidence.turn].content, question.query
