"""Strategies for JSON objects in the styles that people write: with comments, trailing commas, odd blanks."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

_scalars = st.none() | st.booleans() | st.integers(-999, 999) | st.floats(allow_nan=False, allow_infinity=False)
_words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
values = st.recursive(
    _scalars | _words | st.sampled_from(["// no comment", "/*", "*/", '"', "\\", "}", ",]", "ctxmem-mcp"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(_words, values, max_size=4)
_blanks = st.lists(
    st.sampled_from(
        ["", " ", "\t", "\n", "\n  ", "\r\n", "\r\n\t", " // c }\n", "/* { */", "/*\n*/", "  ", "// é\r\n"]
    ),
    max_size=2,
).map("".join)


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """A value's text."""
    if isinstance(value, dict):
        inner = [f"{draw(_string(k))}{draw(_blanks)}:{draw(_blanks)}{draw(written(v))}" for k, v in value.items()]
        return draw(_list(inner, "{}"))
    if isinstance(value, list):
        return draw(_list([draw(written(one)) for one in value], "[]"))
    return draw(_string(value)) if isinstance(value, str) else json.dumps(value)


def _string(value: str) -> st.SearchStrategy[str]:
    return st.booleans().map(lambda plain: json.dumps(value, ensure_ascii=not plain))


@st.composite
def _list(draw: st.DrawFn, inner: list[str], brackets: str) -> str:
    parts = [f"{draw(_blanks)}{one}{draw(_blanks)}" for one in inner]
    trails = draw(st.booleans())
    ending = "," if parts and trails else ""
    return f"{brackets[0]}{','.join(parts)}{ending}{draw(_blanks)}{brackets[1]}"


@st.composite
def texts(draw: st.DrawFn, of: st.SearchStrategy[Any] = objects) -> tuple[str, Any]:
    """A whole file and its value."""
    value = draw(of)
    bom = draw(st.sampled_from(["", "", "\ufeff"]))
    return f"{bom}{draw(_blanks)}{draw(written(value))}{draw(_blanks)}", value
