"""Text <-> bytes on disk: compressed where that pays.

Single turns are short, so they compress badly alone. Once a conversation has enough text, its beginning becomes a
dictionary for all that follows: paths, names and phrases come again and again (0.28 to 0.36 bytes a byte, where each
turn alone takes 0.38 to 0.49).
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zstandard

RAW, ZSTD, ZSTD_DICTIONARY = 0, 1, 2
DICTIONARY_BYTES = 64 * 1024
LEVEL = 3
# Shorter texts gain nothing without a dictionary.
SHORTEST = 64


class Bodies:
    """Encodes and decodes one conversation's texts. Belongs to its connection's thread: contexts are not shared."""

    def __init__(self) -> None:
        self._plain: tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor] | None = None
        self._trained: tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor] | None = None

    def encode(self, text: str) -> tuple[int, bytes]:
        raw = text.encode()
        if self._trained is None and len(raw) < SHORTEST:
            return RAW, raw
        packed = (self._trained or self._pair())[0].compress(raw)
        if len(packed) >= len(raw):
            return RAW, raw
        return (ZSTD if self._trained is None else ZSTD_DICTIONARY), packed

    def decode(self, db: sqlite3.Connection, codec: int, body: bytes) -> str:
        if codec == RAW:
            return body.decode()
        if codec == ZSTD:
            return self._pair()[1].decompress(body).decode()
        self.use_dictionary(db)
        assert self._trained is not None
        return self._trained[1].decompress(body).decode()

    def use_dictionary(self, db: sqlite3.Connection, text_bytes: int = 0) -> None:
        """Uses the file's dictionary; makes one, inside the running transaction, once there is text enough."""
        if self._trained is not None:
            return
        row = db.execute("SELECT body FROM dictionary").fetchone()
        if row is not None:
            self._train(self._pair()[1].decompress(row[0]))
        elif text_bytes >= DICTIONARY_BYTES:
            beginning = self._beginning(db)
            db.execute("INSERT INTO dictionary VALUES (1, ?)", (self._pair()[0].compress(beginning),))
            self._train(beginning)

    def forget_dictionary(self) -> None:
        """After a rollback: what was made in it is not in the file."""
        self._trained = None

    def _beginning(self, db: sqlite3.Connection) -> bytes:
        found = b""
        for codec, body in db.execute("SELECT codec, body FROM turns ORDER BY seq"):
            found += self.decode(db, codec, body).encode()[: DICTIONARY_BYTES // 4]
            if len(found) >= DICTIONARY_BYTES:
                break
        return found[:DICTIONARY_BYTES]

    def _pair(self) -> tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor]:
        if self._plain is None:
            import zstandard

            self._plain = (zstandard.ZstdCompressor(level=LEVEL, write_checksum=False), zstandard.ZstdDecompressor())
        return self._plain

    def _train(self, beginning: bytes) -> None:
        import zstandard

        trained = zstandard.ZstdCompressionDict(beginning, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        trained.precompute_compress(level=LEVEL)
        self._trained = (
            zstandard.ZstdCompressor(dict_data=trained, write_checksum=False, write_dict_id=False),
            zstandard.ZstdDecompressor(dict_data=trained),
        )
