"""What opening a node would show that its summary leaves out, in a few words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ctxmem_mcp.models import Highlight
from ctxmem_mcp.summarizers.error_outcomes import Episode
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import one_line, shorten

OPEN_FOR_CHARS = 100
_LONG_OUTPUT, _LONG_ANSWER = 250, 150


def left_out(section: Section, episodes: Sequence[Episode], kept: Sequence[Highlight]) -> str:
    """At most 100 characters; '' when the summary says it all."""
    return joined(_omitted(section, episodes, kept))


def joined(parts: Iterable[str]) -> str:
    """As many of the parts, in order, as 100 characters hold."""
    text = ""
    for part in parts:
        longer = f"{text}, {part}" if text else part
        if len(longer) <= OPEN_FOR_CHARS:
            text = longer
    return text


def _omitted(section: Section, episodes: Sequence[Episode], kept: Sequence[Highlight]) -> Iterator[str]:
    shown = {(h.kind, h.index) for h in kept}
    errors = sum(len(episode.faults) for episode in episodes)
    yield from _more(errors - sum(h.kind == "error" for h in kept), "error")
    asks = sum(not ask.weak for ask in section.asks)
    yield from _more(asks - sum(h.kind == "request" for h in kept), "request")
    edited = list(dict.fromkeys(call.file for call in section.calls if call.deed == "edit" and call.file))
    if edited:
        yield "diff of " + " and ".join(edited[:2])
    yield from _outputs(section)
    if not section.is_work:
        answers = [s for s in section.said if s.role == "assistant" and s.tokens >= _LONG_ANSWER]
        if answers:
            yield "the full answer" if len(answers) == 1 else f"{len(answers)} full answers"
        elif hidden := [s for s in section.said if ("fact", s.index) not in shown and s.tokens > 15]:
            yield f"{len(hidden)} more messages"


def _more(count: int, noun: str) -> Iterator[str]:
    if count > 0:
        yield f"{count} more {noun}{'s' if count > 1 else ''}"


def _outputs(section: Section) -> Iterator[str]:
    long = sorted((r for r in section.reports if r.call and r.tokens >= _LONG_OUTPUT), key=lambda r: -r.tokens)
    named: set[str] = set()
    for report in long[:4]:
        call = report.call
        if call is None:
            continue
        what = (
            f"full `{shorten(one_line(call.command), 30)}` output"
            if call.command
            else call.file and f"contents of {call.file}"
        )
        if call.deed == "edit" or not what or what in named:
            continue
        named.add(what)
        yield what
