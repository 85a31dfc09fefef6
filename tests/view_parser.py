"""Parses a view by its grammar alone, as a careful program would: which lines are markers, which are quoted."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TURN = re.compile(
    r"\[t(\d+)-(\d{3}) (user|assistant|system|tool)((?: (?!· \d+ lines\])[^\s\]]+)*)(?: · (\d+) lines)?\]"
)
_NODE = re.compile(r" *\[n(\d+)-(\d+)-(\d{3})( [\d.]+k?)?\](.*)")
_SPAN = re.compile(r" *\[t(\d+)-t(\d+) [\d.]+k?\](.*)")
_GAP = re.compile(r"\[… t(\d+)(?:-t(\d+))? [\d.]+k?\]")
_CUT = re.compile(r"\[… t(\d+)-(\d{3}) [\d.]+k?(?: · (\d+) lines)?\]")


@dataclass
class Part:
    """A part of a view.

    Attributes:
        kind: turn, collapsed, gap or expanded.
        first, last: the turns it covers (indexes, inclusive).
        lines: the quoted text.
        cut: the quote has gaps.
    """

    kind: str
    first: int
    last: int
    lines: list[str] = field(default_factory=list)
    cut: bool = False


def parse_view(text: str) -> list[Part]:
    parts: list[Part] = []
    lines = text.split("\n")[1:-1]
    at = 0
    while at < len(lines):
        part, quoted_lines = _parse_marker(lines[at], parts)
        at += 1
        if part is not None:
            parts.append(part)
        if quoted_lines is not None:
            parts[-1].lines += lines[at : at + quoted_lines]
            at += quoted_lines
            continue
        while at < len(lines) and not re.match(r"[ \t]*\[(?:[tn]\d|…)", lines[at]):
            parts[-1].lines.append(lines[at])
            at += 1
    return parts


def _parse_marker(line: str, parts: list[Part]) -> tuple[Part | None, int | None]:
    if m := _TURN.fullmatch(line):
        return Part("turn", int(m[1]), int(m[1])), int(m[5]) if m[5] else None
    if m := _CUT.fullmatch(line):
        assert parts[-1].first == int(m[1])
        parts[-1].cut = True
        return None, int(m[3]) if m[3] else None
    if m := _GAP.fullmatch(line):
        return Part("gap", int(m[1]), int(m[2] or m[1])), None
    if m := _SPAN.fullmatch(line):
        return Part("collapsed", int(m[1]), int(m[2])), None
    m = _NODE.fullmatch(line)
    assert m is not None, f"not a marker: {line!r}"
    return Part("collapsed" if m[4] else "expanded", int(m[1]), int(m[2])), None


def turns_in(parts: list[Part]) -> list[int]:
    """Returns the indexes of the turns that the parts account for, in the parts' order."""
    return [i for part in parts if part.kind != "expanded" for i in range(part.first, part.last + 1)]
