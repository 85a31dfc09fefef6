"""Endless conversations, made of real ones without repeating them.

The conversations of CTXMEM_EVAL_DIR follow each other in a seeded order, again and again. In each pass, every name,
path, identifier and number is replaced: a word by another of the same form, always by the same one within a pass of a
conversation, so that later turns refer to earlier ones as in the original; a number by another of as many digits. Of
the other long words, one in eight is replaced by a word of the data. So sentences, code and outputs keep their lengths
and forms, no two passes have a long line in common, and the vocabulary grows as that of a real history does.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from bench.data import native
from bench.data.models import eval_folder
from ctxmem_mcp.models import NewTurn

DATA = ("coding-dev", "people-dev", "longmemeval-dev")
# Seconds between turns, and between conversations.
TURN_SECONDS, PAUSE_SECONDS = 30, 8 * 3_600
START = datetime(2024, 1, 1, tzinfo=UTC)
# Of the ordinary words of at least LONG_WORD letters, one in REPLACED_WORDS becomes another.
LONG_WORD, REPLACED_WORDS = 6, 8
_SYLLABLES = [a + b for a in "b c d f g l m n p r s t v br cl st tr".split() for b in "a e i o u an el or in".split()]
# A number; a word with capitals, digits or underscores in it, or a part of a path; another long word.
_REPLACED = re.compile(
    rf"(?P<number>\b\d{{2,}}\b)|(?P<name>\b(?:[a-z]*[A-Z_]\w+|(?<=[/.])[A-Za-z_]\w{{3,}})\b)|(?P<word>\b[a-z]{{{LONG_WORD},}}\b)"
)
_LOWER_CASE = re.compile(r"\b[a-z]{2,}\b")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# A capitalised word that the data has this often in lower case begins a sentence, and stays.
COMMON_WORD = 40


def read_conversations() -> list[list[NewTurn]]:
    """Returns the turns of each conversation of the data.

    Raises:
        SystemExit: CTXMEM_EVAL_DIR is not set, or has none of the data.
    """
    files = [eval_folder() / "data" / f"{name}.jsonl.gz" for name in DATA]
    found = [list(one.turns.values()) for file in files if file.exists() for one in native.read(Path(file))]
    if not found:
        raise SystemExit(f"{eval_folder()} has none of {', '.join(DATA)} in its folder `data`.")
    return found


def read_questions() -> list[str]:
    """Returns the questions of the data, in a seeded order."""
    files = [eval_folder() / "data" / f"{name}.jsonl.gz" for name in DATA]
    found = [q.query for file in files if file.exists() for one in native.read(Path(file)) for q in one.questions]
    random.Random(1).shuffle(found)
    return found


class Variation:
    """Replaces the names, numbers and some words of one conversation's turns."""

    def __init__(self, seed: str, words: Sequence[str], common: frozenset[str]) -> None:
        self._random, self._words, self._common = random.Random(seed), words, common
        self._parts: dict[str, str] = {}

    def vary(self, text: str) -> str:
        """Returns the text with its replacements."""
        return _REPLACED.sub(self._replacement, text)

    def _replacement(self, match: re.Match[str]) -> str:
        found = match[0]
        if match.lastgroup == "number":
            return self._number(found)
        if match.lastgroup == "name":
            return found if found.lower() in self._common else _PARTS.sub(self._part, found)
        return self._random.choice(self._words) if self._random.random() < 1 / REPLACED_WORDS else found

    def _number(self, digits: str) -> str:
        low = 10 ** (len(digits) - 1)
        return str(low + int(self._random.random() * low * 9))

    def _part(self, match: re.Match[str]) -> str:
        part = match[0]
        if len(part) < 3:
            return part
        if (new := self._parts.get(low := part.lower())) is None:
            new = ""
            while len(new) < len(low):
                new += self._random.choice(_SYLLABLES)
            new = self._parts[low] = new[: max(3, len(low))]
        return new.upper() if part.isupper() else new.capitalize() if part[0].isupper() else new


def turns(conversations: Sequence[Sequence[NewTurn]], skip: int = 0, seed: int = 1) -> Iterator[NewTurn]:
    """Yields turns without end: the same ones at each call.

    Args:
        conversations: What they are made of.
        skip: The number of turns to leave out at the beginning.
        seed: Seed of the order and the replacements.
    """
    counts = Counter(word for one in conversations for turn in one for word in _LOWER_CASE.findall(turn.content))
    words = sorted(word for word in counts if LONG_WORD <= len(word) <= 2 * LONG_WORD)
    common = frozenset(word for word, occurrences in counts.items() if occurrences >= COMMON_WORD)
    now, at = START, 0
    for repetition in count():
        order = list(range(len(conversations)))
        random.Random(f"{seed} {repetition}").shuffle(order)
        for number in order:
            source, now = conversations[number], now + timedelta(seconds=PAUSE_SECONDS)
            variation = Variation(f"{seed} {repetition} {number}", words, common)
            for turn in source:
                now, at = now + timedelta(seconds=TURN_SECONDS), at + 1
                # A conversation of which turns are left out is varied from its beginning, so that it stays the same.
                if at + len(source) > skip:
                    varied = replace(
                        turn, content=variation.vary(turn.content), said_at=now.strftime("%Y-%m-%dT%H:%M:%SZ")
                    )
                    if at > skip:
                        yield varied
