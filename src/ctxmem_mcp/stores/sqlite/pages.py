"""Reads rows from the pages of a damaged file, without SQLite: it follows no tree and needs no schema.

Every page that looks like a leaf of a table is read, wherever it is, so a damaged page loses only its own rows.
The rows may be anything, even those of a page that is no longer in use: the caller checks each row's checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

_HEADER_BYTES = 100
_TABLE_LEAF = 0x0D
_DEFAULT_PAGE_BYTES = 4_096
_WAL_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
# A conversation's rows have up to 23 columns; a longer header is not one of a row.
_COLUMNS_MAX = 64


class Pages:
    """The pages of a database, with those of its write-ahead log in the place of older ones if `log` is not empty."""

    def __init__(self, database: bytes, log: bytes = b"") -> None:
        self._bytes = size = _page_bytes(database)
        self._pages = {i // size + 1: database[i : i + size] for i in range(0, len(database), size)}
        self._pages |= _committed_pages(log, size)

    def rows(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yields (rowid, values) of every row that can be decoded. A key that is the rowid is None in the values."""
        for number, page in self._pages.items():
            start = _HEADER_BYTES if number == 1 else 0
            if len(page) < self._bytes or page[start] != _TABLE_LEAF:
                continue
            cells = int.from_bytes(page[start + 3 : start + 5], "big")
            for i in range(min(cells, self._bytes // 4)):
                at = start + 8 + 2 * i
                try:
                    yield self._cell(page, int.from_bytes(page[at : at + 2], "big"))
                except (IndexError, ValueError, struct.error):
                    continue

    def _cell(self, page: bytes, at: int) -> tuple[int, tuple[Any, ...]]:
        size, at = _varint(page, at)
        rowid, at = _varint(page, at)
        return rowid - (1 << 64) if rowid >> 63 else rowid, _decode(self._payload(page, at, size))

    def _payload(self, page: bytes, at: int, size: int) -> bytes:
        """A row's bytes, of which a long row has most on pages that are chained to it."""
        usable = self._bytes
        if size <= usable - 35:
            return page[at : at + size]
        if size > len(self._pages) * usable:
            raise ValueError(size)
        least = (usable - 12) * 32 // 255 - 23
        here = least + (size - least) % (usable - 4)
        here = here if here <= usable - 35 else least
        parts, left = [page[at : at + here]], size - here
        following = int.from_bytes(page[at + here : at + here + 4], "big")
        while left > 0:
            overflow = self._pages.get(following, b"")
            if len(overflow) < usable:  # the columns before the body are on the first page
                parts.append(bytes(left))
                break
            parts.append(overflow[4 : 4 + left])
            left -= len(parts[-1])
            following = int.from_bytes(overflow[:4], "big")
        return b"".join(parts)


def _committed_pages(log: bytes, size: int) -> dict[int, bytes]:
    """The pages of a write-ahead log's commits. Frames of another salt are left from before the log was restarted."""
    committed: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    frame = _FRAME_HEADER_BYTES + size
    for start in range(_WAL_HEADER_BYTES, len(log) - frame + 1, frame):
        if log[start + 8 : start + 16] != log[16:24]:
            break
        pending[int.from_bytes(log[start : start + 4], "big")] = log[start + _FRAME_HEADER_BYTES : start + frame]
        if any(log[start + 4 : start + 8]):
            committed |= pending
            pending.clear()
    return committed


def _page_bytes(database: bytes) -> int:
    size = int.from_bytes(database[16:18], "big")
    size = 65_536 if size == 1 else size
    return size if size >= 512 and not size & (size - 1) else _DEFAULT_PAGE_BYTES


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns a number of variable length and where it ends."""
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9


def _decode(record: bytes) -> tuple[Any, ...]:
    header, at = _varint(record, 0)
    types: list[int] = []
    while at < header and len(types) <= _COLUMNS_MAX:
        kind, at = _varint(record, at)
        types.append(kind)
    if at != header:
        raise ValueError(header)
    values: list[Any] = []
    for kind in types:
        value, at = _value(record, at, kind)
        values.append(value)
    return tuple(values)


def _value(record: bytes, at: int, kind: int) -> tuple[Any, int]:
    """Returns a column's value and where it ends."""
    if kind in (0, 8, 9):
        return (None, 0, 1)[max(0, kind - 7)], at
    if size := _INTEGER_BYTES.get(kind):
        return int.from_bytes(record[at : at + size], "big", signed=True), at + size
    if kind == 7:
        return struct.unpack(">d", record[at : at + 8])[0], at + 8
    size = (kind - 12) // 2
    if kind < 12 or at + size > len(record):
        raise ValueError(kind)
    part = record[at : at + size]
    return (part.decode() if kind % 2 else part), at + size
