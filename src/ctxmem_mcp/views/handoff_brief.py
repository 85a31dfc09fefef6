"""Builds a brief for the next run from the summaries: no model, and nothing that is not in the conversation. Pure.

    Standing instructions   what the user asked for once and for all, verbatim
    Goal                    the first request and the latest ones
    Other requests          those between them
    The user's terms        requirements and constraints that the user stated
    Decisions               each with who made it
    Changed                 files, and what changed in them
    Errors                  each with how it ended
    What came of it         successful commands, results
    Open at the end         errors without an ending
    Where to look           sections with their ids
    In the user's words     the requests, verbatim
    Errors word for word    the newest errors, verbatim
    The last words          the last message of the user and of the agent, verbatim

Each line names its turn. The parts share the budget. Tokens that a part does not need are available to the others; the
remainder is for quotes of the user's requests and then of the errors.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ctxmem_mcp.models import Highlight, HighlightKind, Node, Summary
from ctxmem_mcp.summarizers.base import CHOICE_ARROW, UNRESOLVED
from ctxmem_mcp.summarizers.requests import is_weak
from ctxmem_mcp.summarizers.sentence_scoring import score_resolution
from ctxmem_mcp.views.layout import Quote
from ctxmem_mcp.views.render import PREFACE, Detail, TimestampPrinter, node_lines, quote_text

Section = tuple[Node, Summary]
# An error without an ending counts as open only in the last sections: later turns may have fixed an earlier one.
OPEN_SECTIONS = 2
_EDITED = re.compile(r"([\w./@-]*\w)(?: \(([^)]*)\))?(?:, |$)")
NAMES_PER_FILE_MAX = 6
# The goal is the first request and this many of the latest.
LATEST_REQUESTS_MAX = 3
# An outcome in the agent's words settles the errors before it if it scores this much as a resolution.
RESOLUTION_MIN = 2.0


# The share of the budget set aside for the last messages, and the maximum share if there is room.
LAST_MESSAGES_SHARE = 0.3
LAST_MESSAGES_SHARE_MAX = 0.6
# The share of the budget for the user's standing instructions, which come first.
STANDING_SHARE = 0.08
# A request is quoted if its highlight is shorter by more than this many characters.
OMITTED_CHARS_MIN = 40


@dataclass(frozen=True, slots=True)
class BriefLine:
    """A line of the brief. place: the turn that it comes from, and its number among the highlights."""

    place: tuple[int, int]
    text: str


@dataclass(frozen=True, slots=True)
class BriefPart:
    """A part of the brief. share: its share of the budget, before others' remainders. lines: most important first."""

    title: str
    share: float
    lines: list[BriefLine]


@dataclass(frozen=True, slots=True)
class BriefQuotes:
    """The verbatim parts of a brief.

    Attributes:
        last: The last message of the user and of the agent, in order.
        extended: The same with more of their text, shown if there is room.
        requests: The user's requests, most important first, shown if there is room.
        errors: Errors, most important first, shown if there is room after the requests.
        standing: The user's standing instructions, newest first; the first part of the brief.
    """

    last: Sequence[Quote] = ()
    extended: Sequence[Quote] = ()
    requests: Sequence[Quote] = ()
    errors: Sequence[Quote] = ()
    standing: Sequence[Quote] = ()


def build_brief(
    sections: Sequence[Section], quotes: BriefQuotes, note: str | None, budget: int, count: Callable[[str], int]
) -> str:
    """Builds the text of a brief.

    Args:
        sections: The nodes of the branch with their summaries, in order.
        quotes: The verbatim parts.
        note: A note of the agent to include at the top.
        budget: Maximum tokens of the text.
        count: Counts tokens.

    Returns:
        As much of each part as fits.
    """
    room, last = budget, quotes.last
    parts = [part for part in (_standing_part(quotes.standing), *_parts(sections)) if part.lines]
    while True:
        taken = _select_lines(parts, room, count)
        text = _parts_text(parts, taken, note) + _quotes_text(BriefQuotes(last))
        over = count(text) - budget
        if over <= 0:
            return _add_quotes(_parts_text(parts, taken, note), replace(quotes, last=last), budget, count)
        if room > 0:
            room -= over + 1
        elif last:
            last = last[1:]
        else:
            return PREFACE + "\n"


