"""Reads LongMemEval's JSON (longmemeval_s_cleaned.json): a list of questions, each with a haystack of chats.

The turns with the answer have `has_answer`. The file is large, so it is parsed one question at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.data.models import Conversation, Evidence, Question, to_iso
from ctxmem_mcp.models import NewTurn

_BETWEEN = re.compile(r"[\s,]*")


def looks_like(head: str) -> bool:
    """Returns whether a file with this beginning is LongMemEval."""
    return head.lstrip().startswith("[") and '"question_id"' in head


def read(path: Path) -> Iterator[Conversation]:
    """Yields a conversation per question."""
    text = path.read_text(encoding="utf-8")
    decoder, place = json.JSONDecoder(), text.index("[") + 1
    while (place := _after(text, place)) < len(text) and text[place] == "{":
        item, place = decoder.raw_decode(text, place)
        yield conversation(item)


def _after(text: str, place: int) -> int:
    found = _BETWEEN.match(text, place)
    return found.end() if found else place


def conversation(item: dict[str, Any]) -> Conversation:
    """Converts a question with its haystack. The sessions keep the file's order."""
    turns: dict[str, NewTurn] = {}
    evidence: list[Evidence] = []
    sessions = zip(item["haystack_session_ids"], item["haystack_dates"], item["haystack_sessions"], strict=True)
    for number, (session, date, messages) in enumerate(sessions):
        when = to_iso(date, "%Y/%m/%d (%a) %H:%M", "%Y/%m/%d")
        for i, turn in enumerate(messages):
            name = f"{number}/{session}/{i}"
            turns[name] = NewTurn(turn["role"], turn["content"], None, when)
            if turn.get("has_answer"):
                evidence.append(Evidence(name))
    question = Question(
        item["question_id"], item["question"], item["question_type"], tuple(evidence), str(item["answer"])
    )
    return Conversation(f"lme-{item['question_id']}", turns, (question,) if evidence else ())
