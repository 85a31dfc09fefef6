"""Putting one thing into a JSON text, or taking it out, and leaving every other byte where it was.

What is new takes the file's own indentation and line ends. Each verb checks its work: the text it gives must read as
the old value with just that change, or it refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ctxmem_mcp.install import jsonc
from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.jsonc import Element, Value

KeyPath = Sequence[str | int]
UNIT = "  "

_SAME_LINE = re.compile(r"(?:[ \t]|/\*[^\n]*?\*/)*(?://[^\r\n]*)?")


def put(text: str, keys: KeyPath, value: Any) -> str:
    """The text with `value` at the end of `way`: in place of what is there, else after its neighbours. An index as long
    as the list appends; containers that are missing are made; a text with nothing in it becomes an object."""
    if not text.strip(jsonc.BOM + " \t\r\n"):
        bom = jsonc.BOM if text.startswith(jsonc.BOM) else ""
        return bom + _written(_nested(keys, value), UNIT, "", _eol(text)) + _eol(text)
    root = _parsed(text)
    holder, rest = _deepest(root, keys)
    value = _nested(rest[1:], value)
    expected = root.read()
    _set(_walk(expected, keys[: len(keys) - len(rest)]), rest[0], value)
    there = _at(holder, rest[0])
    new = _replaced(text, root, there, value) if there else _added(text, root, holder, rest[0], value)
    return _first_equal([new], expected)


def drop(text: str, keys: KeyPath) -> str:
    """The text without what stands at the end of `way`, which must be there."""
    root = _parsed(text)
    holder, rest = _deepest(root, keys)
    there = _at(holder, rest[0])
    if len(rest) != 1 or there is None:
        raise CannotEdit(f"has no {_dotted(keys)}")
    expected = root.read()
    del _walk(expected, keys[:-1])[keys[-1]]
    at = holder.elements.index(there)
    # The line end is for a comment that would else swallow what comes after it.
    return _first_equal((_without(text, holder, at, glue) for glue in ("", _eol(text))), expected)


# ---------------------------------------------------------------- finding


def _parsed(text: str) -> Value:
    try:
        return jsonc.parse(text)
    except jsonc.NotJson as error:
        raise CannotEdit(f"is not JSON, even with comments granted: {error}") from error


def _deepest(root: Value, keys: KeyPath) -> tuple[Value, KeyPath]:
    """The innermost container on the way that is there, and the steps that go on from it."""
    node = root
    for i, step in enumerate(keys):
        if node.kind != ("object" if isinstance(step, str) else "array"):
            kind = "object" if isinstance(step, str) else "list"
            raise CannotEdit(f"has {_dotted(keys[:i])!r}, which is no {kind}" if i else f"is JSON, but no {kind}")
        there = _at(node, step)
        if there is None or i == len(keys) - 1:
            return node, keys[i:]
        node = there.value
    raise CannotEdit("has no place for this")


def _at(holder: Value, step: str | int) -> Element | None:
    if isinstance(step, str):
        return holder.member(step)
    return holder.elements[step] if step < len(holder.elements) else None


def _nested(keys: KeyPath, value: Any) -> Any:
    for step in reversed(keys):
        value = {step: value} if isinstance(step, str) else [value]
    return value


def _walk(value: Any, keys: KeyPath) -> Any:
    for step in keys:
        value = value[step]
    return value


def _set(container: Any, step: str | int, value: Any) -> None:
    if isinstance(step, int) and step >= len(container):
        container.append(value)
    else:
        container[step] = value


def _dotted(keys: KeyPath) -> str:
    return ".".join(map(str, keys))


def _first_equal(texts: Iterable[str], expected: Any) -> str:
    for text in texts:
        try:
            if jsonc.read(text) == expected:
                return text
        except jsonc.NotJson:
            continue
    raise CannotEdit("can't be edited without touching something else")


# ---------------------------------------------------------------- writing


def _added(text: str, root: Value, holder: Value, step: str | int, value: Any) -> str:
    if not holder.elements:
        return _first(text, root, holder, step, value)
    last = holder.elements[-1]
    comma, kept = (",", "") if last.comma is None else ("", ",")
    margin = _margin(text, last.start)
    if text[: last.start].endswith(("\n" + margin, "\r" + margin)):
        at = _SAME_LINE.match(text, last.stop).end()  # type: ignore[union-attr]  # it matches nothing, too
        at = at if text[at : at + 1] in ("\r", "\n") else last.stop
        new = _eol(text) + margin + _element(step, value, _unit(text, root), margin, _eol(text))
    else:
        at, tight = last.stop, _tight(text, last)
        new = ("" if tight else " ") + _in_line(step, value, tight)
    end = last.value.stop
    return text[:end] + comma + text[end:at] + new + kept + text[at:]


def _first(text: str, root: Value, holder: Value, step: str | int, value: Any) -> str:
    """Into an object or list that has nothing in it but blanks and comments."""
    inner = text[holder.start + 1 : holder.stop - 1].rstrip()
    before, after, eol = text[: holder.start + 1] + inner, text[holder.stop - 1 :], _eol(text)
    if not inner and holder is not root and "\n" not in text[root.start : root.stop]:
        return before + _in_line(step, value, ": " not in text) + after
    margin, unit = _margin(text, holder.start), _unit(text, root)
    return before + eol + margin + unit + _element(step, value, unit, margin + unit, eol) + eol + margin + after


def _replaced(text: str, root: Value, there: Element, value: Any) -> str:
    old = text[there.value.start : there.value.stop]
    if "\n" in old or there.value.kind == "scalar":
        new = _written(value, _unit(text, root), _margin(text, there.start), _eol(text))
    else:
        new = _plain(value, _tight(text, there))
    return text[: there.value.start] + new + text[there.value.stop :]


def _without(text: str, holder: Value, at: int, glue: str) -> str:
    gone = holder.elements[at]
    start = _begin(text, gone.start)
    if len(holder.elements) == 1:
        left, right = text[holder.start + 1 : gone.start].rstrip(), text[gone.stop : holder.stop - 1]
        inner = left + glue + right if (left + right).strip() else ""
        return text[: holder.start + 1] + inner + text[holder.stop - 1 :]
    before = holder.elements[at - 1]
    if at == 0 and start == holder.start + 1 == gone.start:
        return text[:start] + glue + text[gone.stop :].lstrip(" \t")
    if at == len(holder.elements) - 1 and gone.comma is None and before.comma is not None:
        return text[: before.comma] + text[before.comma + 1 : start] + glue + text[gone.stop :]
    return text[:start] + glue + text[gone.stop :]


def _begin(text: str, at: int) -> int:
    """Where an element's own text begins: with the end of the line before where it begins a line."""
    blank = len(text[:at].rstrip(" \t"))
    if text[:blank].endswith("\r\n"):
        return blank - 2
    return blank - 1 if text[:blank].endswith("\n") else blank