def _add_quotes(text: str, quotes: BriefQuotes, budget: int, count: Callable[[str], int]) -> str:
    """The text with the last messages and as many of the other quotes as fit."""
    chosen = BriefQuotes(quotes.last)
    if count(text + _quotes_text(BriefQuotes(quotes.extended))) <= budget:
        chosen = BriefQuotes(quotes.extended)
    best = text + _quotes_text(chosen)
    left = budget - count(best)
    for quote, is_request in [
        *((quote, True) for quote in quotes.requests),
        *((quote, False) for quote in quotes.errors),
    ]:
        if count(quote_text(quote, TimestampPrinter(), always_count=True)) > left:
            continue
        if is_request:
            more = replace(chosen, requests=[*chosen.requests, quote])
        else:
            more = replace(chosen, errors=[*chosen.errors, quote])
        longer = text + _quotes_text(more)
        if (cost := count(longer)) <= budget:
            chosen, best, left = more, longer, budget - cost
    return best


def request_turns(sections: Sequence[Section]) -> list[tuple[int, int]]:
    """Returns the turns with requests and terms of the user, and the total characters of their highlights.

    The first such turn comes first, then the others from the newest back.
    """
    chars: dict[int, int] = {}
    for line in _lines(sections):
        if line.role == "user" and line.kind in ("request", "decision"):
            chars[line.index] = chars.get(line.index, 0) + len(line.text)
    return [*list(chars.items())[:1], *list(chars.items())[:0:-1]]


def error_turns(sections: Sequence[Section]) -> list[tuple[int, str]]:
    """Returns the turns with errors and the first error highlight of each, from the newest back."""
    errors: dict[int, str] = {}
    for line in _lines(sections):
        if line.kind == "error":
            errors.setdefault(line.index, line.text)
    return [*errors.items()][::-1]


def _lines(sections: Sequence[Section]) -> list[Highlight]:
    return [line for _, summary in sections for line in summary.highlights]


def _standing_part(quotes: Sequence[Quote]) -> BriefPart:
    """The user's standing instructions, each in the user's own words with its turn's id."""
    lines = [
        BriefLine(
            (quote.turn.index, span.start),
            f"- {quote.turn.content[span.start : span.stop]} ({quote.turn.short} {quote.turn.role})",
        )
        for quote in quotes
        for span in quote.spans
    ]
    return BriefPart("Standing instructions", STANDING_SHARE, lines)


def _parts(sections: Sequence[Section]) -> list[BriefPart]:
    lines = _lines(sections)
    requests = [line for line in _of_kind(lines, "request") if not is_weak(line.text)]
    first, others = list(map(_brief_line, requests[:1], [0])), _newest_first(requests[1:])
    return [
        BriefPart("Goal", 0.15, first + others[:LATEST_REQUESTS_MAX]),
        BriefPart("Other requests", 0.02, others[LATEST_REQUESTS_MAX:]),
        BriefPart("The user's terms", 0.1, _newest_first(_terms(lines))),
        BriefPart("Decisions", 0.08, _newest_first(_decisions(lines))),
        BriefPart("Changed", 0.08, _changed_file_lines(lines)),
        BriefPart("Errors, and how each ended", 0.22, _error_lines(lines)),
        BriefPart("What came of it", 0.03, _newest_first(_of_kind(lines, "outcome"))),
        BriefPart("Open at the end", 0.04, _open_error_lines(sections[-OPEN_SECTIONS:])),
        BriefPart("Where to look (expand_node)", 0.1, _section_lines(sections)),
    ]


def _of_kind(lines: Sequence[Highlight], kind: HighlightKind) -> list[Highlight]:
    return [line for line in lines if line.kind == kind]


def _brief_line(highlight: Highlight, number: int) -> BriefLine:
    return BriefLine((highlight.index, number), f"- {highlight.text} (t{highlight.index} {highlight.role})")


def _newest_first(lines: Iterable[Highlight]) -> list[BriefLine]:
    """The newest first; of highlights with the same text only the newest."""
    numbered = list(enumerate(lines))
    last = {line.text: number for number, line in numbered}
    return [_brief_line(line, number) for number, line in reversed(numbered) if last[line.text] == number]


def _terms(lines: Iterable[Highlight]) -> list[Highlight]:
    return [line for line in lines if line.kind == "decision" and line.role == "user" and CHOICE_ARROW not in line.text]


def _decisions(lines: Iterable[Highlight]) -> list[Highlight]:
    return [line for line in lines if line.kind == "decision" and (line.role != "user" or CHOICE_ARROW in line.text)]


def _changed_file_lines(lines: Iterable[Highlight]) -> list[BriefLine]:
    """Each file once, with the names changed in it and the last turn that did so; the last changed file first."""
    names: dict[str, dict[str, None]] = {}
    last: dict[str, int] = {}
    for line in lines:
        if line.kind != "file" or not line.text.startswith("Edited "):
            continue
        for file, names_changed in _EDITED.findall(line.text.removeprefix("Edited ")):
            names.setdefault(file, {}).update(dict.fromkeys(filter(None, names_changed.split(", "))))
            last[file] = line.index
    listed = {file: ", ".join(list(found)[:NAMES_PER_FILE_MAX]) for file, found in names.items()}
    newest = sorted(last, key=lambda file: -last[file])
    return [
        BriefLine((last[file], number), f"- {file}{f' ({listed[file]})' if listed[file] else ''} (t{last[file]})")
        for number, file in enumerate(newest)
    ]


