"""Compresses texts for storage if that makes them shorter.

Single turns are short and compress badly on their own. Once a conversation has some text, its beginning becomes the
dictionary for all that follows, because paths, names and phrases recur. Once it has plenty, a second dictionary is
trained on everything so far. A text is always decompressed with the dictionary that it was compressed with.
"""

from __future__ import annotations

import sqlite3
from binascii import crc32
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ctxmem_mcp.errors import BrokenHistory
from ctxmem_mcp.stores.encoding import COMPRESSED_BYTES_MIN, RAW, ZSTD
from ctxmem_mcp.stores.sqlite.checksums import blob_checksum, is_sound_blob, mismatch

if TYPE_CHECKING:
    import zstandard

DICTIONARY_BYTES = 64 * 1024
# The first dictionary is made once there are this many bytes of text, and the second.
DICTIONARY_AT_BYTES = (DICTIONARY_BYTES, 1 << 20)
# Compression levels by dictionary number. With the trained dictionary a higher one is affordable: 0.03 ms a turn.
LEVELS = (3, 3, 9)
SAMPLE_BYTES = 1_000
# Each dictionary is in both, because many texts are lost with it.
DICTIONARY_TABLES = ("dictionaries", "dictionary_copies")


class TextCompression:
    """Compresses and decompresses one conversation's texts.

    Belongs to its connection's thread, because Zstandard's contexts must not be shared between threads.
    """

    def __init__(self) -> None:
        self._newest = 0
        # By dictionary number; 0 means no dictionary.
        self._dictionaries: dict[int, bytes] = {}
        self._checksums: dict[int, int] = {0: 0}
        self._compressors: dict[int, zstandard.ZstdCompressor] = {}
        self._decompressors: dict[int, zstandard.ZstdDecompressor] = {}

    def compress(self, text: str) -> tuple[int, int, bytes]:
        """Returns (codec, body_checksum, body). The checksum covers the dictionary too."""
        raw = text.encode()
        if not self._newest and len(raw) < COMPRESSED_BYTES_MIN:
            return RAW, crc32(raw), raw
        packed = self._compressor(self._newest).compress(raw)
        if len(packed) < len(raw):
            return ZSTD + self._newest, crc32(packed, self._checksums[self._newest]), packed
        return RAW, crc32(raw), raw

    def decompress(self, db: sqlite3.Connection, codec: int, checksum: int, body: bytes, name: str) -> str:
        """Checks a body and returns its text.

        Args:
            name: What it is the text of, for the error's message.

        Raises:
            BrokenHistory: The body or its dictionary is damaged.
        """
        try:
            return self._decompress_bytes(db, codec, checksum, body, name).decode()
        except UnicodeDecodeError as error:
            raise _damaged_text(name, error) from error

    def _decompress_bytes(self, db: sqlite3.Connection, codec: int, checksum: int, body: bytes, name: str) -> bytes:
        number = max(0, codec - ZSTD)
        if number not in self._checksums:
            self._load_dictionaries(db)
            if number not in self._checksums:
                raise BrokenHistory(f"Dictionary number {number}, which the text of {name} needs, is lost.")
        if not isinstance(body, bytes) or crc32(body, self._checksums[number]) != checksum:
            raise mismatch(f"the text of {name}")
        if codec == RAW:
            return body
        import zstandard

        try:
            return self._decompressor(number).decompress(body)
        except (zstandard.ZstdError, MemoryError) as error:
            raise _damaged_text(name, error) from error

    def use_dictionary(self, db: sqlite3.Connection, text_bytes: int | None = None) -> None:
        """Compresses with the file's newest dictionary from here on.

        Makes the next one, inside the running transaction, if the file has enough text for it.

        Args:
            text_bytes: The bytes of text in the file; None: make none.
        """
        if text_bytes is None:
            self._load_dictionaries(db)
            return
        due = sum(text_bytes >= enough for enough in DICTIONARY_AT_BYTES)
        if due > self._newest:  # another process may have made it
            self._load_dictionaries(db)
        if due > self._newest:
            dictionary = _first_bytes(self._texts(db)) if due == 1 else _train(self._texts(db))
            packed = self._compressor(0).compress(dictionary)
            checksum = blob_checksum(due, packed)
            for table in DICTIONARY_TABLES:
                db.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (due, checksum, packed))
            self._dictionaries[due], self._checksums[due] = dictionary, checksum
            self._newest = due
            self._compressors.clear()  # nothing is compressed with an older one again

    @property
    def contexts(self) -> int:
        """How many contexts of Zstandard it holds."""
        return len(self._compressors) + len(self._decompressors)

    def release_contexts(self) -> None:
        """Frees the contexts of Zstandard; the next text makes new ones.

        May be called on any thread: a text that is being compressed or decompressed keeps its context until it is done.
        """
        self._compressors.clear()
        self._decompressors.clear()

    def forget_dictionaries(self) -> None:
        """To be called after a rollback: a dictionary made in that transaction is not in the file."""
        self._newest = 0
        for by_number in (self._dictionaries, self._compressors, self._decompressors):
            by_number.clear()
        self._checksums = {0: 0}

    def _load_dictionaries(self, db: sqlite3.Connection) -> None:
        """Loads those that are newer than the newest one loaded, each from whichever of its two rows is sound."""
        for number, checksum, packed in read_dictionaries(db, self._newest):
            if number not in self._checksums:
                self._dictionaries[number] = self._decompressor(0).decompress(packed)
                self._checksums[number] = checksum
        self._newest = max(self._checksums)

    def _texts(self, db: sqlite3.Connection) -> Iterator[bytes]:
        for table in ("turns ORDER BY seq", "summaries ORDER BY place"):
            size = 0
            for codec, checksum, body in db.execute(f"SELECT codec, body_checksum, body FROM {table}"):
                try:
                    text = self.decompress(db, codec, checksum, body, "a row")
                except BrokenHistory:  # a dictionary is made of the others
                    continue
                raw = text.encode()[: DICTIONARY_BYTES // 4]
                size += len(raw)
                yield raw
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


def read_dictionaries(db: sqlite3.Connection, above: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Yields (number, checksum, compressed dictionary) of the sound rows in both tables with numbers over `above`."""
    for table in DICTIONARY_TABLES:
        try:
            for row in db.execute(f"SELECT number, checksum, body FROM {table} WHERE number > ?", (above,)):
                if is_sound_blob(*row):
                    yield row
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:  # a damaged page: the other table has other pages
            continue


def _damaged_text(name: str, error: Exception) -> BrokenHistory:
    return BrokenHistory(f"The text of {name} can't be decompressed ({type(error).__name__}: {error}).")


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
