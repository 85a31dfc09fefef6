"""Baselines that fill a budget with turns: the newest that fit, SQLite's FTS5 with bm25(), and BM25.

All three use the same passages (turns; long ones are split at line ends into about 400 tokens), add them in their order
while they fit, and show them in the conversation's order, each under a header with the speaker. Adjacent passages of
one turn are shown as one, so that their text can contain a long turn verbatim too.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.analyzer import STOP_WORDS

METHODS = ("fts5", "bm25", "newest")
PASSAGE_TOKENS = 400
LINE_CHARS = 1_200
# With fewer tokens left, nothing worth showing fits.
TOKENS_MIN = 12
K1, B = 1.2, 0.75
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of one turn.

    Attributes:
        turn: Position of the turn.
        name: Id of the turn.
        speaker: Name or role of the speaker.
        text: The text.
        tokens: Tokens of the text with its header.
    """

    turn: int
    name: str
    speaker: str
    text: str
    tokens: int

    @property
    def header(self) -> str:
        return f"[{self.name}] {self.speaker}: "


class Baselines:
    """The passages of one conversation, indexed."""

    def __init__(self, turns: Mapping[str, NewTurn]) -> None:
        self.passages = [
            passage for i, (name, turn) in enumerate(turns.items()) for passage in _passages(i, name, turn)
        ]
        # The speaker is indexed too, because questions name people.
        searched = [f"{passage.speaker}: {passage.text}" for passage in self.passages]
        self._bm25, self._fts5 = _Bm25(searched), _Fts5(searched)

    def close(self) -> None:
        self._fts5.close()

    def rank(self, method: str, query: str) -> Iterable[int]:
        """Returns positions of passages, best first. method: one of `METHODS`."""
        if method == "newest":
            return range(len(self.passages) - 1, -1, -1)
        return self._fts5.rank(query) if method == "fts5" else self._bm25.rank(query)

    def fill(self, order: Iterable[int], budget: int) -> list[int]:
        """Selects the passages that fit, in the given order. Returns them in the conversation's order."""
        taken: list[int] = []
        for i in order:
            if self.passages[i].tokens <= budget:
                taken.append(i)
                budget -= self.passages[i].tokens
            if budget < TOKENS_MIN:
                break
        return sorted(taken)

    def text(self, taken: Iterable[int]) -> str:
        lines: list[str] = []
        before = None
        for i in taken:
            passage = self.passages[i]
            continues = before == i - 1 and self.passages[i - 1].turn == passage.turn
            lines.append(
                passage.text if continues else f"{'' if before is None else chr(10)}{passage.header}{passage.text}"
            )
            before = i
        return "".join(lines)


def _passages(place: int, name: str, turn: NewTurn) -> list[Passage]:
    speaker = turn.name or turn.role
    return [
        Passage(place, name, speaker, text, tokenizer.count(f"[{name}] {speaker}: {text}\n"))
        for text in split_content(turn.content)
    ]


def split_content(content: str) -> list[str]:
    """Splits content into passages of at most about 400 tokens, at line ends unless a line is very long."""
    if tokenizer.count(content) <= PASSAGE_TOKENS:
        return [content]
    split, current, tokens = [], "", 0
    for line in content.splitlines(keepends=True):
        for passage in (line[i : i + LINE_CHARS] for i in range(0, len(line), LINE_CHARS)):
            cost = tokenizer.count(passage)
            if current and tokens + cost > PASSAGE_TOKENS:
                split.append(current)
                current, tokens = "", 0
            current, tokens = current + passage, tokens + cost
    return [*split, current]


class _Bm25:
    """BM25 as in textbooks: lower case, no stemming, no stop words removed."""

    def __init__(self, texts: list[str]) -> None:
        counts = [Counter(_WORD.findall(text.lower())) for text in texts]
        self._length = [max(1, count.total()) for count in counts]
        self._mean = sum(self._length) / max(1, len(texts))
        self._places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for i, count in enumerate(counts):
            for word, times in count.items():
                self._places[word].append((i, times))

    def rank(self, query: str) -> list[int]:
        scores: dict[int, float] = defaultdict(float)
        for word in sorted(set(_WORD.findall(query.lower()))):
            places = self._places.get(word, ())
            idf = math.log(1 + (len(self._length) - len(places) + 0.5) / (len(places) + 0.5))
            for i, times in places:
                scores[i] += idf * times * (K1 + 1) / (times + K1 * (1 - B + B * self._length[i] / self._mean))
        return sorted(scores, key=lambda i: (-scores[i], i))


class _Fts5:
    """SQLite's full-text index with porter stemming and bm25(); stop words are removed, each word is quoted."""

    def __init__(self, texts: list[str]) -> None:
        self._db = sqlite3.connect(":memory:")
        self._db.execute("CREATE VIRTUAL TABLE parts USING fts5(words, tokenize = 'porter unicode61')")
        self._db.executemany("INSERT INTO parts(rowid, words) VALUES (?, ?)", enumerate(texts))

    def rank(self, query: str) -> list[int]:
        words = dict.fromkeys(word for word in _WORD.findall(query.lower()) if word not in STOP_WORDS)
        if not words:
            return []
        match = " OR ".join(f'"{word}"' for word in words)
        found = self._db.execute("SELECT rowid FROM parts WHERE parts MATCH ? ORDER BY bm25(parts), rowid", (match,))
        return [row[0] for row in found]

    def close(self) -> None:
        self._db.close()
