"""Reads questions written by hand to train the ranker on, and the stories written for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.data import people

FOLDER = Path(__file__).parent


def _json(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / name).read_text("utf-8"))
    return read


def paraphrases(conversation: str) -> list[dict[str, Any]]:
    """Returns the questions about a conversation of coding-dev or longmemeval-dev, in other words than the text's."""
    return [
        _question(query, turn, *text)
        for about, turn, query, *text in _json("paraphrases.json")["questions"] if about == conversation
    ]  # fmt: skip


def transcripts() -> Iterator[dict[str, Any]]:
    """Reads the transcripts of transcripts.json, each with its questions, as conversations of a data file."""
    for one in people.read(FOLDER / "transcripts.json"):
        turns = [
            {"id": key, "role": turn.role, "name": turn.name, "content": turn.content, "said_at": turn.said_at,
             "call_id": turn.call_id}
            for key, turn in one.turns.items()
        ]  # fmt: skip
        questions = [_question(q.query, e.turn, e.text) for q in one.questions for e in q.evidence]
        yield {"id": one.id, "kind": "coding", "turns": turns, "questions": questions}


def stories() -> Iterator[dict[str, Any]]:
    """Reads the stories of stories.json as conversations of a data file. The player and the narrator take turns."""
    for story in _json("stories.json")["stories"]:
        turns = [
            {"id": f"t{i}", "role": "assistant" if i % 2 else "user", "content": content, "said_at": None}
            for i, content in enumerate(story["turns"])
        ]
        questions = [_question(query, f"t{turn}", text) for turn, text, query in story["questions"]]
        yield {"id": story["id"], "kind": "chat", "turns": turns, "questions": questions}


def _question(query: str, turn: str, text: str | None = None) -> dict[str, Any]:
    return {"query": query, "category": "in other words", "evidence": [{"turn": turn, "text": text}]}
