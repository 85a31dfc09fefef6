"""JSON as people and agents write it, comments and trailing commas included: where each thing stands in the text.

Nothing is re-serialised from here. A tree of places is what edits are made with; a text that is not JSON even so is
refused with the line where it stops making sense.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

BOM = "\ufeff"
# Deeper than any config, and well within what recursion can take.
DEPTH_MAX = 200

_BLANK = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_BLANKS = frozenset(" \t\r\n/")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_PLAIN = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])|(?:true|false|null)(?!\w)", re.ASCII)


class NotJson(ValueError):
    """The text is no JSON, comments and trailing commas granted; says where."""

    def __init__(self, text: str, at: int, why: str) -> None:
        line = text.count("\n", 0, at) + 1
        column = at - text.rfind("\n", 0, at)
        super().__init__(f"{why} at line {line}, column {column}")


class Element(NamedTuple):
    """A member of an object or an item of an array: from its first character to the comma that follows, if any."""

    start: int
    value: Value
    comma: int | None
    key: str | None = None

    @property
    def stop(self) -> int:
        return self.value.stop if self.comma is None else self.comma + 1


class Value(NamedTuple):
    """A value: where it stands, and for an object or array what is in it."""

    kind: str
    start: int
    stop: int
    plain: Any = None
    elements: Sequence[Element] = ()

    def member(self, key: str) -> Element | None:
        """The member that counts: the last one where a key stands twice, as JSON's readers have it."""
        return next((one for one in reversed(self.elements) if one.key == key), None) if self.kind == "object" else None

    def read(self) -> Any:
        """The value, as json.loads would give it."""
        if self.kind == "object":
            return {one.key: one.value.read() for one in self.elements}
        if self.kind == "array":
            return [one.value.read() for one in self.elements]
        return self.plain


@lru_cache(maxsize=2)
def parse(text: str) -> Value:
    """The tree of a whole text, strictly read-only. Raises NotJson. About a second a megabyte."""
    start = 1 if text.startswith(BOM) else 0
    root = _value(text, _skip(text, start), DEPTH_MAX)
    rest = _skip(text, root.stop)
    if rest != len(text):
        raise NotJson(text, rest, "something follows the end")
    return root


def read(text: str) -> Any:
    """What a text says. Raises NotJson."""
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
        raise NotJson(text, at, "no value" if opening else "the text ends")
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
            raise NotJson(text, here, f"neither a comma nor {closing}")
    return Value(kind, at, here + 1, None, elements)


def _element(text: str, at: int, depth: int, kind: str) -> Element:
    key, here = None, at
    if kind == "object":
        key, here = _key(text, at)
    value = _value(text, here, depth)
    after = _skip(text, value.stop)
    return Element(at, value, after if text[after : after + 1] == "," else None, key)


def _key(text: str, at: int) -> tuple[str, int]:
    """The member's name, and where its value begins."""
    found = _STRING.match(text, at)
    if not found:
        raise NotJson(text, at, "no name in quotes" if at < len(text) else "the text ends")
    colon = _skip(text, found.end())
    if text[colon : colon + 1] != ":":
        raise NotJson(text, colon, "no colon")
    return str(json.loads(found.group())), _skip(text, colon + 1)
