"""Parses request bodies that repeat earlier ones: of a conversation's next request only what is new is parsed. Pure.

A client sends its whole history with every request, so the next body has almost all messages of the last one, at the
same places in the list. Before them, a system prompt or another field may differ. The values of messages in a common
part are not parsed again: they are the same objects, by which later steps recognise them too. Nobody may change them.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.http_api.gateway.prefix import shared_text
from ctxmem_mcp.patterns import lazy_regex

# The fields that hold a conversation, one in each API.
LISTS = ("messages", "input", "contents")
# Bodies that are remembered. Shorter ones are parsed as a whole.
BODIES_MAX, CHARS_MIN = 8, 4_000
# How often items of earlier bodies are looked for: at the beginning, and after items that differ (a system prompt).
TRIES_MAX = 4
_BLANK = lazy_regex(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


@dataclass(slots=True, eq=False)
class _Body:
    """A parsed body.

    Attributes:
        text: the body.
        before: the fields before the list.
        name: the list's name.
        start: where its first item may begin in the text.
        items: its items.
        ends: where each ends in the text.
    """

    text: str
    before: dict[str, Any]
    name: str
    start: int
    items: list[Any]
    ends: list[int]

    def end_of(self, count: int) -> int:
        """Returns the place after so many items."""
        return self.ends[count - 1] if count else self.start

    def count_shared(self, other: _Body) -> int:
        """Returns how many items of another body follow this one's items in its text, from the same index on.

        What follows an item is shared too, so a number is complete.
        """
        at = len(self.items)
        if other.name != self.name or at >= len(other.items):
            return 0
        begin = other.end_of(at)
        shared = shared_text(self.text, other.text, self.end_of(at), begin)
        return bisect_left(other.ends, begin + shared, at) - at

    def take(self, other: _Body, count: int) -> None:
        """Adds so many items of another body, which follow in the text."""
        at = len(self.items)
        moved = self.end_of(at) - other.end_of(at)
        ends = other.ends[at : at + count]
        self.items += other.items[at : at + count]
        self.ends += ends if not moved else [end + moved for end in ends]


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
        body = self._begin_like_earlier(text) or _begin(text)
        if body is None:
            return None
        taken = Counter[int]()
        end = self._read_items(body, taken)
        after = _read_fields_after(text, end)
        if body.name in after:
            return None
        for earlier in [one for one in self._bodies if taken[id(one)] and taken[id(one)] >= len(one.items) // 2]:
            self._bodies.remove(earlier)
        self._bodies.append(body)
        return {**body.before, body.name: body.items, **after}

    def _begin_like_earlier(self, text: str) -> _Body | None:
        """Returns the beginning of a body whose fields before the list are those of an earlier one."""
        for body in reversed(self._bodies):
            if text.startswith(body.text[: body.start]):
                return _Body(text, body.before, body.name, body.start, [], [])
        return None

    def _read_items(self, body: _Body, taken: Counter[int]) -> int:
        """Reads the items, those of earlier bodies without parsing them. Returns the place after the list.

        Args:
            body: the body.
            taken: gets the number of items that are those of an earlier body, by the body's identity.
        """
        text, items, ends, tries = body.text, body.items, body.ends, TRIES_MAX
        while True:
            if tries:
                count, _, earlier = max(
                    ((body.count_shared(one), at, one) for at, one in enumerate(self._bodies)),
                    default=(0, 0, body),
                )
                if count:
                    body.take(earlier, count)
                    taken[id(earlier)] += count
                tries -= 1
            at = _skip(text, body.end_of(len(items)))
            if text[at : at + 1] == "]":
                return at + 1
            item, at = _decode(text, _expect(text, at, ",") if items else at)
            items.append(item)
            ends.append(at)


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
            return None if name in before else _Body(text, before, name, at + 1, [], [])
        before[name], at = _decode(text, at)
        at = _skip(text, at)
        if text[at : at + 1] != ",":
            return None
        at = _skip(text, at + 1)
    return None


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
