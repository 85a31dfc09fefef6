"""Parses JSON as people and agents write it, with comments and trailing commas, into a tree of text positions.

Edits use the positions; nothing is serialised again. A text that is not even that is refused with the line and column
of the error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ctxmem_mcp.patterns import lazy_regex

BOM = "\ufeff"
# Deeper than any config, and well below the recursion limit.
DEPTH_MAX = 200

_BLANK = lazy_regex(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_BLANKS = frozenset(" \t\r\n/")
_STRING = lazy_regex(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_PLAIN = lazy_regex(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])|(?:true|false|null)(?!\w)", re.ASCII)


class NotJson(ValueError):
    """The text is not JSON with comments and trailing commas. The message says why, and at which line and column."""

    def __init__(self, text: str, at: int, why: str) -> None:
        line = text.count("\n", 0, at) + 1
        column = at - text.rfind("\n", 0, at)
        super().__init__(f"{why} at line {line}, column {column}")


class Element(NamedTuple):
    """A member of an object or an item of an array, from its first character to the comma after it, if any."""

    start: int
    value: Value
    comma: int | None
    key: str | None = None

    @property
    def stop(self) -> int:
        return self.value.stop if self.comma is None else self.comma + 1


class Value(NamedTuple):
    """A value: its position, and the elements of an object or array."""

    kind: str
    start: int
    stop: int
    plain: Any = None
    elements: Sequence[Element] = ()

    def member(self, key: str) -> Element | None:
        """Returns the member with this key; the last one of duplicates, which is the one that JSON parsers use."""
        return next((one for one in reversed(self.elements) if one.key == key), None) if self.kind == "object" else None

    def read(self) -> Any:
        """Returns the value as json.loads would."""
        if self.kind == "object":
            return {one.key: one.value.read() for one in self.elements}
        if self.kind == "array":
            return [one.value.read() for one in self.elements]
        return self.plain


@lru_cache(maxsize=2)
def parse(text: str) -> Value:
    """Returns the tree of a text; it is cached and must not be modified. Takes about a second per megabyte.

    Raises:
        NotJson: the text is not JSON with comments.
    """
    start = 1 if text.startswith(BOM) else 0
    root = _value(text, _skip(text, start), DEPTH_MAX)
    rest = _skip(text, root.stop)
    if rest != len(text):
        raise NotJson(text, rest, "text after the end")
    return root


def read(text: str) -> Any:
    """Returns a text's value. Raises NotJson."""
    try:
        return json.loads(text.removeprefix(BOM), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return parse(text).read()


def _no_constant(word: str) -> None:
    raise ValueError(word)


def _skip(text: str, at: int) -> int:
    if text[at : at + 1] not in _BLANKS:
        return at
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int, depth: int) -> Value:
    opening = text[at : at + 1]
    if opening in ("{", "["):
        if depth == 0:
            raise NotJson(text, at, f"nested deeper than {DEPTH_MAX}")
        return _container(text, at, depth - 1)
    found = (_STRING if opening == '"' else _PLAIN).match(text, at)
    if not found:
        raise NotJson(text, at, "expected a value" if opening else "unexpected end of text")
    try:
        return Value("scalar", at, found.end(), json.loads(found.group()))
    except ValueError as error:
        raise NotJson(text, at, "a number that is too long") from error


def _container(text: str, at: int, depth: int) -> Value:
    kind, closing = ("object", "}") if text[at] == "{" else ("array", "]")
    elements: list[Element] = []
    here = _skip(text, at + 1)
    while text[here : here + 1] != closing:
        element = _element(text, here, depth, kind)
        elements.append(element)
        here = _skip(text, element.stop)
        if element.comma is None and text[here : here + 1] != closing:
            raise NotJson(text, here, f"expected a comma or {closing}")
    return Value(kind, at, here + 1, None, elements)


def _element(text: str, at: int, depth: int, kind: str) -> Element:
    key, here = None, at
    if kind == "object":
        key, here = _key(text, at)
    value = _value(text, here, depth)
    after = _skip(text, value.stop)
    return Element(at, value, after if text[after : after + 1] == "," else None, key)


def _key(text: str, at: int) -> tuple[str, int]:
    """A member's name, and the position of its value."""
    found = _STRING.match(text, at)
    if not found:
        raise NotJson(text, at, "expected a quoted name" if at < len(text) else "unexpected end of text")
    colon = _skip(text, found.end())
    if text[colon : colon + 1] != ":":
        raise NotJson(text, colon, "expected a colon")
    return str(json.loads(found.group())), _skip(text, colon + 1)
