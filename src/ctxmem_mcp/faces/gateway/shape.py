"""What the gateway needs of an API, whichever it is; and reading its event streams. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ctxmem_mcp.model import NewTurn

if TYPE_CHECKING:
    from ctxmem_mcp.faces.gateway.cutting import Cut
    from ctxmem_mcp.faces.gateway.said import Said, Sizes

# A line of a stream longer than this is not an event of ours to read.
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
    """The data of server-sent events, out of bytes that are cut anywhere."""

    _rest: bytes = b""
    _data: list[bytes] = field(default_factory=list)

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """The events that are complete now, as JSON; what is none is passed over."""
        *lines, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        if len(self._rest) > _LINE_BYTES_MAX:
            self._rest = b""
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield from self._event()

    def end(self) -> Iterator[Any]:
        """What stood there without an empty line after it."""
        yield from self.feed(b"\n\n")

    def _event(self) -> Iterator[Any]:
        data, self._data = b"\n".join(self._data), []
        try:
            yield json.loads(data)
        except (ValueError, RecursionError):
            return
