"""Removes secrets from turns and summaries before they are stored. Without a redaction they are stored unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ctxmem_mcp.models import NewTurn, Summary
from ctxmem_mcp.worker_pool import LARGE_CHARS, Steps, WorkerPool, finish

Redact = Callable[[str], str] | None


async def redact_turns(turns: Sequence[NewTurn], redact: Redact, workers: WorkerPool | None) -> Sequence[NewTurn]:
    if redact is None:
        return turns
    if workers and sum(len(turn.content) for turn in turns) > LARGE_CHARS:
        return await workers.run(_redact_in_steps, turns, redact)
    return finish(_redact_in_steps(turns, redact))


def _redact_in_steps(turns: Sequence[NewTurn], redact: Callable[[str], str]) -> Steps[list[NewTurn]]:
    redacted: list[NewTurn] = []
    for turn in turns:
        redacted.append(replace(turn, content=redact(turn.content), name=turn.name and redact(turn.name)))
        yield
    return redacted


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
