"""Lists conversations: the entry of each, and the pages. Every store lists with these, so that all list alike."""

from __future__ import annotations

from collections.abc import Iterable

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import Turn, iso, parse_iso
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.results import ConversationInfo, ConversationPage
from ctxmem_mcp.stores.records import State
from ctxmem_mcp.text.media import shown_text


def count_branches(state: State) -> int:
    """The number of branches, which is the number of turns without a child."""
    parents = {run.parent_seq for run in state.runs}
    ends = [run.first_seq - 1 for run in state.runs[1:]] + [state.next_seq - 1]
    return sum(end not in parents for end in ends)


# When the last turn happened is read from this many of the last stored ones: results of tools often have no time.
TIMED_TURNS_MAX = 20


def last_happened(state: State, last_turns: Iterable[tuple[object, object]]) -> float:
    """Returns when the last stored turn happened, in seconds since 1970.

    That is its own time, else that of the nearest turn before it that was stored with it, else when it was stored. A
    turn did not happen after it was stored, whatever its time says.

    Args:
        state: The conversation's state.
        last_turns: `said_at` and `stored_at` of the last stored turns, newest first.
    """
    stored: object = None
    for said_at, stored_at in last_turns:
        stored = stored_at if stored is None else stored
        if stored_at != stored:
            break
        said = parse_iso(said_at) if isinstance(said_at, str) else None
        if said is not None:
            return min(said, state.updated)
    return stored if isinstance(stored, float) and 0.0 < stored < state.updated else state.updated


# So much of the agent's last words is listed.
ENDED_CHARS = 160
# Bold text, and before it code: globs, powers and keyword arguments have asterisks too.
_BOLD = lazy_regex(
    r"(?s)```.*?(?:```|\Z)|`[^`\n]+`|"
    r"(?<![A-Za-z0-9_/*])(?P<mark>\*{2,3})(?![\s/*])"
    r"(?P<text>(?:(?!\*\*|\n\n|`).|`[^`\n]+`)+)"
    r"(?<![\s/])(?P=mark)(?![A-Za-z0-9_/*])"
)
# On one line a heading needs a colon; rules, quotes and emphasis mean nothing.
_HEADING = lazy_regex(r"(?m)^#{1,6}[ \t]+(.*?[^\s.:!?*_])[*_ \t]*$")
_MARKS = lazy_regex(r"(?m)^[ \t]*(?:[-*_]{3,}[ \t]*$|>[ \t]|#{1,6}[ \t])")


def find_last_words(last_turns: Iterable[Turn]) -> Turn | None:
    """Returns the last of these turns, newest first, in which the agent speaks; contents are not read."""
    return next((t for t in last_turns if t.role == "assistant" and not t.name and t.call_id is None), None)


def shorten_ending(text: str) -> str:
    """Returns the beginning of the agent's last words on one line without Markdown's marks, to the end of a sentence if
    one ends in time."""
    plain = _BOLD.sub(lambda match: match["text"] or match[0], shown_text(text[: 4 * ENDED_CHARS]))
    plain = _MARKS.sub("", _HEADING.sub(r"\1: ", plain))
    line = " ".join(plain.split())
    if len(line) <= ENDED_CHARS:
        return line
    end = max(line.rfind(mark, ENDED_CHARS // 3, ENDED_CHARS) for mark in (". ", "! ", "? "))
    return line[: end + 1] if end > 0 else line[:ENDED_CHARS].rstrip() + "…"


def to_info(
    state: State, head: str | None, size: int, happened: float, agent: bytes | None, ended: str | None
) -> ConversationInfo:
    """A state as an entry of a listing.

    Args:
        state: The conversation's state.
        head: The head turn's id.
        size: The bytes that the conversation takes.
        happened: When its last turn happened, in seconds since 1970.
        agent: What is stored under the key AGENT.
        ended: The agent's last words, if there are any among the last turns.
    """
    return ConversationInfo(
        conversation_id=state.conversation_id,
        title=state.title,
        space=state.space,
        turns=state.turns,
        tokens=state.tokens,
        branches=count_branches(state),
        head=head,
        created_at=iso(state.created),
        last_activity=iso(happened),
        expires_at=iso(state.expires),
        retention_days=state.retention_days,
        bytes=size,
        agent=agent.decode("utf-8", "replace") if agent else None,
        ended=None if ended is None else shorten_ending(ended),
    )


def paginate(infos: Iterable[tuple[float, ConversationInfo]], limit: int, cursor: str | None) -> ConversationPage:
    """One page of a listing, the most recently active first.

    Args:
        infos: Each with the time of its last activity in seconds since 1970, unrounded: many may happen within one
            second, and ConversationInfo rounds to seconds.
        cursor: Names the last entry of the previous page.

    Raises:
        InvalidArgument: The cursor is malformed.
    """
    ordered = sorted((-updated, info.conversation_id, info) for updated, info in infos)
    if cursor is not None:
        after = _parse_cursor(cursor)
        ordered = [entry for entry in ordered if entry[:2] > after]
    page = ordered[:limit]
    more = len(ordered) > len(page) and page
    return ConversationPage([info for _, _, info in page], f"{-page[-1][0]!r}/{page[-1][1]}" if more else None)


def _parse_cursor(cursor: str) -> tuple[float, str]:
    updated, _, conversation_id = cursor.partition("/")
    try:
        return -float(updated), conversation_id
    except ValueError:
        raise InvalidArgument("cursor", f"is {cursor!r}", "Take next_cursor from the previous page.") from None
