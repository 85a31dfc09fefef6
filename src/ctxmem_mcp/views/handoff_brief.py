"""A brief for the next run, made of what the summaries tell: no model, nothing that was not said. Pure.

    Goal                    what was asked for first, and last
    The user's terms        what the user said must, mustn't or shall be
    Decisions               who took them
    Changed                 files, and what in them
    Errors                  and how each ended
    What came of it         commands that worked, results
    Open at the end         errors without an ending
    Where to look           sections with their ids
    In the user's words     what was asked for, verbatim
    Errors word for word    the newest
    The last words          of the user and of the agent, verbatim

Every line says which turn it comes from. The parts share the budget; what one doesn't need goes to the others, and what
none needs to the user's words and then to the errors'.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ctxmem_mcp.models import Highlight, HighlightKind, Node, Summary
from ctxmem_mcp.summarizers.base import CHOICE_ARROW, UNRESOLVED
from ctxmem_mcp.views.layout import Quote
from ctxmem_mcp.views.render import PREFACE, Detail, TimestampPrinter, node_lines, quote_text

Section = tuple[Node, Summary]
# An error that no line says was settled is called open only where nothing came after it that could have settled it.
OPEN_SECTIONS = 2
_EDITED = re.compile(r"([\w./@-]*\w)(?: \(([^)]*)\))?(?:, |$)")
NAMES_PER_FILE = 6


# Kept for what was said last, word for word; and how much it may have where there is room.
LAST_MESSAGES_SHARE = 0.3
LAST_MESSAGES_SHARE_MAX = 0.6
# A request is quoted where its line says less than it does by so many characters.
OMITTED_CHARS_MIN = 40


@dataclass(frozen=True, slots=True)
class Line:
    """place: the turn it comes from, and which of that turn's lines it is."""

    place: tuple[int, int]
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """lines: most wanted first. share: of the budget, before what others leave over."""

    title: str
    share: float
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class BriefQuotes:
    """What is quoted: of each side the last, in order; where room is left over, more of that (longer), then what the
    user asked for and the errors, most wanted first."""

    last: Sequence[Quote] = ()
    longer: Sequence[Quote] = ()
    asked: Sequence[Quote] = ()
    errors: Sequence[Quote] = ()


def build_brief(
    sections: Sequence[Section], words: BriefQuotes, note: str | None, budget: int, count: Callable[[str], int]
) -> str:
    """The text, never over `budget` tokens: as much of each part as fits, and the words."""
    parts, room, last = [part for part in _parts(sections) if part.lines], budget, words.last
    while True:
        taken = _taken(parts, room, count)
        text = _text(parts, taken, note) + _quotes(BriefQuotes(last))
        over = count(text) - budget
        if over <= 0:
            return _filled(_text(parts, taken, note), replace(words, last=last), budget, count)
        if room > 0:
            room -= over + 1
        elif last:
            last = last[1:]
        else:
            return PREFACE + "\n"


def _filled(text: str, words: BriefQuotes, budget: int, count: Callable[[str], int]) -> str:
    """The text with the last words, and as many of the others as there is room for."""
    kept = BriefQuotes(words.last)
    if count(text + _quotes(BriefQuotes(words.longer))) <= budget:
        kept = BriefQuotes(words.longer)
    best = text + _quotes(kept)
    left = budget - count(best)
    for quoted, of_user in [*((quoted, True) for quoted in words.asked), *((quoted, False) for quoted in words.errors)]:
        if count(quote_text(quoted, TimestampPrinter(), counting=True)) > left:
            continue
        fuller = replace(kept, asked=[*kept.asked, quoted]) if of_user else replace(kept, errors=[*kept.errors, quoted])
        longer = text + _quotes(fuller)
        if (cost := count(longer)) <= budget:
            kept, best, left = fuller, longer, budget - cost
    return best


