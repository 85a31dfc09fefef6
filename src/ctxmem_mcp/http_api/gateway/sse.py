"""Parsing streamed responses: server-sent events, and JSON arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# A longer line is an error, since it would be held in memory as a whole.
_LINE_BYTES_MAX = 1 << 24
# The same for an array, which is parsed at its end.
_ARRAY_BYTES_MAX = 1 << 26


class LineTooLong(Exception):
    """A line of the stream exceeds the limit."""


@dataclass(slots=True)
class EventParser:
    """Parses the JSON data of server-sent events from chunks that may end anywhere. Lines end with CRLF, LF or CR."""

    _rest: list[bytes] = field(default_factory=list)
    _size: int = 0
    _after_cr: bool = False
    _data: list[bytes] = field(default_factory=list)

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """Yields the data of the events that the chunk completes; events that are not JSON are skipped.

        Raises:
            LineTooLong: a line exceeds 16 MiB.
        """
        for line in self._lines(chunk):
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield from self._event()

    def finish(self) -> Iterator[Any]:
        """Yields the last event if no empty line followed it."""
        yield from self.feed(b"\n\n")

    def _lines(self, chunk: bytes) -> list[bytes]:
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        first, *others = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        # A line that arrives in many chunks is joined only once, at its end.
        self._rest.append(first)
        self._size += len(first)
        if self._size > _LINE_BYTES_MAX:
            raise LineTooLong
        if not others:
            return []
        complete, self._rest, self._size = b"".join(self._rest), [others[-1]], len(others[-1])
        return [complete, *others[:-1]]

    def _event(self) -> Iterator[Any]:
        data, self._data = b"\n".join(self._data), []
        try:
            yield json.loads(data)
        except (ValueError, RecursionError):
            return


@dataclass(slots=True)
class ArrayParser:
    """Parses a streamed JSON array, whose items are complete at its end."""

    _chunks: list[bytes] = field(default_factory=list)
    _size: int = 0

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """Takes a chunk; yields nothing yet.

        Raises:
            LineTooLong: the array exceeds 64 MiB.
        """
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > _ARRAY_BYTES_MAX:
            raise LineTooLong
        yield from ()

    def finish(self) -> Iterator[Any]:
        """Yields the items; none if the array is incomplete."""
        try:
            found = json.loads(b"".join(self._chunks))
        except (ValueError, RecursionError):
            return
        yield from found if isinstance(found, list) else [found]
