"""Generates more questions than the data sets have, so that the weights don't learn one wording.

A generated question takes some words of one sentence, never all of them, sometimes one or two of the preceding turn,
and puts them into one of many forms. Its evidence is the turn of the sentence. Real questions are repeated without
their rarest word, and with identifiers written as words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

from bench.train.corpus import Prepared, prepare
from ctxmem_mcp.text import analyzer, chunk_flags
from ctxmem_mcp.text.chunk_flags import Flag

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[A-Za-z][A-Za-z'_.-]*[A-Za-z]|\d[\d.,]*")
_USER_ASKS = {
    Flag.TIME: ("When did I {}?", "How long ago was it that I {}?", "What day {}?", "How many weeks {}?"),
    Flag.MONEY: ("How much did I pay for {}?", "How much money {}?"),
    Flag.NUMBER: ("How many {} do I have?", "How many times {}?", "What is the number of {}?"),
    Flag.PLACE: ("Where did I {}?", "In which city {}?", "What place {}?"),
    Flag.LIKING: ("Can you suggest {} for me?", "What do I like about {}?", "What kind of {} should I try?"),
    Flag(0): ("What did I say about {}?", "What {} did I mention?", "Which {} was it?", "Who {}?", "What was my {}?"),
}
_AGENT_ASKS = (
    "Can you remind me what you said about {}?", "In our previous conversation you recommended {}; what was it?",
    "What did you suggest for {}?", "I was thinking back to our chat about {}. What was the name?",
)  # fmt: skip
_OTHER_ASKS = {
    Flag.TIME: ("When did {who} {}?", "How long has {who} {}?", "What did {who} do {}?"),
    Flag.NUMBER: ("How many {} does {who} have?", "How often {who} {}?"),
    Flag.PLACE: ("Where did {who} {}?", "Which city {who} {}?"),
    Flag.LIKING: ("What does {who} like about {}?", "What {} does {who} enjoy?"),
    Flag.REASON: ("Why did {who} {}?", "What made {who} {}?"),
    Flag(0): ("What did {who} say about {}?", "What {} did {who} do?", "Who {}?", "What is {who}'s {}?"),
}
_CODE_ASKS = {
    "user": ("What did the user say about {}?", "What was asked for regarding {}?",
             "What does the person want with {}?", "For what reason does the user want {}?",
             "Did somebody object to {}?"),
    "assistant": ("What did we find out about {}?", "Why did we decide on {}?", "What did the agent conclude about {}?",
                  "How does {} work?", "What was the plan for {}?", "Explain the problem with {}"),
    "command": ("How did we {}?", "Which command did we use to {}?", "What did we run to {}?"),
    "result": ("What was the result when we tried to {}?", "What came out of {}?", "What happened when we {}?"),
    "error": ("What went wrong with {}?", "Which error did {} give?", "Why did {} fail?"),
}  # fmt: skip


def words_of(text: str, rng: random.Random, share: float) -> list[str]:
    """Returns a random share of the words of a text that have index terms, in order."""
    indexed = [w for w in _WORD.findall(text) if analyzer.analyze(w)]
    indexed = list(dict.fromkeys(indexed))[:14]
    if len(indexed) < 3:
        return []
    count = max(2, min(6, round(len(indexed) * share)))
    chosen = set(rng.sample(range(len(indexed)), min(count, len(indexed))))
    return [w for i, w in enumerate(indexed) if i in chosen]


def _sentence(text: str, rng: random.Random) -> str | None:
    sentences = [s for s in _SENTENCE.split(text) if 30 <= len(s) <= 260 and not s.rstrip().endswith("?")]
    return rng.choice(sentences) if sentences else None


def _form(forms: dict[Flag, tuple[str, ...]], sentence: str, rng: random.Random) -> str:
    held = chunk_flags.flags(sentence, "user")
    fitting = [flag for flag in forms if flag & held] + [Flag(0)]
    return rng.choice(forms[rng.choice(fitting)])


def _beside(conversation: Prepared, turn: int, rng: random.Random) -> list[str]:
    """One or two words of the preceding turn, as people remember the subject of a conversation."""
    if turn == 0 or rng.random() < 0.5:
        return []
    before = conversation.turns[turn - 1]["content"][:300]
    return words_of(before, rng, 0.2)[: rng.choice((1, 2))]


def _question(query: str, turn: dict[str, Any], kind: str, sentence: str | None) -> dict[str, Any]:
    text = sentence if sentence and sentence in turn["content"] else None
    return {"id": "made", "query": query, "category": f"made-{kind}", "evidence": [{"turn": turn["id"], "text": text}]}


def about_chat(conversation: Prepared, count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields up to `count` questions about a chat of a user with an assistant."""
    turns = list(range(len(conversation.turns)))
    rng.shuffle(turns)
    made = 0
    for at in turns:
        turn = conversation.turns[at]
        if turn["role"] == "tool" or (turn["role"] == "assistant" and rng.random() < 0.6):
            continue
        sentence = _sentence(turn["content"], rng)
        words = words_of(sentence, rng, rng.uniform(0.3, 0.7)) if sentence else []
        if not sentence or not words:
            continue
        words = _beside(conversation, at, rng) + words
        form = rng.choice(_AGENT_ASKS) if turn["role"] == "assistant" else _form(_USER_ASKS, sentence, rng)
        yield _question(form.format(" ".join(words)), turn, "chat", sentence)
        made += 1
        if made == count:
            return


