"""Builds a brief for the next run from the summaries: no model, and nothing that is not in the conversation. Pure.

    Standing instructions   what the user asked for once and for all, verbatim
    Goal                    the first request and the latest ones
    Open at the end         errors without an ending, and what was announced and not done
    What came of it         successful commands, results
    Causes and findings     as the agent stated them
    The user's terms        requirements, constraints and objections that the user stated
    Decisions               each with who made it
    Changed                 files, and what changed in them
    Errors                  each with how it ended, except the open ones
    Other requests          those between the first and the latest
    Where to look           sections with their ids
    In the user's words     the requests, verbatim
    Errors word for word    the newest errors, verbatim
    The last words          the last message of the user and of the agent, verbatim

Each line names its turn, and nothing is said twice. A request, a term or a standing instruction that a later turn
replaced is followed by what replaced it, with that turn. What is true at the end stands before how it came about and
where to look. The parts share the budget. Tokens that a part does not need are available to the others; the
remainder is for quotes of the user's requests and then of the errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ctxmem_mcp.views.brief_parts import BriefPart, Replaced, Section, brief_parts
from ctxmem_mcp.views.layout import Quote
from ctxmem_mcp.views.render import PREFACE, TimestampPrinter, quote_text

# The share of the budget set aside for the last messages, and the maximum share if there is room.
LAST_MESSAGES_SHARE = 0.3
LAST_MESSAGES_SHARE_MAX = 0.6
# A request is quoted if its highlight is shorter by more than this many characters.
OMITTED_CHARS_MIN = 40


@dataclass(frozen=True, slots=True)
class BriefQuotes:
    """The verbatim parts of a brief.

    Attributes:
        last: The last message of the user and of the agent, in order.
        extended: The same with more of their text, shown if there is room.
        requests: The user's requests, most important first, shown if there is room.
        errors: Errors, most important first, shown if there is room after the requests.
        standing: The user's standing instructions, newest first; the first part of the brief.
        replaced: Requests, decisions and instructions that a later turn replaced, each with what replaced it.
    """

    last: Sequence[Quote] = ()
    extended: Sequence[Quote] = ()
    requests: Sequence[Quote] = ()
    errors: Sequence[Quote] = ()
    standing: Sequence[Quote] = ()
    replaced: Replaced = field(default_factory=dict)


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
    parts = brief_parts(sections, quotes.standing, quotes.replaced)
    while True:
        taken = select_lines(parts, room, round(room * (1 - LAST_MESSAGES_SHARE)), count)
        text = parts_text(parts, taken, note) + _quotes_text(BriefQuotes(last))
        over = count(text) - budget
        if over <= 0:
            return _add_quotes(parts_text(parts, taken, note), replace(quotes, last=last), budget, count)
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


def select_lines(parts: Sequence[BriefPart], budget: int, left: int, count: Callable[[str], int]) -> list[int]:
    """Returns how many lines of each part fit: first within its share, then from the remainder, part by part.

    Args:
        parts: The parts.
        budget: The tokens that the parts' shares are of.
        left: The tokens that all lines together may take.
        count: Counts tokens.
    """
    taken = [0] * len(parts)
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


def parts_text(parts: Sequence[BriefPart], taken: Sequence[int], note: str | None = None) -> str:
    """Returns the text of the first so many lines of each part."""
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
