"""A conversation as Markdown, for people to read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctxmem_mcp.models import Turn
from ctxmem_mcp.patterns import lazy_regex

_FENCE = lazy_regex(r"^ {0,3}(`{3,})", re.MULTILINE)


def export_markdown(turns: Sequence[Turn], title: str) -> str:
    """Returns a page: a heading and the turns, each under its author, calls and results in fences."""
    return "\n\n".join([f"# {title}", *(_section(turn) for turn in turns)]) + "\n"


def _section(turn: Turn) -> str:
    is_talk = turn.role in ("user", "assistant") and turn.call_id is None
    return f"## {heading(turn)}\n\n{turn.content if is_talk else fenced(turn.content)}"


def heading(turn: Turn) -> str:
    """Returns a turn's author, name, time and id, such as `assistant · Bash · 2026-05-01T10:00:00Z · t41-837`."""
    return " · ".join(filter(None, (turn.role, turn.name, turn.said_at, turn.id)))


def fenced(text: str) -> str:
    """Returns the text in a fence that is longer than any in it."""
    marks = "`" * max([3, *(len(found[1]) + 1 for found in _FENCE.finditer(text))])
    return f"{marks}\n{text}\n{marks}"