def _element(step: str | int, value: Any, unit: str, margin: str, eol: str) -> str:
    return (f"{_plain(step)}: " if isinstance(step, str) else "") + _written(value, unit, margin, eol)


def _in_line(step: str | int, value: Any, tight: bool) -> str:
    colon = ":" if tight else ": "
    return (f"{_plain(step)}{colon}" if isinstance(step, str) else "") + _plain(value, tight)


def _written(value: Any, unit: str, margin: str, eol: str) -> str:
    return json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", eol + margin)


def _plain(value: Any, tight: bool = False) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":") if tight else (", ", ": "))


# ---------------------------------------------------------------- the file's own habits


def _eol(text: str) -> str:
    at = text.find("\n")
    return "\r\n" if at > 0 and text[at - 1] == "\r" else "\n"


def _margin(text: str, at: int) -> str:
    """The blanks that the line of this place begins with."""
    start = text.rfind("\n", 0, at) + 1
    line = text[start:at].removeprefix(jsonc.BOM)
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str, root: Value) -> str:
    """By how much this file indents."""
    for one in root.elements:
        margin = _margin(text, one.start)
        if margin and text[: one.start].endswith("\n" + margin):
            return margin.removeprefix(_margin(text, root.start)) or UNIT
    return UNIT


def _tight(text: str, element: Element) -> bool:
    """Whether no blank stands after the colon or the comma."""
    return element.key is not None and text[element.value.start - 1] == ":"
