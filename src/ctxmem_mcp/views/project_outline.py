"""Renders the sessions of a project in the order of time: a line for each, or for all between two, and their parts.

    [s 2026-01-05 claude-code 0bb9a2d9-a51e-4d5a-8275-566c766a0ff2 341 turns 120k] Fix the parser
     ended: All tests pass, and the parser takes numbers with more digits.
    [t0-t12 3100] Title; Title            the part of it that is shown, as in a view of it alone
    [… 12 sessions 2026-01-06 to 2026-01-09 340k]

Pure: no I/O, no ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ctxmem_mcp.results import ConversationInfo
from ctxmem_mcp.views.render import format_tokens


@dataclass(frozen=True, slots=True)
class OutlinedSession:
    """A session. text: the part of it that is quoted, empty if none is."""

    info: ConversationInfo
    text: str = ""


def outline_project(
    sessions: Sequence[OutlinedSession], first: Sequence[str], budget: int, share: int, count: Callable[[str], int]
) -> str | int:
    """Renders the sessions within a budget.

    Args:
        sessions: In the order of time.
        first: The conversations whose quoted parts are shown first, best first.
        budget: Tokens.
        share: The tokens that lines about sessions may take.
        count: Counts tokens.

    Returns:
        The text, or the smallest budget that fits any.
    """
    by_id = {session.info.conversation_id: session for session in sessions}
    quoted = [one for one in first if by_id[one].text]
    others = [one for one in reversed(by_id) if one not in quoted]
    while count(text := _render(sessions, quoted, quoted)) > budget:
        if not quoted:
            return count(text)
        quoted.pop()
    shown, left = list(quoted), share
    most = min(budget, count(text) + share)
    step = max(1, len(others))
    while step and others:
        more = others[:step]
        tokens = count(extended := _render(sessions, [*shown, *more], quoted))
        if tokens <= most:
            shown += more
            others, text, left = others[len(more) :], extended, most - tokens
        else:
            step //= 2
    # How they ended, of the quoted ones and the newest first. The lines' tokens add up to those of the text, about.
    ended = [one for one in shown if by_id[one].info.ended]
    left -= 2 * len(ended)
    costs = accumulate(count(_ended_line(by_id[one].info)) for one in ended)
    extended = _render(sessions, shown, quoted, [one for one, cost in zip(ended, costs, strict=True) if cost <= left])
    return extended if count(extended) <= budget else text


def _render(
    sessions: Sequence[OutlinedSession],
    shown: Collection[str],
    quoted: Collection[str],
    ended: Collection[str] = (),
) -> str:
    """ended: the sessions of which it is shown how they ended."""
    lines: list[str] = []
    omitted: list[ConversationInfo] = []
    shown, quoted, ended = set(shown), set(quoted), set(ended)
    for session in sessions:
        info = session.info
        if info.conversation_id not in shown:
            omitted.append(info)
            continue
        lines += _gap(omitted)
        omitted.clear()
        lines.append(session_line(info))
        if info.ended and info.conversation_id in ended:
            lines.append(_ended_line(info))
        if info.conversation_id in quoted:
            lines.append(session.text)
    return "".join([*lines, *_gap(omitted)])


def session_line(info: ConversationInfo) -> str:
    """Renders the line of a session."""
    agent = f" {info.agent}" if info.agent else ""
    title = " ".join(info.title.split())
    size = f"{info.turns} turns {format_tokens(info.tokens)}"
    return f"[s {info.last_activity[:10]}{agent} {info.conversation_id} {size}] {title}".rstrip() + "\n"


def _ended_line(info: ConversationInfo) -> str:
    return f" ended: {info.ended}\n"


def _gap(omitted: Sequence[ConversationInfo]) -> list[str]:
    """Renders the line that stands for sessions that are not shown."""
    if not omitted:
        return []
    first, last = omitted[0].last_activity[:10], omitted[-1].last_activity[:10]
    days = first if first == last else f"{first} to {last}"
    tokens = format_tokens(sum(info.tokens for info in omitted))
    sessions = f"{len(omitted)} session{'s' if len(omitted) > 1 else ''}"
    return [f"[… {sessions} {days} {tokens}]\n"]
