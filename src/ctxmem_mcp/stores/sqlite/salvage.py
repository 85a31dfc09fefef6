"""Reads all that is sound in a conversation's damaged file."""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctxmem_mcp.errors import BrokenHistory
from ctxmem_mcp.models import EXTRACTIVE, ROLES, Turn
from ctxmem_mcp.stores.encoding import RAW, STATE_COLUMNS, ZSTD, parse_summary
from ctxmem_mcp.stores.records import Run, Salvage, SalvagedSummary
from ctxmem_mcp.stores.sqlite.checksums import is_sound_blob, row_checksum
from ctxmem_mcp.stores.sqlite.commits import ConversationRow
from ctxmem_mcp.stores.sqlite.pages import Pages

# REAL columns, in which SQLite stores whole numbers as integers.
_REALS = {"turn": (12,), "conversation": (15, 16, 17), "summary": (3,)}
_COLUMNS = {"turn": 17, "conversation": 23, "summary": 8, "node": 9, "run": 5, "blob": 3}


def salvage(path: Path, log: Path) -> Salvage:
    """Reads a file and its write-ahead log.

    Args:
        path: A copy of the file, which nobody writes to.
        log: A copy of its log; it need not exist.
    """
    database, frames = path.read_bytes(), log.read_bytes() if log.exists() else b""
    rows = _Rows()
    if frames:
        rows.add(Pages(database, frames))
    rows.add(Pages(database))
    return rows.result()


class _Rows:
    """The sound rows of a file."""

    def __init__(self) -> None:
        self._conversation: ConversationRow | None = None
        self._turns: dict[int, tuple[Any, ...]] = {}
        self._runs: dict[int, Run] = {}
        self._nodes: dict[int, tuple[Any, ...]] = {}
        self._summaries: dict[int, tuple[Any, ...]] = {}
        self._blobs: dict[int, tuple[int, bytes]] = {}
        self._turn_bodies: dict[tuple[int, int], list[bytes]] = {}

    def add(self, pages: Pages) -> None:
        for rowid, values in pages.rows():
            if values and values[0] is None:
                self._add(rowid, (rowid, *values[1:]))

    def _add(self, rowid: int, row: tuple[Any, ...]) -> None:
        columns = len(row)
        if columns == _COLUMNS["turn"] and _is_sound(row := _with_floats(row, "turn"), 15):
            self._turns.setdefault(rowid, row)
            self._turn_bodies.setdefault((rowid, row[14]), []).append(row[16])
        elif columns == _COLUMNS["conversation"]:
            row = _with_floats(row, "conversation")
            found = ConversationRow._make(row[1:])
            if found.is_sound and (self._conversation is None or found.version > self._conversation.version):
                self._conversation = found
        elif columns == _COLUMNS["summary"] and _is_sound(row := _with_floats(row, "summary"), 6):
            self._summaries.setdefault(rowid, row)
        elif columns == _COLUMNS["node"] and _is_sound(row, 8):
            self._nodes.setdefault(rowid, row)
        elif columns == _COLUMNS["run"] and _is_sound(row, 4):
            self._runs.setdefault(rowid, Run(*row[:4]))
        elif columns == _COLUMNS["blob"] and 1 <= rowid <= 2 and is_sound_blob(rowid, row[1], row[2]):
            self._blobs.setdefault(crc32(row[2]), (row[1], row[2]))

    def result(self) -> Salvage:
        texts = _Texts(list(self._blobs.values()))
        turns: dict[int, Turn] = {}
        lost: dict[int, Turn] = {}
        for seq, row in self._turns.items():
            bodies = self._turn_bodies[seq, row[14]]
            text = next((t for body in bodies if (t := texts.text(row[13], row[14], body)) is not None), None)
            turn = Turn(
                seq,
                row[1],
                row[2],
                ROLES[row[3]],
                text or "",
                row[7],
                row[8],
                row[9],
                row[4],
                row[12],
                row[11],
                row[10],
            )
            (lost if text is None else turns)[seq] = turn
        own = self._conversation
        state = {name: getattr(own, name) for name in STATE_COLUMNS} if own else None
        return Salvage(
            own.id if own else None, bool(own and own.forgotten), state, turns, lost, self._runs,
            list(self._written_summaries(texts)),
        )  # fmt: skip

    def _written_summaries(self, texts: _Texts) -> Iterator[SalvagedSummary]:
        for _, row in sorted(self._summaries.items()):
            node, text = self._nodes.get(row[1]), texts.text(row[4], row[5], row[7])
            if row[2] != EXTRACTIVE and node and text is not None:
                try:
                    yield SalvagedSummary(node[1], parse_summary(row[2], text))
                except BrokenHistory:
                    continue


class _Texts:
    """Decompresses bodies with whichever dictionary their checksum fits."""

    def __init__(self, dictionaries: list[tuple[int, bytes]]) -> None:
        self._dictionaries = dictionaries

    def text(self, codec: int, checksum: int, body: bytes) -> str | None:
        """Returns a body's text; None if the body or its dictionary is damaged."""
        import zstandard

        try:
            if codec <= ZSTD:
                if crc32(body) != checksum:
                    return None
                return (body if codec == RAW else zstandard.ZstdDecompressor().decompress(body)).decode()
            for seed, packed in self._dictionaries:
                if crc32(body, seed) == checksum:
                    data = zstandard.ZstdCompressionDict(zstandard.ZstdDecompressor().decompress(packed))
                    return zstandard.ZstdDecompressor(dict_data=data).decompress(body).decode()
        except (zstandard.ZstdError, UnicodeDecodeError, MemoryError, TypeError):
            pass
        return None


def _is_sound(row: tuple[Any, ...], columns: int) -> bool:
    return bool(row_checksum(row[:columns]) == row[columns])


def _with_floats(row: tuple[Any, ...], table: str) -> tuple[Any, ...]:
    values = list(row)
    for i in _REALS[table]:
        if isinstance(values[i], int):
            values[i] = float(values[i])
    return tuple(values)
