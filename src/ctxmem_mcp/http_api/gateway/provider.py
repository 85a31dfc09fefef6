"""What the gateway needs of an API, whichever it is; and reading its event streams. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ctxmem_mcp.models import NewTurn

if TYPE_CHECKING:
    from ctxmem_mcp.http_api.gateway.conversation import Said, Sizes
    from ctxmem_mcp.http_api.gateway.cut_point import Cut

# A line of a stream longer than this is not read: it would be kept in memory whole.
_LINE_BYTES_MAX = 1 << 24


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the upstream counted them; None where it did not say. tokens_in: with the cached ones."""

    tokens_in: int | None = None
    tokens_out: int | None = None
    cached: int | None = None


class Heard(Protocol):
    """An answer that comes in events."""

    def take(self, event: Any) -> None: ...

    def turns(self) -> list[NewTurn]:
        """The answer's turns; none as long as it is not whole."""
        ...

    def usage(self) -> Usage: ...


class Shape(Protocol):
    """An API's requests and answers."""

    @property
    def path(self) -> str: ...

    def said(self, body: Mapping[str, Any], sizes: Sizes) -> Said: ...

    def folded(self, body: Mapping[str, Any], cut: Cut, view: str) -> dict[str, Any]: ...

    def answer(self, found: Any) -> list[NewTurn]: ...

    def usage(self, found: Any) -> Usage: ...

    def with_raw(self, found: Any, saved: int) -> bool: ...

    def heard(self) -> Heard: ...

    def asks_for(self, body: Mapping[str, Any]) -> int | None: ...

    def error(self, status: int, message: str) -> dict[str, Any]: ...


def whole(given: object) -> int | None:
    return given if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else None


@dataclass(slots=True)
class Events:
    """The data of server-sent events, out of bytes that are cut anywhere. A line ends with CRLF, LF or CR."""

    _rest: list[bytes] = field(default_factory=list)
    _size: int = 0
    _after_cr: bool = False
    _data: list[bytes] = field(default_factory=list)

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """The events that are complete now, as JSON; what is none is passed over. Raises LineTooLong."""
        for line in self._lines(chunk):
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield from self._event()

    def end(self) -> Iterator[Any]:
        """What stood there without an empty line after it."""
        yield from self.feed(b"\n\n")

    def _lines(self, chunk: bytes) -> list[bytes]:
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        first, *others = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        # A line that comes in many pieces is put together once, when it ends.
        self._rest.append(first)
        self._size += len(first)
        if self._size > _LINE_BYTES_MAX:
            raise LineTooLong
        if not others:
            return []
        whole_line, self._rest, self._size = b"".join(self._rest), [others[-1]], len(others[-1])
        return [whole_line, *others[:-1]]

    def _event(self) -> Iterator[Any]:
        data, self._data = b"\n".join(self._data), []
        try:
            yield json.loads(data)
        except (ValueError, RecursionError):
            return


class LineTooLong(Exception):
    pass


@dataclass(slots=True)
class Hearing:
    """A streamed answer, heard as it passes by. lost: why it can't be followed any more; then none of it is kept, for
    it would have a hole, and the stream goes on all the same."""

    heard: Heard
    lost: str | None = None
    _events: Events = field(default_factory=Events)

    def feed(self, chunk: bytes) -> None:
        self._take(self._events.feed(chunk))

    def end(self) -> list[NewTurn]:
        """The answer's turns; none where it is not whole."""
        self._take(self._events.end())
        if self.lost is None:
            try:
                return self.heard.turns()
            except Exception as error:
                self.lost = type(error).__name__
        return []

    def _take(self, events: Iterator[Any]) -> None:
        if self.lost is not None:
            return
        try:
            for event in events:
                self.heard.take(event)
        except Exception as error:
            self.lost = type(error).__name__
