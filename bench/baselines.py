"""Plain ways of filling a budget with turns: the newest that fit, SQLite's FTS5 with bm25(), BM25.

All three have the same pieces (turns, long ones cut at line ends into about 400 tokens), take them in their order
while they fit, and show what they took in the conversation's order under a line that says who spoke. What they took of
one turn side by side is shown as one, so that a long turn can stand verbatim in their text too.
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

WAYS = ("fts5", "bm25", "newest")
PIECE_TOKENS = 400
LINE_CHARS = 1_200
# With less than this left, nothing worth showing fits.
LEAST_TOKENS = 12
K1, B = 1.2, 0.75
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of one turn: the turn's place and id, who spoke, the words, what it costs with the line above it."""

    turn: int
    name: str
    who: str
    words: str
    tokens: int

    @property
    def above(self) -> str:
        return f"[{self.name}] {self.who}: "


class Baselines:
    """One conversation, cut and indexed. Each way gives the parts' places, best first."""

    def __init__(self, turns: Mapping[str, NewTurn]) -> None:
        self.parts = [part for i, (name, turn) in enumerate(turns.items()) for part in _parts(i, name, turn)]
        # Who spoke is searched too: questions name people.
        searched = [f"{part.who}: {part.words}" for part in self.parts]
        self._bm25, self._fts5 = _Bm25(searched), _Fts5(searched)

    def close(self) -> None:
        self._fts5.close()

    def order(self, way: str, query: str) -> Iterable[int]:
        if way == "newest":
            return range(len(self.parts) - 1, -1, -1)
        return self._fts5.order(query) if way == "fts5" else self._bm25.order(query)

    def filled(self, order: Iterable[int], budget: int) -> list[int]:
        """Of the parts, those that fit when taken in this order; in the conversation's order."""
        taken: list[int] = []
        for i in order:
            if self.parts[i].tokens <= budget:
                taken.append(i)
                budget -= self.parts[i].tokens
            if budget < LEAST_TOKENS:
                break
        return sorted(taken)

    def text(self, taken: Iterable[int]) -> str:
        lines: list[str] = []
        before = None
        for i in taken:
            part = self.parts[i]
            goes_on = before == i - 1 and self.parts[i - 1].turn == part.turn
            lines.append(part.words if goes_on else f"{'' if before is None else chr(10)}{part.above}{part.words}")
            before = i
        return "".join(lines)


def _parts(place: int, name: str, turn: NewTurn) -> list[Part]:
    who = turn.name or turn.role
    return [Part(place, name, who, words, tokenizer.count(f"[{name}] {who}: {words}\n")) for words in cut(turn.content)]


def cut(content: str) -> list[str]:
    """The content in stretches of at most about 400 tokens, whole lines where they are not very long."""
    if tokenizer.count(content) <= PIECE_TOKENS:
        return [content]
    stretches, current, held = [], "", 0
    for line in content.splitlines(keepends=True):
        for part in (line[i : i + LINE_CHARS] for i in range(0, len(line), LINE_CHARS)):
            cost = tokenizer.count(part)
            if current and held + cost > PIECE_TOKENS:
                stretches.append(current)
                current, held = "", 0
            current, held = current + part, held + cost
    return [*stretches, current]


class _Bm25:
    """As in textbooks: lower case, no stemming, every word."""

    def __init__(self, texts: list[str]) -> None:
        counts = [Counter(_WORD.findall(text.lower())) for text in texts]
        self._length = [max(1, count.total()) for count in counts]
        self._mean = sum(self._length) / max(1, len(texts))
        self._places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for i, count in enumerate(counts):
            for word, times in count.items():
                self._places[word].append((i, times))

    def order(self, query: str) -> list[int]:
        scores: dict[int, float] = defaultdict(float)
        for word in sorted(set(_WORD.findall(query.lower()))):
            places = self._places.get(word, ())
            idf = math.log(1 + (len(self._length) - len(places) + 0.5) / (len(places) + 0.5))
            for i, times in places:
                scores[i] += idf * times * (K1 + 1) / (times + K1 * (1 - B + B * self._length[i] / self._mean))
        return sorted(scores, key=lambda i: (-scores[i], i))


class _Fts5:
    """SQLite's index with porter stemming and its own bm25(); stop words left out, every word quoted."""

    def __init__(self, texts: list[str]) -> None:
        self._db = sqlite3.connect(":memory:")
        self._db.execute("CREATE VIRTUAL TABLE parts USING fts5(words, tokenize = 'porter unicode61')")
        self._db.executemany("INSERT INTO parts(rowid, words) VALUES (?, ?)", enumerate(texts))

    def order(self, query: str) -> list[int]:
        words = dict.fromkeys(word for word in _WORD.findall(query.lower()) if word not in STOP_WORDS)
        if not words:
            return []
        match = " OR ".join(f'"{word}"' for word in words)
        found = self._db.execute("SELECT rowid FROM parts WHERE parts MATCH ? ORDER BY bm25(parts), rowid", (match,))
        return [row[0] for row in found]

    def close(self) -> None:
        self._db.close()