def _with_next(lines: Sequence[Highlight]) -> Iterator[tuple[int, Highlight, Highlight | None]]:
    """Each highlight with its number and its successor."""
    for number, line in enumerate(lines):
        yield number, line, lines[number + 1] if number + 1 < len(lines) else None


def _error_lines(lines: Sequence[Highlight]) -> list[BriefLine]:
    """The first error of each turn with its ending, newest first; then the turns' other errors."""
    good_news = [line for line in lines if line.kind == "outcome" and line.role == "tool"]
    firsts: list[list[BriefLine]] = []
    others: list[BriefLine] = []
    for number, line, after in _with_next(lines):
        if line.kind != "error":
            continue
        if number and lines[number - 1].kind == "error" and lines[number - 1].index == line.index:
            others.append(_brief_line(line, number))
        else:
            firsts.append([_brief_line(line, number)])
        if after is not None and after.kind == "ending":
            firsts[-1].append(BriefLine((line.index, number + 1), _ending_line(line, after, good_news)))
    return [line for first in reversed(firsts) for line in first] + others[::-1]


def _ending_line(error: Highlight, ending: Highlight, good_news: Sequence[Highlight]) -> str:
    """How an error ended, according to its section; else the first good news after it.

    good_news: outcomes that tools reported, in order.
    """
    later = len(good_news)
    if ending.text == UNRESOLVED:
        later = bisect_right(good_news, error.index, key=lambda line: line.index)
    if later < len(good_news):
        return f"  later: {good_news[later].text} (t{good_news[later].index})"
    return f"  ended: {ending.text} (t{ending.index})"


def _open_error_lines(sections: Sequence[Section]) -> list[BriefLine]:
    """The errors that a section calls unresolved and that nothing later settles, newest first.

    Of an error without an ending nothing is known: most are calls that the tool refused.
    """
    lines = _lines(sections)
    settled = max((line.index for line in lines if _settles_errors(line)), default=-1)
    found = [
        _brief_line(line, number)
        for number, line, after in _with_next(lines)
        if line.kind == "error" and after and after.kind == "ending" and after.text == UNRESOLVED
        and line.index > settled
    ]  # fmt: skip
    return found[::-1]


def _settles_errors(line: Highlight) -> bool:
    """Whether an outcome is a success that a tool reports, or in the agent's words a resolution."""
    return line.kind == "outcome" and (line.role == "tool" or score_resolution(line.text) >= RESOLUTION_MIN)


def _section_lines(sections: Sequence[Section]) -> list[BriefLine]:
    """The sections, newest first, without the open tail, which has no id."""
    return [
        BriefLine((node.first, 0), "- " + node_lines(node, Detail.LINES, "", lambda _, s=summary: s).strip())  # type: ignore[misc]
        for node, summary in reversed(sections)
        if node.digest
    ]


# ---------------------------------------------------------------- fitting


def _select_lines(parts: Sequence[BriefPart], budget: int, count: Callable[[str], int]) -> list[int]:
    """The number of lines of each part that fit: first within its share, then from the remainder, part by part."""
    taken, left = [0] * len(parts), round(budget * (1 - LAST_MESSAGES_SHARE))
    for i, part in enumerate(parts):
        room = round(budget * part.share)
        while taken[i] < len(part.lines) and (cost := count(part.lines[taken[i]].text + "\n")) <= room:
            room, left, taken[i] = room - cost, left - cost, taken[i] + 1
    added = True
    while added:
        added = False
        for i, part in enumerate(parts):
            if taken[i] < len(part.lines) and (cost := count(part.lines[taken[i]].text + "\n")) <= left:
                left, taken[i], added = left - cost, taken[i] + 1, True
    return taken


def _parts_text(parts: Sequence[BriefPart], taken: Sequence[int], note: str | None) -> str:
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
    """Returns the lines of the note as shown in the brief."""
    return ["Note", *(f"- {line}" for line in note.splitlines() if line.strip())]


def _quotes_text(quotes: BriefQuotes) -> str:
    timestamps, out = TimestampPrinter(), ""
    for title, items in (
        ("In the user's words", quotes.requests),
        ("Errors word for word", quotes.errors),
        ("The last words", quotes.last),
    ):
        if items:
            in_order = sorted(items, key=lambda quote: quote.turn.index)
            out += f"\n{title}\n" + "".join(quote_text(quote, timestamps, always_count=True) for quote in in_order)
    return out