def about_dialogue(conversation: Prepared, count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields up to `count` questions about a dialogue of two named people."""
    turns = list(range(len(conversation.turns)))
    rng.shuffle(turns)
    made = 0
    for at in turns:
        turn = conversation.turns[at]
        sentence = _sentence(turn["content"], rng)
        words = words_of(sentence, rng, rng.uniform(0.3, 0.7)) if sentence else []
        if not sentence or not words:
            continue
        words = _beside(conversation, at, rng) + words
        form = _form(_OTHER_ASKS, sentence, rng)
        yield _question(form.format(" ".join(words), who=turn["name"]), turn, "dialogue", sentence)
        made += 1
        if made == count:
            return


def about_code(conversation: Prepared, count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields up to `count` questions about a coding session.

    Questions about prose use its own words, those about commands and results the words of the prose before them.
    """
    turns = list(range(1, len(conversation.turns)))
    rng.shuffle(turns)
    made: dict[str, int] = dict.fromkeys(_CODE_ASKS, 0)
    flags = {f.turn: f for f in conversation.facts if f.start == 0}
    for at in turns:
        kind = _code_kind(conversation, at, flags)
        if kind not in made or made[kind] >= count // len(_CODE_ASKS):
            continue
        turn = conversation.turns[at]
        source = turn["content"][:600] if kind in ("user", "assistant") else _intention(conversation, at, flags)
        sentence = _sentence(source, rng) or (source if 10 < len(source) < 200 else None)
        words = words_of(sentence, rng, rng.uniform(0.3, 0.7)) if sentence else []
        if words:
            made[kind] += 1
            query = rng.choice(_CODE_ASKS[kind]).format(" ".join(words))
            yield _question(query, turn, f"code-{kind}", sentence)


def _code_kind(conversation: Prepared, at: int, flags: dict[int, Any]) -> str | None:
    turn, own = conversation.turns[at], flags.get(at)
    if own is None or len(turn["content"]) > 6_000:
        return None
    if own.flags & Flag.PROSE:
        return str(turn["role"])
    if own.flags & Flag.COMMAND:
        return "command"
    if turn["role"] == "tool" and flags.get(at - 1) is not None and flags[at - 1].flags & Flag.COMMAND:
        return "error" if own.flags & Flag.ERROR else "result"
    return None


def _intention(conversation: Prepared, at: int, flags: dict[int, Any]) -> str:
    for before in range(at - 1, max(-1, at - 4), -1):
        if before in flags and flags[before].flags & Flag.PROSE:
            return str(conversation.turns[before]["content"][:400])
    return ""


def as_dialogue(chat: dict[str, Any], rng: random.Random, sessions: int = 30) -> Prepared:
    """Rewrites a chat as a dialogue of two named people, in turns of one to three sentences."""
    names = rng.sample(("Anna", "Boris", "Carla", "Deniz", "Emeka", "Fiona", "Goran", "Hana", "Ivan", "Jill"), 2)
    chosen_sessions = set(rng.sample(sorted({t["session"] for t in chat["turns"]}), k=min(sessions, 30)))
    turns: list[dict[str, Any]] = []
    for t in chat["turns"]:
        if t["session"] not in chosen_sessions:
            continue
        sentences = [s.strip() for s in _SENTENCE.split(t["content"]) if 15 < len(s.strip()) < 300][:5]
        at = 0
        while at < len(sentences):
            take = rng.choice((1, 2, 2, 3))
            who = names[t["role"] == "assistant"]
            turns.append({**t, "id": f"d{len(turns)}", "name": who, "content": " ".join(sentences[at : at + take])})
            at += take
    return prepare({"id": chat["id"] + "-dialogue", "kind": "dialogue", "turns": turns, "questions": []})


_CAMEL = re.compile(r"(?<=[a-z\d])(?=[A-Z])|_|(?<=[A-Z])(?=[A-Z][a-z])|\.(?=\w)")


def in_words(query: str) -> str:
    """Returns the query with identifiers split into words, as people say them."""
    return _CAMEL.sub(" ", query)
