"""Puts one value into a JSON text, or removes one, and leaves every other byte as it was.

New text follows the file's indentation and line ends. Each function checks its result: unless that reads as the old
value with just this change, CannotEdit is raised.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ctxmem_mcp.install import jsonc
from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.jsonc import Element, Value
from ctxmem_mcp.patterns import lazy_regex

KeyPath = Sequence[str | int]
UNIT = "  "

_SAME_LINE = lazy_regex(r"(?:[ \t]|/\*[^\n]*?\*/)*(?://[^\r\n]*)?")


def put(text: str, keys: KeyPath, value: Any) -> str:
    """Returns the text with a value at a key path: in place of the present one, else after the other members.

    An index equal to the list's length appends. Missing containers are created. A blank text becomes an object.

    Raises:
        CannotEdit: the text is not JSON, or the path leads through a value that is not a container.
    """
    if not text.strip(jsonc.BOM + " \t\r\n"):
        bom = jsonc.BOM if text.startswith(jsonc.BOM) else ""
        return bom + _to_json(_nest(keys, value), UNIT, "", _eol(text)) + _eol(text)
    root = _parse(text)
    holder, rest = _deepest(root, keys)
    value = _nest(rest[1:], value)
    expected = root.read()
    _set(_follow(expected, keys[: len(keys) - len(rest)]), rest[0], value)
    element = _at(holder, rest[0])
    new = _replace(text, root, element, value) if element else _add(text, root, holder, rest[0], value)
    return _first_equal([new], expected)


def drop(text: str, keys: KeyPath) -> str:
    """Returns the text without the value at a key path, which must exist.

    Raises:
        CannotEdit: the text is not JSON, or the value can't be removed alone.
    """
    root = _parse(text)
    holder, rest = _deepest(root, keys)
    element = _at(holder, rest[0])
    if len(rest) != 1 or element is None:
        raise CannotEdit(f"has no {_dotted(keys)}")
    expected = root.read()
    del _follow(expected, keys[:-1])[keys[-1]]
    at = holder.elements.index(element)
    # The line end is for a comment that would otherwise swallow what follows.
    return _first_equal((_remove(text, holder, at, glue) for glue in ("", _eol(text))), expected)


# ---------------------------------------------------------------- finding


def _parse(text: str) -> Value:
    try:
        return jsonc.parse(text)
    except jsonc.NotJson as error:
        raise CannotEdit(f"is not valid JSON (comments are allowed): {error}") from error


def _deepest(root: Value, keys: KeyPath) -> tuple[Value, KeyPath]:
    """The innermost existing container on the path, and the rest of the path."""
    node = root
    for i, step in enumerate(keys):
        if node.kind != ("object" if isinstance(step, str) else "array"):
            kind = "an object" if isinstance(step, str) else "a list"
            raise CannotEdit(f"has {_dotted(keys[:i])!r}, which is not {kind}" if i else f"is JSON, but not {kind}")
        element = _at(node, step)
        if element is None or i == len(keys) - 1:
            return node, keys[i:]
        node = element.value
    raise CannotEdit("can't hold this entry")


def _at(holder: Value, step: str | int) -> Element | None:
    if isinstance(step, str):
        return holder.member(step)
    return holder.elements[step] if step < len(holder.elements) else None


def _nest(keys: KeyPath, value: Any) -> Any:
    for step in reversed(keys):
        value = {step: value} if isinstance(step, str) else [value]
    return value


def _follow(value: Any, keys: KeyPath) -> Any:
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
    raise CannotEdit("can't be edited without changing something else")


# ---------------------------------------------------------------- writing


def _add(text: str, root: Value, holder: Value, step: str | int, value: Any) -> str:
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
    """Adds to an object or list that contains only blanks and comments."""
    inner = text[holder.start + 1 : holder.stop - 1].rstrip()
    before, after, eol = text[: holder.start + 1] + inner, text[holder.stop - 1 :], _eol(text)
    if not inner and holder is not root and "\n" not in text[root.start : root.stop]:
        return before + _in_line(step, value, ": " not in text) + after
    margin, unit = _margin(text, holder.start), _unit(text, root)
    return before + eol + margin + unit + _element(step, value, unit, margin + unit, eol) + eol + margin + after


def _replace(text: str, root: Value, element: Element, value: Any) -> str:
    old = text[element.value.start : element.value.stop]
    if "\n" in old or element.value.kind == "scalar":
        new = _to_json(value, _unit(text, root), _margin(text, element.start), _eol(text))
    else:
        new = _one_line(value, _tight(text, element))
    return text[: element.value.start] + new + text[element.value.stop :]


def _remove(text: str, holder: Value, at: int, glue: str) -> str:
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
    """Where an element's own text begins; if it starts a line, at the end of the line before."""
    blank = len(text[:at].rstrip(" \t"))
    if text[:blank].endswith("\r\n"):
        return blank - 2
    return blank - 1 if text[:blank].endswith("\n") else blank


def _element(step: str | int, value: Any, unit: str, margin: str, eol: str) -> str:
    return (f"{_one_line(step)}: " if isinstance(step, str) else "") + _to_json(value, unit, margin, eol)


def _in_line(step: str | int, value: Any, tight: bool) -> str:
    colon = ":" if tight else ": "
    return (f"{_one_line(step)}{colon}" if isinstance(step, str) else "") + _one_line(value, tight)


def _to_json(value: Any, unit: str, margin: str, eol: str) -> str:
    return json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", eol + margin)


def _one_line(value: Any, tight: bool = False) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":") if tight else (", ", ": "))


# ---------------------------------------------------------------- the file's style


def _eol(text: str) -> str:
    at = text.find("\n")
    return "\r\n" if at > 0 and text[at - 1] == "\r" else "\n"


def _margin(text: str, at: int) -> str:
    """The indentation of the line at this position."""
    start = text.rfind("\n", 0, at) + 1
    line = text[start:at].removeprefix(jsonc.BOM)
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str, root: Value) -> str:
    """The file's indentation per level."""
    for one in root.elements:
        margin = _margin(text, one.start)
        if margin and text[: one.start].endswith("\n" + margin):
            return margin.removeprefix(_margin(text, root.start)) or UNIT
    return UNIT


def _tight(text: str, element: Element) -> bool:
    """Whether the file has no blanks after colons and commas."""
    return element.key is not None and text[element.value.start - 1] == ":"
