"""Reads a view back by its grammar alone, as a careful program would: what is ours, what is quoted."""

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
    """kind: turn, folded, gap or opened; first..last: the turns it speaks of; words: what is quoted."""

    kind: str
    first: int
    last: int
    words: list[str] = field(default_factory=list)
    cut: bool = False


def read(text: str) -> list[Part]:
    parts: list[Part] = []
    lines = text.split("\n")[1:-1]
    at = 0
    while at < len(lines):
        part, counted = _ours(lines[at], parts)
        at += 1
        if part is not None:
            parts.append(part)
        if counted is not None:
            parts[-1].words += lines[at : at + counted]
            at += counted
            continue
        while at < len(lines) and not re.match(r"[ \t]*\[(?:[tn]\d|…)", lines[at]):
            parts[-1].words.append(lines[at])
            at += 1
    return parts


def _ours(line: str, parts: list[Part]) -> tuple[Part | None, int | None]:
    if m := _TURN.fullmatch(line):
        return Part("turn", int(m[1]), int(m[1])), int(m[5]) if m[5] else None
    if m := _CUT.fullmatch(line):
        assert parts[-1].first == int(m[1])
        parts[-1].cut = True
        return None, int(m[3]) if m[3] else None
    if m := _GAP.fullmatch(line):
        return Part("gap", int(m[1]), int(m[2] or m[1])), None
    if m := _SPAN.fullmatch(line):
        return Part("folded", int(m[1]), int(m[2])), None
    m = _NODE.fullmatch(line)
    assert m is not None, f"not a line of ours: {line!r}"
    return Part("folded" if m[4] else "opened", int(m[1]), int(m[2])), None


def told(parts: list[Part]) -> list[int]:
    """The turns that the parts account for, in their order."""
    return [i for part in parts if part.kind != "opened" for i in range(part.first, part.last + 1)]
