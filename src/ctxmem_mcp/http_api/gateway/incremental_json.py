"""Parses request bodies that repeat earlier ones: of a conversation's next request only what is new is parsed. Pure.

A client sends its whole history with every request, so the next body begins with almost all of the last one. The values
of messages in the common part are not parsed again: they are the same objects, by which later steps recognise them too.
Nobody may change them.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.http_api.gateway.prefix import shared_text
from ctxmem_mcp.patterns import lazy_regex

# The fields that hold a conversation, one in each API.
LISTS = ("messages", "input", "contents")
# Bodies that are remembered. Shorter ones are parsed as a whole.
BODIES_MAX, CHARS_MIN = 8, 4_000
_BLANK = lazy_regex(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


@dataclass(slots=True, eq=False)
class _Body:
    """A parsed body.

    Attributes:
        text: the body.
        before: the fields before the list.
        name: the list's name.
        items: its items.
        ends: where each ends in the text.
    """

    text: str
    before: dict[str, Any]
    name: str
    items: list[Any]
    ends: list[int]


class BodyParser:
    """Parses bodies, and remembers the last ones."""

    def __init__(self) -> None:
        self._bodies: deque[_Body] = deque(maxlen=BODIES_MAX)

    def parse(self, content: bytes) -> dict[str, Any] | None:
        """Returns the object that a body is; None if it is none, or no JSON."""
        found: Any = None
        if len(content) >= CHARS_MIN:
            with suppress(ValueError, RecursionError):  # perhaps another encoding; json says what is wrong
                found = self._parse(content.decode())
        if found is None:
            try:
                found = json.loads(content)
            except (ValueError, RecursionError):
                return None
        return found if isinstance(found, dict) else None

    def _parse(self, text: str) -> dict[str, Any] | None:
        """Returns the object, or None if it must be parsed as a whole: it has no list, or two. Raises ValueError."""
        earlier, shared = self._longest_shared(text)
        known = 0 if earlier is None else _count_before(earlier.ends, shared)
        if earlier is not None and known:
            body = _Body(text, earlier.before, earlier.name, earlier.items[:known], earlier.ends[:known])
        else:
            begun = _begin(text)
            if begun is None:
                return None
            body = begun
        end = _read_items(body)
        after = _read_fields_after(text, end)
        if body.name in after:
            return None
        if earlier is not None and known >= len(earlier.items) // 2:
            self._bodies.remove(earlier)
        self._bodies.append(body)
        return {**body.before, body.name: body.items, **after}

    def _longest_shared(self, text: str) -> tuple[_Body | None, int]:
        best, length = None, 0
        for body in self._bodies:
            shared = shared_text(body.text, text)
            if shared > length:
                best, length = body, shared
        return best, length


def _count_before(ends: list[int], at: int) -> int:
    """Returns how many items end before a place. What follows an item is shared too, so a number is complete."""
    return bisect_left(ends, at)


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()


def _expect(text: str, at: int, char: str) -> int:
    """Returns the place after a character and the blanks before and after it."""
    at = _skip(text, at)
    if text[at : at + 1] != char:
        raise ValueError(f"{char!r} expected at {at}")
    return _skip(text, at + 1)


def _begin(text: str) -> _Body | None:
    """Reads the fields before the first list; None if there is none."""
    at = _expect(text, 0, "{")
    before: dict[str, Any] = {}
    while text[at : at + 1] == '"':
        name, at = _decode(text, at)
        at = _expect(text, at, ":")
        if name in LISTS and text[at : at + 1] == "[":
            return None if name in before else _Body(text, before, name, [], [at + 1])
        before[name], at = _decode(text, at)
        at = _skip(text, at)
        if text[at : at + 1] != ",":
            return None
        at = _skip(text, at + 1)
    return None


def _read_items(body: _Body) -> int:
    """Reads the items that are not known yet. Returns the place after the list."""
    text, items = body.text, body.items
    if not items:
        at = _skip(text, body.ends.pop())
        if text[at : at + 1] == "]":
            return at + 1
    else:
        at = _skip(text, body.ends[-1])
        if text[at : at + 1] == "]":
            return at + 1
        at = _expect(text, at, ",")
    while True:
        item, at = _decode(text, at)
        items.append(item)
        body.ends.append(at)
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return at + 1
        at = _expect(text, at, ",")


def _read_fields_after(text: str, at: int) -> dict[str, Any]:
    """Reads the rest of the object."""
    at = _skip(text, at)
    follows = text[at : at + 1] == ","
    if not follows and text[at : at + 1] != "}":
        raise ValueError(f"',' or '}}' expected at {at}")
    found: dict[str, Any] = json.loads("{" + text[at + follows :])
    if follows and not found:
        raise ValueError("a field must follow a comma")
    return found
