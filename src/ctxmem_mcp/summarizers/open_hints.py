"""What opening a node would show that its summary leaves out, in a few words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ctxmem_mcp.models import Highlight
from ctxmem_mcp.summarizers.error_outcomes import ErrorOutcome
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import one_line, shorten

OPEN_FOR_CHARS = 100
_LONG_OUTPUT, _LONG_ANSWER = 250, 150


def build_open_hint(section: Section, outcomes: Sequence[ErrorOutcome], highlights: Sequence[Highlight]) -> str:
    """At most 100 characters; '' when the summary says it all."""
    return join_within_limit(_hints(section, outcomes, highlights))


def join_within_limit(parts: Iterable[str]) -> str:
    """As many of the parts, in order, as 100 characters hold."""
    text = ""
    for part in parts:
        longer = f"{text}, {part}" if text else part
        if len(longer) <= OPEN_FOR_CHARS:
            text = longer
    return text


def _hints(section: Section, outcomes: Sequence[ErrorOutcome], highlights: Sequence[Highlight]) -> Iterator[str]:
    shown = {(h.kind, h.index) for h in highlights}
    errors = sum(len(outcome.errors) for outcome in outcomes)
    yield from _count_phrase(errors - sum(h.kind == "error" for h in highlights), "error")
    requests = sum(not request.is_weak for request in section.requests)
    yield from _count_phrase(requests - sum(h.kind == "request" for h in highlights), "request")
    edited = list(dict.fromkeys(call.file_name for call in section.calls if call.kind == "edit" and call.file_name))
    if edited:
        yield "diff of " + " and ".join(edited[:2])
    yield from _long_outputs(section)
    if not section.is_work:
        answers = [s for s in section.messages if s.role == "assistant" and s.tokens >= _LONG_ANSWER]
        if answers:
            yield "the full answer" if len(answers) == 1 else f"{len(answers)} full answers"
        elif hidden := [s for s in section.messages if ("fact", s.index) not in shown and s.tokens > 15]:
            yield f"{len(hidden)} more messages"


def _count_phrase(count: int, noun: str) -> Iterator[str]:
    if count > 0:
        yield f"{count} more {noun}{'s' if count > 1 else ''}"


def _long_outputs(section: Section) -> Iterator[str]:
    long = sorted((r for r in section.results if r.call and r.tokens >= _LONG_OUTPUT), key=lambda r: -r.tokens)
    seen: set[str] = set()
    for result in long[:4]:
        call = result.call
        if call is None:
            continue
        description = (
            f"full `{shorten(one_line(call.command), 30)}` output"
            if call.command
            else call.file_name and f"contents of {call.file_name}"
        )
        if call.kind == "edit" or not description or description in seen:
            continue
        seen.add(description)
        yield description
