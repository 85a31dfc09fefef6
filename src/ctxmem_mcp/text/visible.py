"""Makes characters visible that a terminal would obey instead of showing.

Stored text is not trusted: it may clear the terminal or change its title, write to the clipboard, or reorder what a
person reads.
"""

from __future__ import annotations

import re

from ctxmem_mcp.patterns import lazy_regex

# Control characters other than tabs and line ends, line and paragraph separators, and Unicode's invisible format
# characters (category Cf). A carriage return is harmless only as a part of a line end.
_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029"
_FORMATS = (
    "\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
# Joiners between two characters beyond ASCII are part of how emoji, Persian and Indic words are written.
_JOINERS = "\u200c\u200d"
_JOINED = f"[^\x00-\x7f{_CONTROLS}{_FORMATS}{_JOINERS}]"
_OBEYED = lazy_regex(f"[{_CONTROLS}{_FORMATS}]|\r(?!\n)|(?<!{_JOINED})[{_JOINERS}]|[{_JOINERS}](?!{_JOINED})")


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
