"""Counts tokens exactly and offline, in encodings of tiktoken.

The encodings are part of the splintr wheel, so nothing is downloaded; tiktoken's own loader downloads them at first
use. They are loaded at the first count, not at import, so they do not slow down the start. Long texts are counted in
slices that end only where both encodings always begin a new token, so slicing does not change the count.
"""

from __future__ import annotations

import functools
import re
from typing import Any

DEFAULT_ENCODING = "o200k_base"
ENCODINGS = ("o200k_base", "cl100k_base")

# Bounds the tokenizer's transient memory and its time on one huge run of characters.
SLICE_CHARS = 8_000
# In the patterns of both encodings a new token begins at a line that begins with a word character or most punctuation.
# '/' may be joined to the line end before it, white space to the line ends around it.
_SLICE_POINT = re.compile(r"\n(?=[^\s/])")
_BRACKETED = re.compile(r"\n(?= *\[)")
# Every special token begins with this.
_SPECIAL = "<|"


@functools.cache
def _encoder(encoding: str) -> Any:
    import splintr

    return splintr.Tokenizer.from_pretrained(encoding)


def count(text: str, encoding: str = DEFAULT_ENCODING) -> int:
    """Returns the number of tokens of a text.

    Special tokens such as <|endoftext|> count as plain text. A run of text without a safe place to slice is counted
    whole, however long: the tokenizer takes 0.2 ms per 1,000 characters of any kind, and slicing elsewhere may add
    tokens.

    Args:
        text: The text.
        encoding: One of `ENCODINGS`.
    """
    encoder = _encoder(encoding)
    if len(text) <= SLICE_CHARS:
        return _count_short(encoder, text)
    return sum(_count_short(encoder, part) for part in _slices(text))


def _count_short(encoder: Any, text: str) -> int:
    # The faster method counts '<|endoftext|>' and the like as one token. It returns four bytes per token.
    return len(encoder.encode_ordinary(text)) if _SPECIAL in text else len(encoder.encode_flat(text)) // 4


class CachedCounter:
    """Counts texts that share most of their lines, such as the attempts at one view, and caches the counts of parts.

    In the patterns of both encodings a new token begins at a line that begins with '[', indented or not. So texts are
    split at these lines, and the counts of the parts add up to the count of the whole.
    """

    def __init__(self, encoding: str = DEFAULT_ENCODING) -> None:
        self._encoding = encoding
        self._counts: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        counts, total = self._counts, 0
        parts = _BRACKETED.split(text)
        for part in [*(part + "\n" for part in parts[:-1]), parts[-1]]:
            tokens = counts.get(part)
            if tokens is None:
                tokens = counts[part] = count(part, self._encoding)
            total += tokens
        return total


def _slices(text: str) -> list[str]:
    parts, start = [], 0
    while len(text) - start > SLICE_CHARS:
        end = _slice_end(text, start + SLICE_CHARS)
        parts.append(text[start:end])
        start = end
    parts.append(text[start:])
    return parts


def _slice_end(text: str, at: int) -> int:
    point = _SLICE_POINT.search(text, at)
    return point.end() if point else len(text)
