"""Removes secrets from turns and summaries before they are stored. Without a redaction they are stored unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ctxmem_mcp.models import NewTurn, Summary

Redact = Callable[[str], str] | None


def redact_turns(turns: Sequence[NewTurn], redact: Redact) -> Sequence[NewTurn]:
    if redact is None:
        return turns
    return [replace(turn, content=redact(turn.content), name=turn.name and redact(turn.name)) for turn in turns]


def redact_title(title: str, redact: Redact) -> str:
    return title if redact is None else redact(title)


def redact_summary(summary: Summary, redact: Redact) -> Summary:
    """Redacts a written summary, whose author may have read more than is stored."""
    if redact is None:
        return summary
    return Summary(
        summary.author,
        redact(summary.title),
        tuple(replace(line, text=redact(line.text)) for line in summary.highlights),
        tuple(redact(identifier) for identifier in summary.identifiers),
        redact(summary.open_for),
    )
