"""Finds statements of the user that a later one replaced. Pure.

    - JWTs stay valid for 1 h. (t84 user) → Make the JWTs valid for 15 min. (t412 user)

Only the user's own words count: agents' "X instead of Y" reports an edit, not a decision. Of 18 pairs that an earlier
version of the rules found among agents' decisions in seven real histories, at most one was right. Among the user's
statements in these histories the rules find no pair; they were tightened on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from ctxmem_mcp.models import INJECTED, RECAP, Highlight, Summary, Turn
from ctxmem_mcp.summarizers.base import CHOICE_ARROW
from ctxmem_mcp.summarizers.requests import starts_with_verb
from ctxmem_mcp.text.host_text import is_host_text
from ctxmem_mcp.text.language import detect
from ctxmem_mcp.text.replacements import CHARS_MAX, Statement, find_replaced, statement
from ctxmem_mcp.views.layout import Quote

# Only this many of the newest statements are compared: the time grows with the square of their number.
STATEMENTS_MAX = 200
_ROLES_OF_USER = ("user", "tool")


def replaced_highlights(
    summaries: Iterable[Summary], standing: Sequence[Quote], turns: Iterable[Turn]
) -> dict[Highlight, Highlight]:
    """Returns the user's requests, decisions and standing instructions that were replaced, each with its replacement.

    Args:
        summaries: Those of the sections, in order.
        standing: The standing instructions that are shown.
        turns: Short turns of the user, which no summary may mention.
    """
    lines = [line for summary in summaries for line in summary.highlights if _is_users(line)]
    lines += [line for quote in standing for line in standing_highlights(quote)]
    lines += [Highlight("request", turn.index, turn.role, _one_line(turn)) for turn in turns if _is_statement(turn)]
    lines.sort(key=lambda line: line.index)
    stated = [(line, found) for line in lines[-STATEMENTS_MAX:] if (found := _statement_of(line.text))]
    pairs = find_replaced([(line.index, found) for line, found in stated])
    return {stated[i][0]: stated[j][0] for i, j in pairs.items() if not _is_order(stated[i][0]) or stated[j][1].changes}


def replaced_turns(turns: Iterable[Turn]) -> dict[int, int]:
    """Returns, by the index of each turn that is a statement which a later one replaced, the index of the later."""
    pairs = replaced_highlights((), (), turns)
    return {earlier.index: later.index for earlier, later in pairs.items()}


def standing_highlights(quote: Quote) -> list[Highlight]:
    """Returns the quoted instructions of a turn as lines."""
    turn = quote.turn
    return [Highlight("decision", turn.index, turn.role, turn.content[span.start : span.stop]) for span in quote.spans]


def _one_line(turn: Turn) -> str:
    return " ".join(turn.content.split())


def _is_statement(turn: Turn) -> bool:
    content = turn.content
    return (
        turn.role == "user"
        and len(content) <= CHARS_MAX
        and turn.name not in (INJECTED, RECAP)
        and not is_host_text(content)
    )


def _is_order(line: Highlight) -> bool:
    """Whether a request is something to do once ("add page 3"), which the next of its kind does not replace."""
    return line.kind == "request" and starts_with_verb(line.text)


def _is_users(line: Highlight) -> bool:
    return line.role in _ROLES_OF_USER and line.kind in ("decision", "request") and CHOICE_ARROW not in line.text


@lru_cache(maxsize=1_024)
def _statement_of(text: str) -> Statement | None:
    return statement(text, detect(text))


def clear_cache() -> None:
    """Drops the texts of statements, after something was forgotten."""
    _statement_of.cache_clear()
