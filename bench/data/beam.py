"""Reads BEAM as in its repository: chats/SIZE/NUMBER/chat.json and probing_questions/probing_questions.json beside it.

A chat is a list of batches, each with a list of turns, each of which is a list of messages with an `id`. If a chat was
truncated to its size, there is also a chat_trunecated.json, which the questions refer to. Questions are grouped by the
ability that they probe; `source_chat_ids` names the messages with the answer: a list, or lists under names. Questions
without an answer (abstention) are skipped, and those that refer to a missing or duplicate id.

Messages are found at any depth, because the longest chats reportedly nest deeper; those were not tested.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.data.models import Conversation, Evidence, Question, to_iso
from ctxmem_mcp.models import NewTurn

QUESTIONS = "probing_questions/probing_questions.json"
# The preferred one first; the spelling is that of the data set.
CHATS = ("chat_trunecated.json", "chat.json")
_ANSWERS = ("answer", "ideal_answer", "ideal_response", "ideal_summary", "expected_compliance")


def looks_like(folder: Path) -> bool:
    """Returns whether the folder is a BEAM data set."""
    return next(folder.rglob(QUESTIONS), None) is not None


def read(folder: Path) -> Iterator[Conversation]:
    """Yields the chats under a folder, named after their folders. Skips folders without a chat file."""
    for probes in sorted(folder.rglob(QUESTIONS), key=lambda file: (len(str(file)), str(file))):
        beside = probes.parents[1]
        chat = next((beside / name for name in CHATS if (beside / name).exists()), None)
        if chat:
            place = "-".join(("beam", *beside.parts[-2:]))
            yield conversation(place, json.loads(chat.read_text("utf-8")), json.loads(probes.read_text("utf-8")))


def conversation(name: str, chat: Any, probes: dict[str, list[dict[str, Any]]]) -> Conversation:
    turns: dict[str, NewTurn] = {}
    by_id: dict[int, str] = {}
    seen: Counter[int] = Counter()
    when: str | None = None
    for i, message in enumerate(_messages(chat)):
        # Only the first message of a batch states the time; it applies to the following ones.
        when = to_iso(message.get("time_anchor"), "%B-%d-%Y") or when
        seen[message["id"]] += 1
        by_id[message["id"]] = turn = str(i)
        turns[turn] = NewTurn(message["role"], message["content"], None, when)
    known = {number: turn for number, turn in by_id.items() if seen[number] == 1}
    questions = [
        _question(f"{name}-{ability}-{i}", ability, given, known)
        for ability, several in probes.items() for i, given in enumerate(several)
    ]  # fmt: skip
    return Conversation(name, turns, tuple(question for question in questions if question))


def _messages(chat: Any) -> Iterator[dict[str, Any]]:
    """All messages at any depth, in the file's order."""
    if isinstance(chat, dict) and {"role", "id", "content"} <= chat.keys():
        yield chat
    elif isinstance(chat, dict):
        for value in chat.values():
            yield from _messages(value)
    elif isinstance(chat, list):
        for value in chat:
            yield from _messages(value)


def _question(name: str, ability: str, given: dict[str, Any], known: dict[int, str]) -> Question | None:
    sources = list(dict.fromkeys(_numbers(given.get("source_chat_ids"))))
    if not sources or any(number not in known for number in sources):
        return None
    answer = next((str(given[key]) for key in _ANSWERS if given.get(key)), None)
    return Question(name, given["question"], ability, tuple(Evidence(known[number]) for number in sources), answer)


def _numbers(sources: Any) -> Iterator[int]:
    if isinstance(sources, dict):
        sources = list(sources.values())
    if isinstance(sources, list):
        for source in sources:
            yield from _numbers(source)
    elif isinstance(sources, int):
        yield sources
