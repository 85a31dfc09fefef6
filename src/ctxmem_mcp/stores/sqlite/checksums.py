"""The checksum that each row of a conversation's file carries and that every read checks.

A disk or a copy that changes a single bit leaves most pages well-formed, so SQLite returns the row without an error.
A CRC of 32 bits costs a microsecond or two per row and finds every single changed bit. It covers the row's key and the
fields that are read with the row from another table, so that a page which leads to the wrong row is found as well.

A body (a compressed text) has a checksum of its own, over the stored bytes and the dictionary that they were compressed
with, and the row's checksum covers that one: a turn's metadata is checked without reading its body, and damaged bytes
never reach the decompressor.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Sequence
from marshal import dumps
from typing import Any

from ctxmem_mcp.errors import BrokenHistory

TURN_COLUMNS = (
    "seq, at_index, digest, role, tokens, first_piece, pieces, name, said_at, call_id, flags, language, stored_at, "
    "codec, body_checksum"
)
# With these three fields of its turn, which are read together with the chunk.
PIECE_COLUMNS = (
    "p.id, p.seq, p.at_index, p.start, p.stop, p.tokens, p.words, p.flags, p.leaf, p.session, t.role, t.name, t.said_at"
)
NODE_COLUMNS = "node, digest, level, first, last, tokens, strength, children"
SUMMARY_COLUMNS = "place, node, author, created, codec, body_checksum"
RUN_COLUMNS = "first_seq, parent_seq, first_index, first_piece"
CONVERSATION_COLUMNS = (
    "id, version, head, next_seq, next_piece, turns, tokens, words, nodes, title, space, salt, encoding, "
    "retention_days, created, updated, expires, frontier, text_bytes, forgotten, runs"
)

# Never equal to a checksum: for a row that could not be checked when it was migrated.
NO_CHECKSUM = -1


def row_checksum(values: Sequence[Any]) -> int:
    """The checksum of a row's values, exactly as SQLite returns them: a float for a REAL, None for NULL."""
    # Marshal's version 2 tells types apart, is the same in every Python 3, and takes a sixth of ascii()'s time.
    return crc32(dumps(tuple(values), 2))


def blob_checksum(key: int | str, blob: bytes) -> int:
    """The checksum of a row that is a key and a blob."""
    return crc32(blob, crc32(str(key).encode()))


def check_row(values: Sequence[Any], checksum: object, name: str) -> None:
    """Raises BrokenHistory if the values do not match their checksum. name: what the row is, for the message."""
    if row_checksum(values) != checksum:
        raise mismatch(name)


def is_sound_blob(key: int | str, checksum: object, blob: object) -> bool:
    """Whether a blob matches its checksum."""
    return isinstance(blob, bytes) and blob_checksum(key, blob) == checksum


def mismatch(name: str) -> BrokenHistory:
    return BrokenHistory(f"{name[0].upper()}{name[1:]} does not match its checksum.")
