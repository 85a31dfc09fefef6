"""Vectors of German and Chinese words, in the space of the English word vectors. Pure, except for reading its files.

    word_table("de") -> WordTable | None       None for a language without a table
    table.split("Der Lehrbub lügt.")           the rows of the words that it knows, and the other words
    table.total(rows)                          the sum of their vectors

A file of `word_vectors` has the words, and for each a vector of small integers and its scale. Sums of their products
are integers times a power of two: exact, and equal on all machines. bench/train/word_tables.py makes the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ctxmem_mcp.lru import WordCache
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.stemmer import stem
from ctxmem_mcp.text.stop_words import stop_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "word_vectors"
LANGUAGES = frozenset(("de", "zh"))
# Vectors are multiples of this.
UNIT = 2.0**-24
# A compound has this many letters, its last part that many, and its first that many without a letter that links them.
_COMPOUND_CHARS, _HEAD_CHARS, _MODIFIER_CHARS, _LINK_CHARS = 8, 4, 3, 2
# The longest word of a table for a script without spaces.
_UNSPACED_CHARS = 4
_WORDS_CACHED, _WORD_CHARS_MAX = 12_000, 40

_WORD = lazy_regex(r"[^\W_]+")
_HAN_OR_WORD = lazy_regex("([\u3400-\u9fff\uf900-\ufaff]+)|[^\\W_\u3400-\u9fff\uf900-\ufaff]+")

Rows = tuple[int, ...]


class WordTable:
    """The words of a language and their vectors."""

    def __init__(
        self, language: str, rows: dict[str, int], codes: NDArray[np.int8], scales: NDArray[np.uint32]
    ) -> None:
        """rows: by word, or by stem in a language that has stems. codes: a row each, whose unit is in scales."""
        self._language, self._rows, self._codes, self._scales = language, rows, codes, scales
        self._rows_of_word = WordCache[Rows | None](self._find, _WORDS_CACHED, _WORD_CHARS_MAX)

    def split(self, text: str) -> tuple[list[int], str]:
        """Returns the rows of the words that the table has, and the other words, separated by spaces.

        Stop words are neither.
        """
        found: list[int] = []
        others: list[str] = []
        for word, unspaced in self._words(text):
            if unspaced:
                found += self._segment(word)
            elif (rows := self._rows_of_word[word]) is None:
                others.append(word)
            else:
                found += rows
        return found, " ".join(others)

    def total(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """Returns the sum of the vectors of these rows."""
        import numpy as np

        at, counts = np.unique(np.asarray(rows, dtype=np.int64), return_counts=True)
        units = counts * self._scales[at].astype(np.int64)
        total: NDArray[np.float64] = np.einsum("i,ij->j", units, self._codes[at].astype(np.int64)) * UNIT
        return total

    def _words(self, text: str) -> Iterator[tuple[str, bool]]:
        """Yields the words, and whether each is a run of characters that has no borders of words."""
        if self._language != "zh":
            yield from ((word, False) for word in _WORD.findall(text))
            return
        yield from ((match[0], match[1] is not None) for match in _HAN_OR_WORD.finditer(text))

    def _segment(self, run: str) -> Iterator[int]:
        """Yields the rows of the words of a run, the longest first at each place."""
        at = 0
        while at < len(run):
            candidates = (run[at : at + size] for size in range(_UNSPACED_CHARS, 0, -1))
            known = (word for word in candidates if word in self._rows or word in stop_words(self._language))
            word = next(known, run[at])
            if word in self._rows:
                yield self._rows[word]
            at += len(word)

    def _find(self, word: str) -> Rows | None:
        """Returns the row of a word, or those of the parts of a compound; none for a stop word, None if unknown."""
        lower = word.lower()
        if not (found := stem(lower, self._language)):
            return ()
        if found in self._rows:
            return (self._rows[found],)
        return self._find_compound(lower) if self._language == "de" and len(lower) >= _COMPOUND_CHARS else None

    def _find_compound(self, word: str) -> Rows | None:
        """Returns the rows of the parts of a compound, of which the last is the longest possible."""
        for border in range(_HEAD_CHARS, len(word) - _HEAD_CHARS + 1):
            if (head := self._rows.get(stem(word[border:], self._language))) is None:
                continue
            for end in range(border, max(_MODIFIER_CHARS, border - _LINK_CHARS) - 1, -1):
                if (modifier := self._rows.get(stem(word[:end], self._language))) is not None:
                    return modifier, head
        return None


@cache
def word_table(language: str | None) -> WordTable | None:
    """Returns the table of a language, which is read once; None if it has none."""
    if language not in LANGUAGES:
        return None
    import numpy as np

    with np.load(FOLDER / f"{language}.npz", allow_pickle=False) as file:
        words = file["words"].tobytes().decode().split("\n")
        codes, scales = file["codes"], file["scales"]
    return WordTable(language, {word: row for row, word in enumerate(words)}, codes, scales)
