"""Compresses texts for storage if that makes them shorter.

Single turns are short and compress badly on their own. Once a conversation has some text, its beginning becomes the
dictionary for all that follows, because paths, names and phrases recur. Once it has plenty, a second dictionary is
trained on everything so far. A text is always decompressed with the dictionary that it was compressed with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ctxmem_mcp.errors import BrokenHistory

if TYPE_CHECKING:
    import zstandard

# Codecs: uncompressed; Zstandard without a dictionary; from 2 on, Zstandard with dictionary number codec - 1.
RAW, ZSTD = 0, 1
DICTIONARY_BYTES = 64 * 1024
# The first dictionary is made once there are this many bytes of text, and the second.
DICTIONARY_AT_BYTES = (DICTIONARY_BYTES, 1 << 20)
# Compression levels by dictionary number. With the trained dictionary a higher one is affordable: 0.03 ms a turn.
LEVELS = (3, 3, 9)
# Shorter texts gain nothing without a dictionary.
COMPRESSED_BYTES_MIN = 64
SAMPLE_BYTES = 1_000


class TextCompression:
    """Compresses and decompresses one conversation's texts.

    Belongs to its connection's thread, because Zstandard's contexts must not be shared between threads.
    """

    def __init__(self) -> None:
        self._newest = 0
        # By dictionary number; 0 means no dictionary.
        self._dictionaries: dict[int, bytes] = {}
        self._compressors: dict[int, zstandard.ZstdCompressor] = {}
        self._decompressors: dict[int, zstandard.ZstdDecompressor] = {}

    def compress(self, text: str) -> tuple[int, bytes]:
        """Returns (codec, body)."""
        raw = text.encode()
        if not self._newest and len(raw) < COMPRESSED_BYTES_MIN:
            return RAW, raw
        packed = self._compressor(self._newest).compress(raw)
        return (ZSTD + self._newest, packed) if len(packed) < len(raw) else (RAW, raw)

    def decompress(self, db: sqlite3.Connection, codec: int, body: bytes) -> str:
        """Returns the text. Raises BrokenHistory if the body or its dictionary is damaged."""
        try:
            return self._decompress_bytes(db, codec, body).decode()
        except UnicodeDecodeError as error:
            raise _damaged_text(error) from error

    def _decompress_bytes(self, db: sqlite3.Connection, codec: int, body: bytes) -> bytes:
        if codec == RAW:
            return body
        import zstandard

        number = codec - ZSTD
        try:
            if number and number not in self._dictionaries:
                self._load_dictionaries(db)
            return self._decompressor(number).decompress(body)
        except (zstandard.ZstdError, KeyError, TypeError) as error:  # its bytes, its dictionary, their types
            raise _damaged_text(error) from error

    def use_dictionary(self, db: sqlite3.Connection, text_bytes: int = 0) -> None:
        """Compresses with the file's newest dictionary from here on.

        Makes the next one, inside the running transaction, if the file has enough text for it.

        Args:
            text_bytes: The bytes of text in the file.
        """
        if self._newest == len(DICTIONARY_AT_BYTES):
            return
        self._load_dictionaries(db)
        due = sum(text_bytes >= enough for enough in DICTIONARY_AT_BYTES)
        if due > self._newest:
            dictionary = _first_bytes(self._texts(db)) if due == 1 else _train(self._texts(db))
            db.execute("INSERT INTO dictionaries VALUES (?, ?)", (due, self._compressor(0).compress(dictionary)))
            self._dictionaries[due] = dictionary
            self._newest = due
            self._compressors.clear()  # nothing is compressed with an older one again

    def forget_dictionaries(self) -> None:
        """To be called after a rollback: a dictionary made in that transaction is not in the file."""
        self._newest = 0
        for by_number in (self._dictionaries, self._compressors, self._decompressors):
            by_number.clear()

    def _load_dictionaries(self, db: sqlite3.Connection) -> None:
        for number, packed in db.execute("SELECT number, body FROM dictionaries WHERE number > ?", (self._newest,)):
            self._dictionaries[number] = self._decompressor(0).decompress(packed)
            self._newest = max(self._newest, number)

    def _texts(self, db: sqlite3.Connection) -> Iterator[bytes]:
        for table in ("turns ORDER BY seq", "summaries ORDER BY place"):
            size = 0
            for codec, body in db.execute(f"SELECT codec, body FROM {table}"):
                text = self.decompress(db, codec, body).encode()[: DICTIONARY_BYTES // 4]
                size += len(text)
                yield text
                if size > DICTIONARY_AT_BYTES[-1]:
                    break

    def _compressor(self, number: int) -> zstandard.ZstdCompressor:
        compressor = self._compressors.get(number)
        if compressor is None:
            import zstandard

            level = LEVELS[number]
            if number:
                dictionary = zstandard.ZstdCompressionDict(self._dictionaries[number])
                dictionary.precompute_compress(level=level)
                compressor = zstandard.ZstdCompressor(dict_data=dictionary, write_checksum=False, write_dict_id=False)
            else:
                compressor = zstandard.ZstdCompressor(level=level, write_checksum=False)
            self._compressors[number] = compressor
        return compressor

    def _decompressor(self, number: int) -> zstandard.ZstdDecompressor:
        decompressor = self._decompressors.get(number)
        if decompressor is None:
            import zstandard

            dictionary = zstandard.ZstdCompressionDict(self._dictionaries[number]) if number else None
            decompressor = self._decompressors[number] = zstandard.ZstdDecompressor(dict_data=dictionary)
        return decompressor


def _damaged_text(error: Exception) -> BrokenHistory:
    return BrokenHistory(
        f"A text in the file is damaged ({error}).",
        "Run ctxmem-mcp verify to see which, or restore the file from a backup.",
    )


def _first_bytes(texts: Iterator[bytes]) -> bytes:
    found = b""
    for text in texts:
        found += text
        if len(found) >= DICTIONARY_BYTES:
            break
    # A cut inside a character does no harm: Zstandard takes this as raw content, because no text begins with the magic
    # number of a trained dictionary.
    return found[:DICTIONARY_BYTES]


def _train(texts: Iterator[bytes]) -> bytes:
    import zstandard

    samples: list[bytes | bytearray | memoryview[int]] = [
        text[i : i + SAMPLE_BYTES] for text in texts for i in range(0, len(text), SAMPLE_BYTES)
    ]
    try:
        return zstandard.train_dictionary(DICTIONARY_BYTES, samples).as_bytes()
    except zstandard.ZstdError:  # the samples are too much alike
        return _first_bytes(map(bytes, samples))
