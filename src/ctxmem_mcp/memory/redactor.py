"""Turns and summaries as they are to be kept: without what a redaction takes out. None: all of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ctxmem_mcp.models import NewTurn, Summary

Redact = Callable[[str], str] | None


def redact_turns(turns: Sequence[NewTurn], redact: Redact) -> Sequence[NewTurn]:
    if redact is None:
        return turns
    return [replace(turn, content=redact(turn.content), name=turn.name and redact(turn.name)) for turn in turns]


def redact_summary(summary: Summary, redact: Redact) -> Summary:
    """Who wrote it may have read more than is kept."""
    if redact is None:
        return summary
    return Summary(
        summary.author,
        redact(summary.title),
        tuple(replace(one, text=redact(one.text)) for one in summary.highlights),
        tuple(redact(one) for one in summary.identifiers),
        redact(summary.open_for),
    )
