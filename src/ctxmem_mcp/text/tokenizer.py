"""Counts tokens exactly and offline, in encodings of tiktoken.

The encodings are part of the splintr wheel, so nothing is downloaded; tiktoken's own loader downloads them at first
use. They are loaded at the first count, not at import, so they do not slow down the start. Long texts are counted in
slices that end only where both encodings always begin a new token, so slicing does not change the count.

Without splintr, tiktoken counts, if its cache has the encoding's ranks. Without these the count is the number of bytes:
a token has at least one, so budgets hold, but texts seem about four times as long as they are. A hook, which has no
time to load any of these, estimates.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ctxmem_mcp.lru import LRU
from ctxmem_mcp.patterns import lazy_regex

DEFAULT_ENCODING = "o200k_base"
ENCODINGS = ("o200k_base", "cl100k_base")

# Bounds the tokenizer's transient memory and its time on one huge run of characters.
SLICE_CHARS = 8_000
# In the patterns of both encodings a new token begins at a line that begins with a word character or most punctuation.
# '/' may be joined to the line end before it, white space to the line ends around it.
_SLICE_POINT = lazy_regex(r"\n(?=[^\s/])")
_BRACKETED = lazy_regex(r"\n(?= *\[)")
# Every special token begins with this.
_SPECIAL = "<|"


# The files that tiktoken caches, with the hashes by which it verifies them.
_RANKS_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_RANKS_SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
SPLINTR, TIKTOKEN, BYTES, ESTIMATE = "splintr", "tiktoken", "bytes", "estimate"
# Two tokens in both encodings.
_KNOWN_TEXT = "hello world"

# What an estimate of a text is made of: words and what they have beyond seven letters, numbers, other scripts, signs
# and how often they are repeated, line ends, indents. On pages of code, transcripts and prose the sum is 0.85 to 1.3 of
# the tokens, in the median 1.08.
_ESTIMATED = lazy_regex(r"([A-Za-z]+)|([0-9]+)|([^\x00-\x7f]+)|(([^\sA-Za-z0-9])\5*)|(\n+)|( {2,})")
_WORD, _NUMBER, _OTHER_SCRIPT, _SIGN = 1, 2, 3, 4
_TOKENS_OF = (0.0, 1.0, 0.0, 0.0, 0.72, 0.0, 0.8, 0.5)
_ESTIMATE_MARGIN = 1.15

# Counting a shorter text takes little longer than computing its hash. About 250 bytes each.
REMEMBERED_CHARS_MIN, REMEMBERED_MAX = 80, 10_000
# The numbers of tokens of texts, by encoding and hash: no text is kept.
_remembered: LRU[tuple[str, bytes], int] = LRU(REMEMBERED_MAX)

_estimates = False
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Method:
    """How tokens are counted.

    Attributes:
        name: `SPLINTR` and `TIKTOKEN` count exactly, `BYTES` is an upper bound, `ESTIMATE` most often one.
        count: returns the number of tokens of a text.
        reason: why it is not splintr; "" if it is, and for an estimate, which was chosen.
    """

    name: str
    count: Callable[[str], int]
    reason: str = ""


def method_of(encoding: str = DEFAULT_ENCODING) -> Method:
    """Returns the best method that works here. The first call loads it, and logs if it is not splintr."""
    return _load_method(encoding)


def estimate_from_now_on() -> None:
    """Estimates tokens in this process, unless an exact method is loaded already. Nothing may be stored any more.

    Loading an exact method takes 0.2 s, which a process that shows one short text can spare.
    """
    global _estimates
    _estimates = True


@functools.cache
def _load_method(encoding: str) -> Method:
    if _estimates:
        return Method(ESTIMATE, estimate)
    try:
        return Method(SPLINTR, _or_bytes(_checked(_splintr_counter(encoding))))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of its native code is no Exception
        reason = f"splintr-rs can't be used ({type(error).__name__}: {error})"
    try:
        if _has_ranks(encoding):
            found = Method(TIKTOKEN, _or_bytes(_checked(_tiktoken_counter(encoding))), reason)
            _log.warning("Tokens in %s are counted by tiktoken: %s.", encoding, reason)
            return found
    except Exception as error:
        reason += f", nor can tiktoken ({type(error).__name__}: {error})"
    _log.warning("Tokens in %s are counted as bytes, about four times too many: %s.", encoding, reason)
    return Method(BYTES, bytes_of, reason)


def _checked(count: Callable[[str], int]) -> Callable[[str], int]:
    if (counted := count(_KNOWN_TEXT)) != 2:
        raise ValueError(f"it counts {counted} tokens in {_KNOWN_TEXT!r}, which has 2")
    return count


def _splintr_counter(encoding: str) -> Callable[[str], int]:
    import splintr

    encoder = splintr.Tokenizer.from_pretrained(encoding)

    def count(text: str) -> int:
        # The faster method counts '<|endoftext|>' and the like as one token. It returns four bytes per token.
        return len(encoder.encode_ordinary(text)) if _SPECIAL in text else len(encoder.encode_flat(text)) // 4

    return count


def _or_bytes(exact: Callable[[str], int]) -> Callable[[str], int]:
    """Counts the bytes of a text for which the exact method fails."""

    def count(text: str) -> int:
        try:
            return exact(text)
        except UnicodeError:
            raise
        except Exception as error:
            _log.warning("A text is counted as bytes, because its tokens can't be counted: %s.", type(error).__name__)
            return bytes_of(text)

    return count


def _tiktoken_counter(encoding: str) -> Callable[[str], int]:
    import tiktoken

    encoder = tiktoken.get_encoding(encoding)
    return lambda text: len(encoder.encode_ordinary(text))


def _has_ranks(encoding: str) -> bool:
    """Whether tiktoken's cache has the encoding's file. Otherwise tiktoken would download it."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = os.path.join(tempfile.gettempdir(), "data-gym-cache")
    if not folder:
        return False
    name = hashlib.sha1(_RANKS_URL.format(encoding).encode(), usedforsecurity=False).hexdigest()
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == _RANKS_SHA256[encoding]
    except OSError:
        return False


