"""A brief for the next run, made of what the summaries tell: no model, nothing that was not said. Pure.

    Goal                    what was asked for first, and last
    The user's terms        what the user said must, mustn't or shall be
    Decisions               who took them
    Changed                 files, and what in them
    Errors                  and how each ended
    What came of it         commands that worked, results
    Open at the end         errors without an ending, then the last words verbatim
    Where to look           sections with their ids

Every line says which turn it comes from. The parts share the budget; what one doesn't need goes to the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from ctxmem_mcp.model import Highlight, Node, Summary
from ctxmem_mcp.recall.layout import Quoted
from ctxmem_mcp.recall.rendering import PREFACE, Clock, Detail, node_lines, quoted_text
from ctxmem_mcp.summarizers.contract import STILL_OPEN

Section = tuple[Node, Summary]
# An error that no line says was settled is called open only where nothing came after it that could have settled it.
OPEN_SECTIONS = 2
_EDITED = re.compile(r"([\w./@-]*\w)(?: \(([^)]*)\))?(?:, |$)")
NAMES_PER_FILE = 6


@dataclass(slots=True)
class Part:
    """lines: most wanted first. share: of the budget, before what others leave over. keys: places in the history."""

    title: str
    share: float
    lines: list[tuple[int, str]] = field(default_factory=list)


def brief(
    sections: Sequence[Section],
    last_words: Sequence[Quoted],
    note: str | None,
    budget: int,
    count: Callable[[str], int],
) -> str:
    """The text, never over `budget` tokens: as much of each part as fits, and the last words."""
    parts, room = [part for part in _parts(sections) if part.lines], budget
    while True:
        text = _text(parts, _taken(parts, room, count), last_words, note)
        over = count(text) - budget
        if over <= 0:
            return text
        if room > 0:
            room -= over + 1
        elif last_words:
            last_words = last_words[1:]
        else:
            return PREFACE + "\n"


# Kept for what was said last, word for word.
LAST_WORDS_SHARE = 0.3


def _parts(sections: Sequence[Section]) -> list[Part]:
    lines = [line for _, summary in sections for line in summary.highlights]
    return [
        Part("Goal", 0.12, _goal([line for line in lines if line.kind == "request"])),
        Part("The user's terms", 0.1, _told(_terms(lines))),
        Part("Decisions", 0.08, _told(_decisions(lines))),
        Part("Changed", 0.08, _changed(lines)),
        Part("Errors, and how each ended", 0.22, _errors(lines)),
        Part("What came of it", 0.05, _told([line for line in lines if line.kind == "outcome"])),
        Part("Open at the end", 0.04, _open(sections[-OPEN_SECTIONS:])),
        Part("Where to look (expand_node)", 0.1, _where(sections)),
    ]


def _line(highlight: Highlight) -> str:
    return f"- {highlight.text} (t{highlight.index} {highlight.role})"


def _told(lines: Iterable[Highlight]) -> list[tuple[int, str]]:
    """Newest first."""
    return [(line.index, _line(line)) for line in sorted(lines, key=lambda line: -line.index)]


def _goal(requests: Sequence[Highlight]) -> list[tuple[int, str]]:
    """The first request, then the newest, then the others from the newest back."""
    return _told(requests[:1]) + _told(requests[1:])


def _terms(lines: Iterable[Highlight]) -> list[Highlight]:
    return [line for line in lines if line.kind == "decision" and line.role == "user" and " → " not in line.text]


def _decisions(lines: Iterable[Highlight]) -> list[Highlight]:
    return [line for line in lines if line.kind == "decision" and (line.role != "user" or " → " in line.text)]


def _changed(lines: Iterable[Highlight]) -> list[tuple[int, str]]:
    """Each file once, with what was changed in it and the last turn that did."""
    names: dict[str, dict[str, None]] = {}
    last: dict[str, int] = {}
    for line in lines:
        if line.kind != "file" or not line.text.startswith("Edited "):
            continue
        for file, within in _EDITED.findall(line.text.removeprefix("Edited ")):
            names.setdefault(file, {}).update(dict.fromkeys(filter(None, within.split(", "))))
            last[file] = line.index
    told = {file: f" ({', '.join(list(found)[:NAMES_PER_FILE])})" if found else "" for file, found in names.items()}
    return [(last[file], f"- {file}{told[file]} (t{last[file]})") for file in sorted(last, key=lambda f: -last[f])]


def _errors(lines: Sequence[Highlight]) -> list[tuple[int, str]]:
    """Errors with their endings, the newest first."""
    found: list[tuple[int, str]] = []
    for line, after in zip_longest(lines, lines[1:]):
        if line.kind == "error":
            found.append((line.index, _line(line) + _ended(line, after, lines)))
    return found[::-1]


def _ended(error: Highlight, after: Highlight | None, lines: Sequence[Highlight]) -> str:
    """How an error ended, where its section says so; else the first good news from a tool that came later."""
    if after is None or after.kind != "ending":
        return ""
    if after.text != STILL_OPEN:
        return f"\n  ended: {after.text} (t{after.index})"
    later = next((o for o in lines if o.kind == "outcome" and o.role == "tool" and o.index > error.index), None)
    return f"\n  later: {later.text} (t{later.index})" if later else f"\n  ended: {after.text} (t{after.index})"


def _open(sections: Sequence[Section]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for _, summary in sections:
        lines = summary.highlights
        for line, after in zip_longest(lines, lines[1:]):
            settled = after is not None and after.kind in ("ending", "error")
            if (line.kind == "error" and not settled) or (line.kind == "ending" and line.text == STILL_OPEN):
                found.append((line.index, _line(line)))
    return found[::-1]


def _where(sections: Sequence[Section]) -> list[tuple[int, str]]:
    """The sections, the newest first; the open tail has no id of its own."""
    return [
        (node.first, "- " + node_lines(node, Detail.LINES, "", lambda _, s=summary: s).strip())  # type: ignore[misc]
        for node, summary in reversed(sections)
        if node.digest
    ]


# ---------------------------------------------------------------- fitting


def _taken(parts: Sequence[Part], budget: int, count: Callable[[str], int]) -> list[int]:
    """How many lines of each part fit: its share first, then what the others leave over, part by part."""
    taken, left = [0] * len(parts), round(budget * (1 - LAST_WORDS_SHARE))
    for i, part in enumerate(parts):
        room = round(budget * part.share)
        while taken[i] < len(part.lines) and (cost := count(part.lines[taken[i]][1] + "\n")) <= room:
            room, left, taken[i] = room - cost, left - cost, taken[i] + 1
    growing = True
    while growing:
        growing = False
        for i, part in enumerate(parts):
            if taken[i] < len(part.lines) and (cost := count(part.lines[taken[i]][1] + "\n")) <= left:
                left, taken[i], growing = left - cost, taken[i] + 1, True
    return taken


def _text(parts: Sequence[Part], taken: Sequence[int], last_words: Sequence[Quoted], note: str | None) -> str:
    out = [PREFACE]
    if note:
        out += ["", "Note", *(f"- {line}" for line in note.splitlines() if line.strip())]
    for part, lines in zip(parts, taken, strict=True):
        if lines:
            out += ["", part.title, *(text for _, text in sorted(part.lines[:lines]))]
        if 0 < lines < len(part.lines):
            out.append(f"  ({len(part.lines) - lines} more: ask get_context)")
    words = "".join(quoted_text(quoted, clock) for clock in [Clock()] for quoted in last_words)
    return "\n".join(out) + "\n" + (f"\nThe last words\n{words}" if words else "")
