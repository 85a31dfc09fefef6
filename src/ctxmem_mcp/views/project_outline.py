"""Renders the sessions of a project in the order of time: a line for each, or for all between two, and their parts.

    [s 2026-01-05 claude-code 0bb9a2d9 341 turns 120k] Fix the parser
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

# A session's line has at least about so many tokens: more lines than fit are not tried.
LINE_TOKENS_MIN = 20


@dataclass(frozen=True, slots=True)
class OutlinedSession:
    """A session. text: the part of it that is quoted, empty if none is."""

    info: ConversationInfo
    text: str = ""


def outline_project(
    sessions: Sequence[OutlinedSession],
    first: Sequence[str],
    budget: int,
    share: int,
    count: Callable[[str], int],
    *,
    shorten: Callable[[str], str] = str,
    only_quoted: bool = False,
) -> str | int:
    """Renders the sessions within a budget.

    Args:
        sessions: In the order of time.
        first: The conversations whose quoted parts are shown first, best first.
        budget: Tokens.
        share: The tokens that lines about sessions may take.
        count: Counts tokens.
        shorten: Shortens a conversation's id.
        only_quoted: Whether only sessions that are quoted have a line.

    Returns:
        The text, or the smallest budget that fits any.
    """
    by_id = {session.info.conversation_id: session for session in sessions}
    quoted = [one for one in first if by_id[one].text]
    others = [] if only_quoted else [one for one in reversed(by_id) if one not in quoted]
    timeline = _Timeline(sessions, shorten)
    while count(text := timeline.render(quoted, quoted)) > budget:
        if not quoted:
            return count(text)
        quoted.pop()
    shown, left = list(quoted), share
    most = min(budget, count(text) + share)
    step = max(1, min(len(others), share // LINE_TOKENS_MIN))
    while step and others:
        more = others[:step]
        tokens = count(extended := timeline.render([*shown, *more], quoted))
        if tokens <= most:
            shown += more
            others, text, left = others[len(more) :], extended, most - tokens
        else:
            step //= 2
    # How they ended, of the quoted ones and the newest first. The lines' tokens add up to those of the text, about.
    ended = [one for one in shown if by_id[one].info.ended]
    left -= 2 * len(ended)
    costs = accumulate(count(_ended_line(by_id[one].info)) for one in ended)
    extended = timeline.render(shown, quoted, [one for one, cost in zip(ended, costs, strict=True) if cost <= left])
    return extended if count(extended) <= budget else text


class _Timeline:
    """The sessions of a project in the order of time. Rendering takes as long as there are sessions shown."""

    def __init__(self, sessions: Sequence[OutlinedSession], shorten: Callable[[str], str]) -> None:
        self._sessions, self._shorten = sessions, shorten
        self._positions = {session.info.conversation_id: position for position, session in enumerate(sessions)}
        # The tokens of all sessions before each position.
        self._tokens = list(accumulate((session.info.tokens for session in sessions), initial=0))

    def render(self, shown: Collection[str], quoted: Collection[str], ended: Collection[str] = ()) -> str:
        """Renders the timeline. ended: the sessions of which it is shown how they ended."""
        lines: list[str] = []
        after = 0
        for position in sorted(self._positions[one] for one in shown):
            session = self._sessions[position]
            lines += [self._gap(after, position), self._line(session.info)]
            if session.info.ended and session.info.conversation_id in ended:
                lines.append(_ended_line(session.info))
            if session.info.conversation_id in quoted:
                lines.append(session.text)
            after = position + 1
        return "".join([*lines, self._gap(after, len(self._sessions))])

    def _line(self, info: ConversationInfo) -> str:
        agent = f" {info.agent}" if info.agent else ""
        title = " ".join(info.title.split())
        size = f"{info.turns} turns {format_tokens(info.tokens)}"
        return (
            f"[s {info.last_activity[:10]}{agent} {self._shorten(info.conversation_id)} {size}] {title}".rstrip() + "\n"
        )

    def _gap(self, first: int, after: int) -> str:
        """Renders the line that stands for the sessions from the first up to one that is shown."""
        if first == after:
            return ""
        days = [self._sessions[position].info.last_activity[:10] for position in (first, after - 1)]
        period = days[0] if days[0] == days[1] else f"{days[0]} to {days[1]}"
        tokens = format_tokens(self._tokens[after] - self._tokens[first])
        return f"[… {after - first} session{'s' if after - first > 1 else ''} {period} {tokens}]\n"


def _ended_line(info: ConversationInfo) -> str:
    return f" ended: {info.ended}\n"
