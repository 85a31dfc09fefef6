"""Reads LoCoMo's locomo10.json: a list of very long dialogues in sessions, with questions about them.

Each turn has a `dia_id` ("D3:7"), which the evidence of questions refers to. The caption of a shared image, from the
data set, is appended to the text. Questions of category 5 have no true answer in the dialogue, but they have evidence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.data.models import Conversation, Evidence, Question, to_iso
from ctxmem_mcp.models import NewTurn

CATEGORIES = {1: "1-multi-hop", 2: "2-temporal", 3: "3-open-domain", 4: "4-single-hop", 5: "5-adversarial"}
_SESSION = re.compile(r"session_(\d+)")
# Some are combined ("D8:6; D9:17"), some have leading zeros ("D30:05"), some are invalid ("D").
_PLACE = re.compile(r"D:?(\d+):(\d+)")


def looks_like(head: str) -> bool:
    """Returns whether a file with this beginning is LoCoMo."""
    return head.lstrip().startswith("[") and ('"qa"' in head or '"speaker_a"' in head)


def read(path: Path) -> Iterator[Conversation]:
    """Yields the dialogues of a file."""
    yield from map(conversation, json.loads(path.read_text(encoding="utf-8")))


def conversation(sample: dict[str, Any]) -> Conversation:
    sessions = sample["conversation"]
    turns: dict[str, NewTurn] = {}
    for number in sorted(int(found[1]) for key in sessions if (found := _SESSION.fullmatch(key))):
        when = to_iso(sessions.get(f"session_{number}_date_time"), "%I:%M %p on %d %B, %Y")
        for turn in sessions[f"session_{number}"]:
            turns[turn["dia_id"]] = _turn(turn, sessions.get("speaker_a"), when)
    questions = [_question(f"{sample['sample_id']}-{i}", qa, turns) for i, qa in enumerate(sample["qa"])]
    return Conversation(sample["sample_id"], turns, tuple(q for q in questions if q.evidence))


def _turn(turn: dict[str, Any], speaker_a: str | None, when: str | None) -> NewTurn:
    shown = f" [shared image: {turn['blip_caption']}]" if turn.get("blip_caption") else ""
    role = "user" if turn["speaker"] == speaker_a else "assistant"
    return NewTurn(role, f"{turn['text']}{shown}", turn["speaker"], when)  # type: ignore[arg-type]


def _question(name: str, qa: dict[str, Any], turns: dict[str, NewTurn]) -> Question:
    named = [f"D{int(s)}:{int(t)}" for e in qa.get("evidence", ()) for s, t in _PLACE.findall(e)]
    evidence = tuple(Evidence(turn) for turn in dict.fromkeys(named) if turn in turns)
    answer = qa.get("answer", qa.get("adversarial_answer"))
    category = CATEGORIES.get(qa["category"], str(qa["category"]))
    return Question(name, qa["question"], category, evidence, None if answer is None else str(answer))