def request_turns(sections: Sequence[Section]) -> list[tuple[int, int]]:
    """Where the user asked for something or set terms, and how many characters the lines have that tell it: the first,
    then from the newest back."""
    told: dict[int, int] = {}
    for line in _lines(sections):
        if line.role == "user" and line.kind in ("request", "decision"):
            told[line.index] = told.get(line.index, 0) + len(line.text)
    return [*list(told.items())[:1], *list(told.items())[:0:-1]]


def error_turns(sections: Sequence[Section]) -> list[tuple[int, str]]:
    """Where errors were met, and what the first line of each says, from the newest back."""
    told: dict[int, str] = {}
    for line in _lines(sections):
        if line.kind == "error":
            told.setdefault(line.index, line.text)
    return [*told.items()][::-1]


def _lines(sections: Sequence[Section]) -> list[Highlight]:
    return [line for _, summary in sections for line in summary.highlights]


def _parts(sections: Sequence[Section]) -> list[Part]:
    lines = _lines(sections)
    return [
        Part("Goal", 0.15, _goal(_of_kind(lines, "request"))),
        Part("The user's terms", 0.1, _newest(_terms(lines))),
        Part("Decisions", 0.08, _newest(_decisions(lines))),
        Part("Changed", 0.08, _changed(lines)),
        Part("Errors, and how each ended", 0.22, _errors(lines)),
        Part("What came of it", 0.03, _newest(_of_kind(lines, "outcome"))),
        Part("Open at the end", 0.04, _open(sections[-OPEN_SECTIONS:])),
        Part("Where to look (expand_node)", 0.1, _where(sections)),
    ]


def _of_kind(lines: Sequence[Highlight], kind: HighlightKind) -> list[Highlight]:
    return [line for line in lines if line.kind == kind]


def _told(highlight: Highlight, number: int) -> Line:
    return Line((highlight.index, number), f"- {highlight.text} (t{highlight.index} {highlight.role})")


def _newest(lines: Iterable[Highlight]) -> list[Line]:
    """Newest first; what was said in the same words before is told once, where it was said last."""
    told = [(number, line) for number, line in enumerate(lines)]
    last = {line.text: number for number, line in told}
    return [_told(line, number) for number, line in reversed(told) if last[line.text] == number]


def _goal(requests: Sequence[Highlight]) -> list[Line]:
    """The first request, then the others from the newest back."""
    return [*map(_told, requests[:1], [0]), *_newest(requests[1:])]


def _terms(lines: Iterable[Highlight]) -> list[Highlight]:
    return [line for line in lines if line.kind == "decision" and line.role == "user" and CHOICE_ARROW not in line.text]


def _decisions(lines: Iterable[Highlight]) -> list[Highlight]:
    return [line for line in lines if line.kind == "decision" and (line.role != "user" or CHOICE_ARROW in line.text)]


def _changed(lines: Iterable[Highlight]) -> list[Line]:
    """Each file once, with what was changed in it and the last turn that did, the last changed first."""
    names: dict[str, dict[str, None]] = {}
    last: dict[str, int] = {}
    for line in lines:
        if line.kind != "file" or not line.text.startswith("Edited "):
            continue
        for file, within in _EDITED.findall(line.text.removeprefix("Edited ")):
            names.setdefault(file, {}).update(dict.fromkeys(filter(None, within.split(", "))))
            last[file] = line.index
    told = {file: f" ({', '.join(list(found)[:NAMES_PER_FILE])})" if found else "" for file, found in names.items()}
    newest = sorted(last, key=lambda file: -last[file])
    return [Line((last[file], number), f"- {file}{told[file]} (t{last[file]})") for number, file in enumerate(newest)]


def _with_next(lines: Sequence[Highlight]) -> Iterator[tuple[int, Highlight, Highlight | None]]:
    """Each line with its number and the one behind it."""
    for number, line in enumerate(lines):
        yield number, line, lines[number + 1] if number + 1 < len(lines) else None


