"""The checksum that each row of a conversation's file carries and that every read checks.

A disk or a copy that changes a single bit leaves most pages well-formed, so SQLite returns the row without an error.
A CRC of 32 bits costs a microsecond or two per row and finds every single changed bit. It covers the row's key and the
fields that are read with the row from another table, so that a page which leads to the wrong row is found as well.

A body (a compressed text) has a checksum of its own, over the stored bytes and the dictionary that they were compressed
with, and the row's checksum covers that one: a turn's metadata is checked without reading its body, and damaged bytes
never reach the decompressor.
"""

from __future__ import annotations

import struct
from binascii import crc32
from collections.abc import Sequence
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

_pack_piece = struct.Struct("<11q").pack

# Never equal to a checksum: for a row that could not be checked when it was migrated.
NO_CHECKSUM = -1


def row_checksum(values: Sequence[object]) -> int:
    """The checksum of a row's values, exactly as SQLite returns them: a float for a REAL, None for NULL."""
    # ascii() tells types apart and, unlike repr(), does not depend on Python's version of Unicode.
    return crc32(ascii(tuple(values)).encode())


def blob_checksum(key: int | str, blob: bytes) -> int:
    """The checksum of a row that is a key and a blob."""
    return crc32(blob, crc32(str(key).encode()))


def piece_checksum(row: Sequence[Any]) -> int:
    """The checksum of PIECE_COLUMNS; NO_CHECKSUM if a field that holds a number holds something else.

    Takes a third of row_checksum's time, because a view reads hundreds of chunks.
    """
    try:
        return crc32(_pack_piece(*row[:11]), crc32(f"{row[11]}\0{row[12]}".encode()))
    except struct.error:
        return NO_CHECKSUM


def check_piece(row: Sequence[Any], checksum: object) -> None:
    """Raises BrokenHistory if the values of PIECE_COLUMNS do not match their checksum."""
    found = piece_checksum(row)
    if found != checksum or found == NO_CHECKSUM:
        raise mismatch(f"piece number {row[0]}")


def check_row(values: Sequence[object], checksum: object, name: str) -> None:
    """Raises BrokenHistory if the values do not match their checksum. name: what the row is, for the message."""
    if row_checksum(values) != checksum:
        raise mismatch(name)


def is_sound_blob(key: int | str, checksum: object, blob: object) -> bool:
    """Whether a blob matches its checksum."""
    return isinstance(blob, bytes) and blob_checksum(key, blob) == checksum


def mismatch(name: str) -> BrokenHistory:
    return BrokenHistory(f"{name[0].upper()}{name[1:]} does not match its checksum.")
