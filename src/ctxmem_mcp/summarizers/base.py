"""What a summariser is asked, and what it gives.

A leaf is summarised from its turns, an inner node from its children's summaries and never from an old summary of
its own. Pure: no I/O, no clock; the same input gives the same summary, on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ctxmem_mcp.models import Node, Summary, Turn

# How an error ended that no line of its section settles.
UNRESOLVED = "Still open where this section ends"
# Between a short answer ("yes") and what it decided.
CHOICE_ARROW = " → "
# Stands between the topics of a title that has several.
TOPIC_SEPARATOR = "; "
# Of a section in which nothing was said that could name it.
FALLBACK_TITLE = "Short exchange"


def is_uninformative(title: str) -> bool:
    """Whether a title says as good as nothing: none, or a host's command alone (/mode)."""
    return title in ("", FALLBACK_TITLE) or (title.startswith("/") and " " not in title)


class Summarizer(Protocol):
    def summarize_leaf(self, turns: Sequence[Turn], before: Sequence[Turn] = ()) -> Summary:
        """Of a closed leaf's turns, in order. `before`: a few turns before it (may be none), for context only."""
        ...

    def summarize_parent(self, children: Sequence[tuple[Node, Summary]]) -> Summary:
        """Of an inner node, from its children in order."""
        ...

    def title_of_parent(self, children: Sequence[tuple[Node, Summary]]) -> str:
        """The title that `parent` would give, at a fraction of the cost."""
        ...
