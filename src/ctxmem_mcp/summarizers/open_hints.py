"""`open_for`: what expanding a node would show that its summary omits, in a few words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ctxmem_mcp.models import Highlight
from ctxmem_mcp.summarizers.error_outcomes import ErrorOutcome
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import one_line, shorten

OPEN_FOR_CHARS = 100
# Tokens from which an output or an answer is worth naming.
_LONG_OUTPUT, _LONG_ANSWER = 250, 150


def build_open_hint(section: Section, outcomes: Sequence[ErrorOutcome], highlights: Sequence[Highlight]) -> str:
    """Returns at most 100 characters; empty if the summary omits nothing."""
    return join_within_limit(_omissions(section, outcomes, highlights))


def join_within_limit(parts: Iterable[str]) -> str:
    """Joins the parts with commas, in order, skipping those that would exceed 100 characters."""
    text = ""
    for part in parts:
        longer = f"{text}, {part}" if text else part
        if len(longer) <= OPEN_FOR_CHARS:
            text = longer
    return text


def count_omitted(count: int, noun: str) -> Iterator[str]:
    """Yield '2 more errors', or nothing if the count is not positive."""
    if count > 0:
        yield f"{count} more {noun}{'s' if count > 1 else ''}"


def _omissions(section: Section, outcomes: Sequence[ErrorOutcome], highlights: Sequence[Highlight]) -> Iterator[str]:
    errors = sum(len(outcome.errors) for outcome in outcomes)
    yield from count_omitted(errors - sum(line.kind == "error" for line in highlights), "error")
    requests = sum(not request.is_weak for request in section.requests)
    yield from count_omitted(requests - sum(line.kind == "request" for line in highlights), "request")
    edited = list(dict.fromkeys(call.file_name for call in section.calls if call.kind == "edit" and call.file_name))
    if edited:
        yield "diff of " + " and ".join(edited[:2])
    yield from _long_outputs(section)
    if not section.is_work:
        yield from _messages_omitted(section, highlights)


def _messages_omitted(section: Section, highlights: Sequence[Highlight]) -> Iterator[str]:
    shown = {line.index for line in highlights if line.kind == "fact"}
    answers = [m for m in section.messages if m.role == "assistant" and m.tokens >= _LONG_ANSWER]
    if answers:
        yield "the full answer" if len(answers) == 1 else f"{len(answers)} full answers"
    elif hidden := [m for m in section.messages if m.index not in shown and m.tokens > 15]:
        yield f"{len(hidden)} more message{'s' if len(hidden) > 1 else ''}"


def _long_outputs(section: Section) -> Iterator[str]:
    """Names the longest outputs, by command or file."""
    long = sorted((r for r in section.results if r.call and r.tokens >= _LONG_OUTPUT), key=lambda r: -r.tokens)
    seen: set[str] = set()
    for result in long[:4]:
        call = result.call
        if call is None or call.kind == "edit":
            continue
        if call.command:
            description = f"full `{shorten(one_line(call.command), 30)}` output"
        else:
            description = f"contents of {call.file_name}" if call.file_name else ""
        if description and description not in seen:
            seen.add(description)
            yield description
