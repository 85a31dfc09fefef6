"""Puts a table into a TOML text, changes its values, or removes it, and leaves every other byte as it was.

A small scanner finds where statements begin and end; tomllib reads their values. Each function checks its result with
tomllib: unless it reads as the old text with just this change, CannotEdit is raised.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.patterns import lazy_regex

BOM = "\ufeff"
Name = tuple[str, ...]

# The tokens of a value, longest first: the four kinds of strings, comments, brackets, line ends, anything else.
_TOKEN = lazy_regex(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[{]|[\]}]|\r?\n|[^\s"\'#\[\]{}]+|\s',
    re.DOTALL,
)
_NAME = lazy_regex(r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[ \t.])+""")


@dataclass(frozen=True, slots=True)
class Statement:
    """A table's header, or a key with its value; in whole lines.

    Attributes:
        start: where its first line begins.
        stop: where its last line ends.
        table: the table it is in, or heads.
        key: the key; None for a table's header, empty for a header of an array of tables.
        value: where the value begins and ends.
    """

    start: int
    stop: int
    table: Name
    key: Name | None = None
    value: tuple[int, int] = (0, 0)


def read(text: str) -> dict[str, Any]:
    """Returns a text's value. Raises CannotEdit."""
    try:
        return tomllib.loads(text.removeprefix(BOM).replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise CannotEdit(f"is not TOML: {error}") from error


def put(text: str, name: Name, values: Mapping[str, Any]) -> str:
    """Returns the text with these values in a table.

    A missing table is appended. Values that differ are changed in place; missing ones are added after the header.

    Raises:
        CannotEdit: the text is not TOML, or has the table in a form that can't be edited.
    """
    expected = read(text)
    table_values = expected
    for step in name:
        table_values = table_values.setdefault(step, {})
    known = dict(table_values)
    table_values |= values
    header = next((one for one in _statements(text) if one.key is None and one.table == name), None)
    if header is None and not known:
        if _is_inline(text, name[:-1]):
            parent = ".".join(name[:-1])
            raise CannotEdit(f"has {parent} as an inline table, which can't be extended; write it as [{parent}.NAME]")
        return _check(_append(text, name, values), expected)
    if header is None:
        raise _wrong_form(name)
    for key, value in values.items():
        if known.get(key) != value:
            text = _set(text, name, key, value)
    return _check(text, expected)


def drop(text: str, name: Name) -> str:
    """Returns the text without a table and those under it.

    Raises:
        CannotEdit: the text has the table in a form that can't be edited.
    """
    expected = read(text)
    holder = expected
    for step in name[:-1]:
        holder = holder[step]
    del holder[name[-1]]
    if not holder and len(name) > 1 and not any(one.table == name[:-1] for one in _statements(text)):
        del expected[name[0]]
    gone = [one for one in _statements(text) if one.table[: len(name)] == name]
    if not gone:
        raise _wrong_form(name)
    for one in reversed(gone):
        text = text[: one.start] + text[one.stop :]
    blank = re.search(r"(?<=\n)\r?\n$", text[: gone[0].start])
    return _check(text[: blank.start()] + text[blank.end() :] if blank else text, expected)


def _wrong_form(name: Name) -> CannotEdit:
    dotted = ".".join(name)
    return CannotEdit(f"has {dotted} in a form other than a [{dotted}] table; write it as one, or remove it")


def _is_inline(text: str, name: Name) -> bool:
    """Whether this table is an inline one, a key's value in braces."""
    return any((*one.table, *one.key) == name for one in _statements(text) if one.key)


def _check(text: str, expected: dict[str, Any]) -> str:
    try:
        if read(text) == expected:
            return text
    except CannotEdit:
        pass
    raise CannotEdit("can't be edited without changing something else")


# ---------------------------------------------------------------- scanning


def _statements(text: str) -> list[Statement]:
    found: list[Statement] = []
    at = len(BOM) if text.startswith(BOM) else 0
    table: Name = ()
    while at < len(text):
        stop = _line_end(text, at)
        line = text[at:stop].lstrip(" \t")
        begin = stop - len(line)
        if line.startswith("["):
            many = line.startswith("[[")
            table = _parts(text, begin + (2 if many else 1))
            found.append(Statement(at, stop, table, () if many else None))
        elif line.strip() and not line.startswith("#"):
            equals = _NAME.match(text, begin).end()  # type: ignore[union-attr]  # tomllib has read it
            value = (equals + 1, _value_end(text, equals + 1))
            stop = _line_end(text, value[1])
            found.append(Statement(at, stop, table, _parts(text, begin), value))
        at = stop
    return found


def _line_end(text: str, at: int) -> int:
    return text.find("\n", at) + 1 or len(text)


def _parts(text: str, at: int) -> Name:
    """The name at this position, as tomllib reads it."""
    written = _NAME.match(text, at)
    value: Any = tomllib.loads(f"{written.group() if written else ''}=0")
    parts: list[str] = []
    while isinstance(value, dict):
        ((part, value),) = value.items()
        parts.append(part)
    return tuple(parts)


def _value_end(text: str, at: int) -> int:
    """Where a value ends: before the line's end or a comment, except within brackets."""
    depth, end = 0, at
    while found := _TOKEN.match(text, at):
        token = found.group()
        if depth == 0 and (token[0] in "#\n\r"):
            break
        depth += (token in "[{") - (token in "]}")
        at = found.end()
        end = end if token.isspace() else at
    return end


# ---------------------------------------------------------------- writing


def _append(text: str, name: Name, values: Mapping[str, Any]) -> str:
    eol = "\r\n" if "\r\n" in text else "\n"
    rows = [f"[{'.'.join(map(_key, name))}]", *(f"{_key(key)} = {_literal(value)}" for key, value in values.items())]
    gap = "" if not text.strip(BOM + " \t\r\n") else ("" if text.endswith("\n") else eol) + eol
    return text + gap + eol.join(rows) + eol


def _set(text: str, name: Name, key: str, value: Any) -> str:
    statements = _statements(text)
    old = next((one for one in statements if one.table == name and one.key == (key,)), None)
    if old:
        return f"{text[: old.value[0]]} {_literal(value)}{text[old.value[1] :]}"
    header = next(one for one in statements if one.table == name and one.key is None)
    eol = "\r\n" if "\r\n" in text else "\n"
    before = text[: header.stop] if text[: header.stop].endswith("\n") else text[: header.stop] + eol
    return before + f"{_key(key)} = {_literal(value)}{eol}" + text[header.stop :]


def _key(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False)


def _literal(value: Any) -> str:
    """Strings, integers, booleans and lists of them are written in TOML as in JSON."""
    return json.dumps(value, ensure_ascii=False)
