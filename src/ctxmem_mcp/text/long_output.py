"""Shortens a long output of a command to its beginning, its end, and the lines that report errors. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ctxmem_mcp.patterns import lazy_regex

# Shares of the room: for the beginning and the end. The rest, and what these leave, is for errors.
BEGINNING_SHARE, END_SHARE = 0.15, 0.25
# Errors that don't fit may take as much again: an output is better too long than without its failures.
ROOM_FOR_ERRORS = 1.0
# Not worth the loss if more than this share would stay.
SHARE_MAX = 0.8
LINE_CHARS_MAX = 400
# The lines beside one that reports an error: what a compiler points at.
_BEFORE, _AFTER = 1, 3
_ERROR = lazy_regex(
    r"\berr(?:or|no)?\b|error[\[:(]|\w(?:Error|Exception)\b|\bfail(?:ed|s|ure|ures|ing)?\b|\bpanick?|\bfatal\b|"
    r"traceback|undefined|unresolved|cannot |can't |could not |not found|no such |denied|refused|timed out|abort|"
    r"segmentation|\bnot ok\b|[✗✖×❌]|^E  |exit (?:code|status) [1-9]|\bassert|npm ERR!",
    re.IGNORECASE,
)  # fmt: skip
_NUMBER = lazy_regex(r"\d+")
_NOTE_START = "[ctxmem-mcp: "


def shorten_output(text: str, chars: int, note: str) -> str:
    """Returns an output in about so many characters; whole if shortening would leave most of it.

    Args:
        text: the output.
        chars: the room for its lines. Lines that report errors may take as much again.
        note: a line about where all of it is, which follows it.
    """
    lines = [_cut(line) for line in text.split("\n")]
    kept: set[int] = set()
    count = len(lines)
    left = chars
    left -= _take(range(count), lines, round(chars * BEGINNING_SHARE), kept)
    left -= _take(range(count - 1, -1, -1), lines, round(chars * END_SHARE), kept)
    errors = [at for at, line in enumerate(lines) if _ERROR.search(line)]
    left -= _take(_distinct(errors, lines), lines, left + round(chars * ROOM_FOR_ERRORS), kept)
    around = (at for error in errors for at in range(error - _BEFORE, error + _AFTER + 1) if 0 <= at < count)
    _take(around, lines, left, kept, skip=True)
    hidden = sum(at not in kept for at in errors)
    short = "\n".join([*_with_gaps(lines, kept), f"{_NOTE_START}{_counts(len(kept), count, hidden)} {note}]"])
    return short if len(short) <= SHARE_MAX * len(text) else text


def is_shortened(text: str) -> bool:
    """Returns whether a text is what `shorten_output` made of a longer one."""
    return text.rstrip().rpartition("\n")[2].startswith(_NOTE_START)


def _cut(line: str) -> str:
    """Returns a line that is too long, without its middle."""
    if len(line) <= LINE_CHARS_MAX:
        return line
    half = LINE_CHARS_MAX // 2
    return f"{line[:half]} … {len(line) - 2 * half} characters … {line[-half:]}"


def _take(order: Iterable[int], lines: Sequence[str], room: int, kept: set[int], *, skip: bool = False) -> int:
    """Keeps lines in this order while there is room; returns the characters. skip: lines that don't fit are skipped."""
    spent = 0
    for at in order:
        size = len(lines[at]) + 1
        if at in kept:
            continue
        if spent + size > room:
            if skip:
                continue
            break
        kept.add(at)
        spent += size
    return spent


def _distinct(errors: Sequence[int], lines: Sequence[str]) -> Iterator[int]:
    """Yields the errors, those first that differ from all before in more than numbers."""
    seen: set[str] = set()
    repeated: list[int] = []
    for at in errors:
        key = _NUMBER.sub("0", lines[at].strip())
        if key in seen:
            repeated.append(at)
        else:
            seen.add(key)
            yield at
    yield from repeated


def _with_gaps(lines: Sequence[str], kept: set[int]) -> Iterator[str]:
    before = -1
    for at in [*sorted(kept), len(lines)]:
        if at - before > 1:
            yield f"[… {at - before - 1} lines …]"
        if at < len(lines):
            yield lines[at]
        before = at


def _counts(shown: int, count: int, hidden: int) -> str:
    errors = f", without {hidden} lines that may report errors" if hidden else ""
    return f"{shown} of {count} lines{errors}."
