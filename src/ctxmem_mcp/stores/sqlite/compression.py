"""Text <-> bytes on disk: compressed where that pays.

Single turns are short, so they compress badly alone. Once a conversation has some text, its beginning becomes a
dictionary for all that follows: paths, names and phrases come again and again. Once it has plenty, a second one is
trained on everything so far. What was written with a dictionary is read with it for ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ctxmem_mcp.errors import BrokenHistory

if TYPE_CHECKING:
    import zstandard

# A codec above these two is a dictionary's number and one more.
RAW, ZSTD = 0, 1
DICTIONARY_BYTES = 64 * 1024
# The text there is when the first dictionary is made, and the second.
MADE_AT_BYTES = (DICTIONARY_BYTES, 1 << 20)
# Writing with the trained dictionary may take longer: 0.03 ms a turn.
LEVELS = (3, 3, 9)
# Shorter texts gain nothing without a dictionary.
SHORTEST = 64
SAMPLE_BYTES = 1_000


class Bodies:
    """Encodes and decodes one conversation's texts. Belongs to its connection's thread: contexts are not shared."""

    def __init__(self) -> None:
        self._newest = 0
        # By the dictionary's number; 0 is none.
        self._dictionaries: dict[int, bytes] = {}
        self._compressors: dict[int, zstandard.ZstdCompressor] = {}
        self._decompressors: dict[int, zstandard.ZstdDecompressor] = {}

    def encode(self, text: str) -> tuple[int, bytes]:
        raw = text.encode()
        if not self._newest and len(raw) < SHORTEST:
            return RAW, raw
        packed = self._compressor(self._newest).compress(raw)
        return (ZSTD + self._newest, packed) if len(packed) < len(raw) else (RAW, raw)

    def decode(self, db: sqlite3.Connection, codec: int, body: bytes) -> str:
        try:
            return self._unpacked(db, codec, body).decode()
        except UnicodeDecodeError as error:
            raise _damaged(error) from error

    def _unpacked(self, db: sqlite3.Connection, codec: int, body: bytes) -> bytes:
        if codec == RAW:
            return body
        import zstandard

        number = codec - ZSTD
        try:
            if number and number not in self._dictionaries:
                self._load(db)
            return self._decompressor(number).decompress(body)
        except (zstandard.ZstdError, KeyError, TypeError) as error:  # its bytes, its dictionary, their kind
            raise _damaged(error) from error

    def use_dictionary(self, db: sqlite3.Connection, text_bytes: int = 0) -> None:
        """Writes with the file's newest dictionary; makes one, inside the running transaction, once there is text
        enough for it."""
        if self._newest == len(MADE_AT_BYTES):
            return
        self._load(db)
        wanted = sum(text_bytes >= enough for enough in MADE_AT_BYTES)
        if wanted > self._newest:
            made = _beginning(self._texts(db)) if wanted == 1 else _trained(self._texts(db))
            db.execute("INSERT INTO dictionaries VALUES (?, ?)", (wanted, self._compressor(0).compress(made)))
            self._dictionaries[wanted] = made
            self._newest = wanted
            self._compressors.clear()  # nothing is written with an older one again

    def forget_dictionary(self) -> None:
        """After a rollback: what was made in it is not in the file."""
        self._newest = 0
        for known in (self._dictionaries, self._compressors, self._decompressors):
            known.clear()

    def _load(self, db: sqlite3.Connection) -> None:
        for number, packed in db.execute("SELECT number, body FROM dictionaries WHERE number > ?", (self._newest,)):
            self._dictionaries[number] = self._decompressor(0).decompress(packed)
            self._newest = max(self._newest, number)

    def _texts(self, db: sqlite3.Connection) -> Iterator[bytes]:
        for table in ("turns ORDER BY seq", "summaries ORDER BY place"):
            size = 0
            for codec, body in db.execute(f"SELECT codec, body FROM {table}"):
                text = self.decode(db, codec, body).encode()[: DICTIONARY_BYTES // 4]
                size += len(text)
                yield text
                if size > MADE_AT_BYTES[-1]:
                    break

    def _compressor(self, number: int) -> zstandard.ZstdCompressor:
        found = self._compressors.get(number)
        if found is None:
            import zstandard

            level = LEVELS[number]
            if number:
                trained = zstandard.ZstdCompressionDict(self._dictionaries[number])
                trained.precompute_compress(level=level)
                found = zstandard.ZstdCompressor(dict_data=trained, write_checksum=False, write_dict_id=False)
            else:
                found = zstandard.ZstdCompressor(level=level, write_checksum=False)
            self._compressors[number] = found
        return found

    def _decompressor(self, number: int) -> zstandard.ZstdDecompressor:
        found = self._decompressors.get(number)
        if found is None:
            import zstandard

            trained = zstandard.ZstdCompressionDict(self._dictionaries[number]) if number else None
            found = self._decompressors[number] = zstandard.ZstdDecompressor(dict_data=trained)
        return found


def _damaged(error: Exception) -> BrokenHistory:
    return BrokenHistory(
        f"A text in the file is damaged ({error}).", "Restore it from a backup; ctxmem-mcp verify says which it is."
    )


def _beginning(texts: Iterator[bytes]) -> bytes:
    found = b""
    for text in texts:
        found += text
        if len(found) >= DICTIONARY_BYTES:
            break
    # A cut inside a letter does no harm: no text begins as a trained dictionary does.
    return found[:DICTIONARY_BYTES]


def _trained(texts: Iterator[bytes]) -> bytes:
    import zstandard

    samples: list[bytes | bytearray | memoryview[int]] = [
        text[i : i + SAMPLE_BYTES] for text in texts for i in range(0, len(text), SAMPLE_BYTES)
    ]
    try:
        return zstandard.train_dictionary(DICTIONARY_BYTES, samples).as_bytes()
    except zstandard.ZstdError:  # too much alike to learn from
        return _beginning(map(bytes, samples))