def _errors(lines: Sequence[Highlight]) -> list[Line]:
    """The first error of each turn that reports some, and how it ended, the newest first; then those turns' others."""
    good = [line for line in lines if line.kind == "outcome" and line.role == "tool"]
    firsts: list[list[Line]] = []
    others: list[Line] = []
    for number, line, after in _with_next(lines):
        if line.kind != "error":
            continue
        if number and lines[number - 1].kind == "error" and lines[number - 1].index == line.index:
            others.append(_told(line, number))
        else:
            firsts.append([_told(line, number)])
        if after is not None and after.kind == "ending":
            firsts[-1].append(Line((line.index, number + 1), _ended(line, after, good)))
    return [told for first in reversed(firsts) for told in first] + others[::-1]


def _ended(error: Highlight, ending: Highlight, good: Sequence[Highlight]) -> str:
    """How an error ended, where its section says so; else the first good news that came later. good: what tools
    reported, in order."""
    later = bisect_right(good, error.index, key=lambda line: line.index) if ending.text == UNRESOLVED else len(good)
    if later < len(good):
        return f"  later: {good[later].text} (t{good[later].index})"
    return f"  ended: {ending.text} (t{ending.index})"


def _open(sections: Sequence[Section]) -> list[Line]:
    found: list[Line] = []
    for _, summary in sections:
        for number, line, after in _with_next(summary.highlights):
            settled = after is not None and after.kind in ("ending", "error")
            if (line.kind == "error" and not settled) or (line.kind == "ending" and line.text == UNRESOLVED):
                found.append(_told(line, number))
    return found[::-1]


def _where(sections: Sequence[Section]) -> list[Line]:
    """The sections, the newest first; the open tail has no id of its own."""
    return [
        Line((node.first, 0), "- " + node_lines(node, Detail.LINES, "", lambda _, s=summary: s).strip())  # type: ignore[misc]
        for node, summary in reversed(sections)
        if node.digest
    ]


# ---------------------------------------------------------------- fitting


def _taken(parts: Sequence[Part], budget: int, count: Callable[[str], int]) -> list[int]:
    """How many lines of each part fit: its share first, then what the others leave over, part by part."""
    taken, left = [0] * len(parts), round(budget * (1 - LAST_MESSAGES_SHARE))
    for i, part in enumerate(parts):
        room = round(budget * part.share)
        while taken[i] < len(part.lines) and (cost := count(part.lines[taken[i]].text + "\n")) <= room:
            room, left, taken[i] = room - cost, left - cost, taken[i] + 1
    growing = True
    while growing:
        growing = False
        for i, part in enumerate(parts):
            if taken[i] < len(part.lines) and (cost := count(part.lines[taken[i]].text + "\n")) <= left:
                left, taken[i], growing = left - cost, taken[i] + 1, True
    return taken


def _text(parts: Sequence[Part], taken: Sequence[int], note: str | None) -> str:
    out = [PREFACE]
    if note:
        out += ["", *note_lines(note)]
    for part, lines in zip(parts, taken, strict=True):
        if lines:
            out += ["", part.title, *(line.text for line in sorted(part.lines[:lines], key=lambda line: line.place))]
        if lines and (more := sum(line.text.startswith("-") for line in part.lines[lines:])):
            out.append(f"  ({more} more: ask get_context)")
    return "\n".join(out) + "\n"


def note_lines(note: str) -> list[str]:
    """The note's lines, as the brief has them."""
    return ["Note", *(f"- {line}" for line in note.splitlines() if line.strip())]


def _quotes(words: BriefQuotes) -> str:
    timestamps, out = TimestampPrinter(), ""
    for title, quotes in (
        ("In the user's words", words.asked),
        ("Errors word for word", words.errors),
        ("The last words", words.last),
    ):
        if quotes:
            in_order = sorted(quotes, key=lambda quoted: quoted.turn.index)
            out += f"\n{title}\n" + "".join(quote_text(quoted, timestamps, counting=True) for quoted in in_order)
    return out