def bytes_of(text: str) -> int:
    """Returns the number of bytes, which no encoding has more tokens than."""
    return len(text.encode("utf-8", "surrogatepass"))


def estimate(text: str) -> int:
    """Returns about how many tokens a text has in any encoding, rather too many than too few."""
    total = 0.0
    for match in _ESTIMATED.finditer(text):
        kind, size = match.lastindex or 0, match.end() - match.start()
        total += _TOKENS_OF[kind]
        if kind == _WORD:
            total += max(0, size - 7) / 5
        elif kind == _NUMBER:
            total += -(-size // 3)
        elif kind == _OTHER_SCRIPT:
            total += 1.2 * size
        elif kind == _SIGN:
            total += (size - 1) / 8
    return math.ceil(total * _ESTIMATE_MARGIN)


def count(text: str, encoding: str = DEFAULT_ENCODING) -> int:
    """Returns the number of tokens of a text.

    Special tokens such as <|endoftext|> count as plain text. A run of text without a safe place to slice is counted
    whole, however long: the tokenizer takes 0.2 ms per 1,000 characters of any kind, and slicing elsewhere may add
    tokens.

    Args:
        text: The text.
        encoding: One of `ENCODINGS`.
    """
    count_short = _load_method(encoding).count
    if len(text) <= SLICE_CHARS:
        return count_short(text)
    return sum(tokens for _, tokens in counts_of_slices(text, encoding))


def counts_of_slices(text: str, encoding: str = DEFAULT_ENCODING) -> Iterator[tuple[int, int]]:
    """Yields the characters and tokens of each slice that a text is counted in."""
    count_short = _load_method(encoding).count
    for part in _slices(text):
        yield len(part), count_short(part)


def is_count_of(tokens: int, text: str, encoding: str = DEFAULT_ENCODING) -> bool:
    """Whether a stored count is one that this text may have got, by whichever method."""
    if method_of(encoding).name == BYTES:
        return tokens <= bytes_of(text)
    return tokens in (count(text, encoding), bytes_of(text))


class CachedCounter:
    """Counts texts that share most of their lines, such as the attempts at one view, and caches the counts of parts.

    In the patterns of both encodings a new token begins at a line that begins with '[', indented or not. So texts are
    split at these lines, and the counts of the parts add up to the count of the whole. Longer parts without their first
    line, which are what a view quotes, are remembered beyond it: the next view quotes many of them again.
    """

    def __init__(self, encoding: str = DEFAULT_ENCODING) -> None:
        self._encoding = encoding
        self._adds_up = _load_method(encoding).name != ESTIMATE
        self._counts: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        tokens = self._counts.get(text)
        if tokens is None:
            first, *others = _BRACKETED.split(text)
            if not others:
                tokens = self._count_part(text)
            else:
                parts = [first, *others]
                tokens = sum(self._cached_part(part + "\n") for part in parts[:-1]) + self._cached_part(parts[-1])
            self._counts[text] = tokens
        return tokens

    def _cached_part(self, part: str) -> int:
        tokens = self._counts.get(part)
        if tokens is None:
            tokens = self._counts[part] = self._count_part(part)
        return tokens

    def _count_part(self, part: str) -> int:
        at = part.find("\n") + 1
        if len(part) - at < REMEMBERED_CHARS_MIN or not self._adds_up or not _SLICE_POINT.match(part, at - 1):
            return count(part, self._encoding)
        return count(part[:at], self._encoding) + _remembered_count(part[at:], self._encoding)


def _remembered_count(text: str, encoding: str) -> int:
    """Returns the number of tokens of a text; counts it only if it is none of those counted last."""
    key = encoding, hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    tokens = _remembered.get(key)
    if tokens is None:
        tokens = _remembered[key] = count(text, encoding)
    return tokens


def _slices(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > SLICE_CHARS:
        end = _slice_end(text, start + SLICE_CHARS)
        yield text[start:end]
        start = end
    yield text[start:]


def _slice_end(text: str, at: int) -> int:
    point = _SLICE_POINT.search(text, at)
    return point.end() if point else len(text)
