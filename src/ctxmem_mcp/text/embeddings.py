"""Embeds texts as short vectors. Runs no model and downloads nothing.

    load_embedder(setting) -> Embedder | None   None if turned off, or not installed
    missing_package() -> str | None             what is not installed; wheels exist for the most common platforms only
    embed(texts) -> [bytes, ...]                a vector each, stored with the chunk
    cosines(query, vectors) -> [float, ...]     cosine similarity of each vector to the query, -1..1

The word vectors are part of the wordllama wheel; the vector of a text is their sum. They know English. The words of
German and Chinese texts have vectors in the same space, from the tables of `word_tables`. Only the two data files of
wordllama are used: importing it would configure logging for the whole process, and its loader downloads missing files.

All results are exact, so they are equal on all machines. Word vectors are half floats, whose sums double floats
represent without rounding. The vector of a text is scaled by its largest value and rounded once to integers in
-127..127. Sums of DIMENSIONS products of these stay below 2**24, up to which single floats represent integers exactly,
in any order of summation.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.lru import WordCache
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text import language
from ctxmem_mcp.text.word_tables import word_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# All dimensions in the wordllama wheel. With half of them, paraphrases are found markedly less often.
DIMENSIONS = 256
# Prefix of each stored vector. Vectors of other word vectors or dimensions cannot be compared with these.
FORMAT_PREFIX = b"\x01"
# Prefix of those that a table of German or Chinese words was used for. They can be compared with the others.
TABLE_PREFIX = b"\x03"
# Stored in place of a vector that is not computed yet. No vector is comparable with it.
VECTOR_DUE = FORMAT_PREFIX
_PREFIXES = (FORMAT_PREFIX, TABLE_PREFIX)
_REQUIRED_PACKAGES = ("numpy", "tokenizers", "wordllama")
_WORD_VECTORS_FILE = "weights/l2_supercat_256.safetensors"
_TOKENIZER_FILE = "tokenizers/l2_supercat_tokenizer_config.json"
_VALUE_MAX = 127
# Rows summed at a time, so that a text of two megabytes takes no more memory than this many words.
_ROWS_AT_ONCE = 4_096
# The normalized text in parts that are tokenized one by one, each distinct one once. That changes no token, because in
# the tokenizer's vocabulary no token has a space mark after another character, a digit, a line end or a tab beside
# another character, or an ASCII letter beside ASCII punctuation.
_SPACE = "\u2581"
_OTHER_ASCII = "\x00-\x08\x0b-/:-@\\[-`{-\x7f"
_NO_OTHER_SCRIPT = f"(?![^\x00-\x7f{_SPACE}])"
_WORD = lazy_regex(
    rf"[0-9\n\t]|{_SPACE}*+[A-Za-z]++{_NO_OTHER_SCRIPT}|{_SPACE}*+[{_OTHER_ASCII}]++{_NO_OTHER_SCRIPT}"
    rf"|{_SPACE}*+[^{_SPACE}0-9\n\t]++|{_SPACE}++"
)
# The tokenizer looks for its special tokens in the text itself, before it is normalized.
_SPECIAL_TOKENS = ("<s>", "</s>", "<unk>")
# Remembered words; two generations of them hold a few megabytes.
_WORDS_CACHED, _WORD_CHARS_MAX = 12_000, 40


def load_embedder(setting: str = "auto") -> Embedder | None:
    """Returns the embedder, which loads its data with the first text.

    Args:
        setting: "on", "off", or "auto" (on if the word vectors are installed).

    Returns:
        The embedder, or None if it is off or, with "auto", not installed.

    Raises:
        InvalidArgument: The setting is "on" and a package is missing.
    """
    if setting == "off":
        return None
    missing = missing_package()
    if missing is None:
        return Embedder()
    if setting == "on":
        raise InvalidArgument(
            "embeddings",
            f"is on, but {missing} is not installed",
            "Run pip install wordllama tokenizers, or set CTXMEM_EMBEDDINGS to auto.",
        )
    return None


def missing_package() -> str | None:
    """Returns the name of a package or file that embedding needs and that is not installed; None if all are."""
    missing = [name for name in _REQUIRED_PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        missing = [name for name in (_WORD_VECTORS_FILE, _TOKENIZER_FILE) if not (_data_folder() / name).is_file()]
    return missing[0] if missing else None


class VectorTable(NamedTuple):
    """Vectors, a row each, the squares of their lengths, and for how many of them tables of words were used."""

    vectors: NDArray[np.float32]
    squares: NDArray[np.float64]
    from_tables: int = 0

    def extended(self, more: VectorTable) -> VectorTable:
        """Returns a table of these vectors and those of another table."""
        import numpy as np

        vectors, squares = (self.vectors, more.vectors), (self.squares, more.squares)
        return VectorTable(np.concatenate(vectors), np.concatenate(squares), self.from_tables + more.from_tables)


class _Words(NamedTuple):
    """The tokens of a text; and the sum of the vectors of its words in a table, None without one."""

    tokens: Sequence[int]
    total: NDArray[np.float64] | None = None


class Embedder:
    """Embeds texts. The first text takes some tenths of a second longer, to load the data."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _shared_embedder, ()  # its tables are loaded once in each process

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """Returns a vector of each text; all zeros for a text without a word."""
        if not texts:
            return []
        words = [self._words_of(text) for text in texts]
        prefixes = [FORMAT_PREFIX if one.total is None else TABLE_PREFIX for one in words]
        return [prefix + vector for prefix, vector in zip(prefixes, self._vectors(words), strict=True)]

    def comparable(self, one: bytes, other: bytes) -> bool:
        """Returns whether two vectors have the same format, so that their similarity is meaningful."""
        return len(one) == len(other) and one[:1] in _PREFIXES and other[:1] in _PREFIXES

    def cosines(self, query: bytes, vectors: Sequence[bytes]) -> list[float]:
        """Returns the cosine similarity of each vector to the query's: 1 for equal, 0 for unrelated or all zeros."""
        import numpy as np

        table = np.frombuffer(b"".join(vectors), dtype=np.int8).reshape(len(vectors), len(query))
        many = table[:, len(FORMAT_PREFIX) :].astype(np.float32)
        one = np.frombuffer(query, dtype=np.int8)[len(FORMAT_PREFIX) :].astype(np.float32)
        dots, squares = _dots(many, one), np.einsum("ij,ij->i", many, many).astype(np.float64)
        lengths = np.sqrt(squares * float(one @ one))
        found: list[float] = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0).tolist()
        return found

    def table(self, vectors: Sequence[bytes]) -> VectorTable | None:
        """Returns vectors as a table; None if some can't be compared with this embedder's, or are not computed yet."""
        import numpy as np

        size = len(FORMAT_PREFIX) + DIMENSIONS
        if not set(map(len, vectors)) <= {size}:
            return None
        rows = np.frombuffer(b"".join(vectors), dtype=np.int8).reshape(len(vectors), size)
        prefixes = rows[:, 0].tobytes()
        if not set(prefixes) <= set(b"".join(_PREFIXES)):
            return None
        many = rows[:, len(FORMAT_PREFIX) :].astype(np.float32)
        squares = np.einsum("ij,ij->i", many, many).astype(np.float64)
        return VectorTable(many, squares, prefixes.count(TABLE_PREFIX))

    def similarities(self, text: str, table: VectorTable) -> NDArray[np.float64]:
        """Returns the cosine similarity of each vector of a table to a text's, as `cosines` does."""
        import numpy as np

        one = np.frombuffer(self.embed([text])[0], dtype=np.int8)[len(FORMAT_PREFIX) :].astype(np.float32)
        dots = _dots(table.vectors, one)
        lengths = np.sqrt(table.squares * float(one @ one))
        return np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)

    def _words_of(self, text: str) -> _Words:
        text = text.encode("utf-8", "replace").decode("utf-8")
        if (table := word_table(language.detect(text))) is None:
            return _Words(self._token_ids(text))
        rows, others = table.split(text)
        return _Words(self._token_ids(others), table.total(rows))

    def _token_ids(self, text: str) -> list[int]:
        if not text or any(token in text for token in _SPECIAL_TOKENS):
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
            return ids
        words = _WORD.findall(_SPACE + text.replace(" ", _SPACE))
        return list(chain.from_iterable(map(self._ids_of_word.__getitem__, words)))

    def _vectors(self, texts: Sequence[_Words]) -> list[bytes]:
        """Returns the vectors of texts. Rows of tokens that they share are read once."""
        import numpy as np

        distinct, at = np.unique(
            np.concatenate([np.asarray(words.tokens, dtype=np.int64) for words in texts]), return_inverse=True
        )
        if len(distinct) > _ROWS_AT_ONCE and len(texts) > 1:
            half = len(texts) // 2
            return self._vectors(texts[:half]) + self._vectors(texts[half:])
        totals = np.zeros((len(texts), DIMENSIONS), dtype=np.float64)
        for first in range(0, len(distinct), _ROWS_AT_ONCE):
            rows = self._word_vectors[distinct[first : first + _ROWS_AT_ONCE]].astype(np.float64)
            start = 0
            for number, (ids, _) in enumerate(texts):
                places = at[start : start + len(ids)] - first
                start += len(ids)
                counts = np.bincount(places[(places >= 0) & (places < len(rows))], minlength=len(rows))
                used = np.flatnonzero(counts)
                totals[number] += counts[used].astype(np.float64) @ rows[used]
        return [
            _scaled(total if words.total is None else total + words.total)
            for words, total in zip(texts, totals, strict=True)
        ]

    @cached_property
    def _ids_of_word(self) -> WordCache[tuple[int, ...]]:
        tokenize = self._tokenizer.model.tokenize
        return WordCache(lambda word: tuple(token.id for token in tokenize(word)), _WORDS_CACHED, _WORD_CHARS_MAX)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        found = Tokenizer.from_file(str(_data_folder() / _TOKENIZER_FILE))
        found.no_truncation()
        found.no_padding()
        return found

    @cached_property
    def _word_vectors(self) -> NDArray[np.float16]:
        """The word vectors, one row per word, mapped into memory."""
        import numpy as np

        path = _data_folder() / _WORD_VECTORS_FILE
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))["embedding.weight"]
        if header["dtype"] != "F16" or header["shape"][1] != DIMENSIONS:
            raise ValueError(f"{path} holds {header}, not half floats")
        begin = 8 + size + header["data_offsets"][0]
        return np.asarray(np.memmap(path, dtype="<f2", mode="r", offset=begin, shape=tuple(header["shape"])))


def _dots(rows: NDArray[np.float32], one: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the product of each row with a vector, computed on one core.

    The linear algebra behind `@` wakes a thread per core for so many rows. On two busy cores a product of 4,000 rows
    then took 30 ms and 2.9 of processor time, this one 1.2 and 0.3.
    """
    import numpy as np

    dots: NDArray[np.float32] = np.einsum("ij,j->i", rows, one)
    return dots.astype(np.float64)


def _scaled(total: NDArray[np.float64]) -> bytes:
    """Scales a sum of word vectors by its largest value, and rounds it."""
    import numpy as np

    largest = float(np.abs(total).max())
    if not largest:
        return bytes(DIMENSIONS)
    vector: bytes = np.rint(total / largest * _VALUE_MAX).astype(np.int8).tobytes()
    return vector


class DeferredEmbedder(Embedder):
    """Returns VECTOR_DUE for each text: the vectors are computed later."""

    def __reduce__(self) -> tuple[Any, ...]:
        return DeferredEmbedder, ()

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        return [VECTOR_DUE] * len(texts)


@cache
def _shared_embedder() -> Embedder:
    return Embedder()


def _data_folder() -> Path:
    spec = importlib.util.find_spec("wordllama")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
