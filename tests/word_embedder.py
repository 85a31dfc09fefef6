"""A small embedder for tests: a text's vector counts its words, by their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import numpy as np

from ctxmem_mcp.errors import ModelUnavailable
from ctxmem_mcp.text.dense import pack, tag_of

DIMENSIONS = 64
# Words that mean the same, for what shares no word with a question.
SYNONYMS = {"vehicle": "truck", "repaired": "brakes"}


class WordEmbedder:
    """Embeds texts at once.

    Attributes:
        texts: All chunks that were embedded.
        fails: Whether it can't be used.
    """

    question_seconds = 1.0
    languages: Collection[str | None] | None = None
    batch = 8

    def __init__(self, model: str = "words") -> None:
        self.model, self.tag = model, tag_of(model)
        self.texts: list[str] = []
        self.fails = False
        self.closed = False

    def vector(self, text: str) -> bytes:
        counts = np.full(DIMENSIONS, 0.01)
        for word in text.lower().replace(".", " ").replace(",", " ").replace("?", " ").split():
            known = SYNONYMS.get(word, word)
            counts[hashlib.sha256(f"{self.model} {known}".encode()).digest()[0] % DIMENSIONS] += len(known)
        return pack(self.tag, counts)

    async def embed_question(self, text: str) -> bytes:
        self._check()
        return self.vector(text)

    async def embed_chunks(self, texts: Sequence[str]) -> list[bytes]:
        self._check()
        self.texts += texts
        return [self.vector(text) for text in texts]

    async def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        if self.fails:
            raise ModelUnavailable("The model is not there.")
