"""Encodes values as rows, and reads rows as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import zstandard

from ctxmem_mcp.errors import BrokenHistory
from ctxmem_mcp.models import DIGEST_BYTES, Node, Piece, Turn
from ctxmem_mcp.stores.encoding import COMPRESSED_BYTES_MIN, RAW, ZSTD, role_of
from ctxmem_mcp.stores.records import Run, State

_LEVEL = 3

TURN_COLUMNS = (
    "seq, at_index, digest, role, tokens, name, said_at, call_id, flags, language, stored_at, codec"
)  # fmt: skip
PIECE_COLUMNS = "id, seq, at_index, start, stop, tokens, words, flags, leaf, sitting, role, name, said_at"
NODE_COLUMNS = "digest, level, first, last, tokens, strength, children"
# Those of STATE_COLUMNS, then the list of runs.
STATE = (
    "version, head, next_seq, next_piece, turns, tokens, words, nodes, title, space, salt, encoding, retention_days, "
    "created, updated, expires, frontier, unindexed"
)
RUNS = (
    "ARRAY(SELECT ARRAY[first_seq, parent_seq, first_index, first_piece] FROM runs r "
    "WHERE (r.principal, r.conversation) = (c.principal, c.conversation) ORDER BY first_seq)"
)


def to_bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def to_text(encoded: bytes | None) -> str | None:
    return None if encoded is None else bytes(encoded).decode()


def compress(text: str) -> tuple[int, bytes]:
    """Returns a text's codec and body."""
    raw = text.encode()
    if len(raw) >= COMPRESSED_BYTES_MIN:
        packed = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False).compress(raw)
        if len(packed) < len(raw):
            return ZSTD, packed
    return RAW, raw


def decompress(codec: int, body: bytes, name: str) -> str:
    """Returns the text of a body. name: what it is the text of, for the error's message.

    Raises:
        BrokenHistory: The body is damaged.
    """
    try:
        raw = body if codec == RAW else zstandard.ZstdDecompressor().decompress(body)
        return bytes(raw).decode()
    except (zstandard.ZstdError, MemoryError, UnicodeDecodeError) as error:
        raise BrokenHistory(f"The text of {name} can't be decompressed ({type(error).__name__}: {error}).") from error


def read_state(conversation_id: str, row: Sequence[Any]) -> State:
    """row: STATE, then RUNS."""
    *columns, unindexed, runs = row
    columns[8], columns[9] = to_text(columns[8]), to_text(columns[9])
    if any(run[1] >= run[0] or runs[0][0] != 1 for run in runs):
        raise BrokenHistory("The runs of turns lead nowhere.")
    names = STATE.split(", ")[:-1]
    fields: dict[str, Any] = dict(zip(names, columns, strict=True))
    return State(conversation_id, runs=tuple(Run(*run) for run in runs), unindexed=tuple(unindexed), **fields)


def read_turn(row: Sequence[Any]) -> Turn:
    """row: TURN_COLUMNS, and the body unless only metadata is read."""
    seq, index, digest, role, tokens, name, said_at, call_id, flags, language, stored_at, codec, *body = row
    what = f"turn number {seq}"
    content = decompress(codec, body[0], what) if body else ""
    return Turn(
        seq, index, digest, role_of(role, what), content, to_text(name), to_text(said_at), to_text(call_id), tokens,
        stored_at, language, flags,
    )  # fmt: skip


def read_piece(row: Sequence[Any]) -> Piece:
    """row: PIECE_COLUMNS."""
    *numbers, role, name, said_at = row
    return Piece._make((*numbers, role_of(role, f"turn number {row[1]}"), to_text(name), to_text(said_at)))


def read_node(row: Sequence[Any]) -> Node:
    """row: NODE_COLUMNS."""
    digest, level, first, last, tokens, strength, joined = row
    children = tuple(joined[i : i + DIGEST_BYTES] for i in range(0, len(joined), DIGEST_BYTES))
    return Node(digest, level, first, last, tokens, strength, children)
