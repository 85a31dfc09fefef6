"""Makes characters visible that a terminal would obey instead of showing.

Stored text is not trusted: it may clear the terminal or change its title, write to the clipboard, or reorder what a
person reads.
"""

from __future__ import annotations

import re

# Control characters other than tabs and line ends, bidirectional marks, overrides and isolates, line and paragraph
# separators, and the invisible tag characters. A carriage return is harmless only as a part of a line end.
_OBEYED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]|\r(?!\n)"
)


def visible(text: str) -> str:
    """Returns the text with such characters written as in Python source: \\x1b, \\u202e."""
    return _OBEYED.sub(_python_escape, text)


def visible_json(json_text: str) -> str:
    """Returns JSON of the same value with such characters escaped."""
    return _OBEYED.sub(_json_escape, json_text)


def _python_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
