"""The summariser interface.

A leaf is summarised from its turns, an inner node from its children's summaries and never from an earlier summary of
its own. Implementations are pure: no I/O, no clock; the same input gives the same summary on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ctxmem_mcp.models import Node, Summary, Turn
from ctxmem_mcp.patterns import lazy_regex

# The ending of an error that is not resolved in its section.
UNRESOLVED = "Still open where this section ends"
# The endings of errors about which nothing more is certain: in their section, and further up.
NOT_REPORTED_AGAIN = "Not reported again in this section"
OPEN_THERE = "Open there; what came later is not known here"
# Separates a short answer ("yes") from what it decided.
CHOICE_ARROW = " → "
# The beginnings of what was intended or requested and is not done where its section ends.
TO_DO, ASKED = "To do: ", "Asked: "
# Separates the topics of a title that has several.
TOPIC_SEPARATOR = "; "
# The beginning of a line that names a commit.
COMMITTED = "Committed "
# The title of a section that contains nothing to name it after.
FALLBACK_TITLE = "Short exchange"
# The beginnings of the title of a section that has only calls.
CALLS_OF, RUNNING = "Calls of ", "Running `"
# The beginning of the title of a section that only the agent's host wrote.
HOST_PREFIX = "Host: "


# Text that a program put in the place of a title or a request: "[REDACTED_TEXT len=12]".
_PLACEHOLDER = lazy_regex(r"\[[^\]\[]*\]\s*")


def is_placeholder(text: str) -> bool:
    """Whether a text is only a remark in brackets, which a program put in the place of what was there."""
    return _PLACEHOLDER.fullmatch(text) is not None


def is_uninformative(title: str) -> bool:
    """Whether a title says nothing: it is empty, the fallback, of the host, a placeholder or only a slash command."""
    return (
        title in ("", FALLBACK_TITLE)
        or title.startswith(HOST_PREFIX)
        or (title.startswith("/") and " " not in title)
        or is_placeholder(title)
    )


def names_calls(title: str) -> bool:
    """Whether a title names only the calls of its section."""
    return title.startswith((CALLS_OF, RUNNING))


class Summarizer(Protocol):
    """Summarises leaves and inner nodes."""

    def summarize_leaf(self, turns: Sequence[Turn], before: Sequence[Turn] = ()) -> Summary:
        """Summarises a leaf.

        Args:
            turns: The leaf's turns, in order.
            before: A few turns that precede the leaf, for context only; may be empty.
        """
        ...

    def summarize_parent(self, children: Sequence[tuple[Node, Summary]]) -> Summary:
        """Summarises an inner node from its children, in order."""
        ...

    def title_of_parent(self, children: Sequence[tuple[Node, Summary]]) -> str:
        """Returns the title that `summarize_parent` would give, at a fraction of the cost."""
        ...
