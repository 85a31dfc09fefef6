"""Finds the turns behind summary highlights of one kind (errors and their endings, decisions, ...). Pure.

A question like "what errors did we meet?" has no words that an index could match. The summaries answer it, and each of
their lines names the turn that it was taken from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ctxmem_mcp.models import Highlight, HighlightKinds, Node, Summary
from ctxmem_mcp.summarizers.base import CHOICE_ARROW


def highlight_turns(sections: Iterable[tuple[Node, Summary]], kinds: HighlightKinds) -> list[list[int]]:
    """Returns the turns of the highlights of these kinds, newest first; an error and its ending form one group."""
    groups: list[list[int]] = []
    for _, summary in sections:
        groups += _groups([line for line in summary.highlights if line.kind in kinds])
    return sorted(groups, key=lambda group: -group[0])


def confirmations(sections: Iterable[tuple[Node, Summary]]) -> list[int]:
    """Returns the turns in which a short answer accepted an earlier proposal, newest first."""
    lines = [line for _, summary in sections for line in summary.highlights]
    return [line.index for line in reversed(lines) if line.kind == "decision" and CHOICE_ARROW in line.text]


def _groups(lines: Sequence[Highlight]) -> list[list[int]]:
    groups: list[list[int]] = []
    for line in lines:
        if line.kind == "ending" and groups:
            groups[-1].append(line.index)
        elif not any(line.index in group for group in groups):
            groups.append([line.index])
    return groups


def turns_between_error_and_fix(groups: Iterable[Sequence[int]]) -> list[int]:
    """Returns the turns between each error and its ending, from both ends inwards.

    The turns next to the error and next to its fix come before the steps in the middle.
    """
    found: list[int] = []
    for group in groups:
        first, last = min(group), max(group)
        inner = [index for index in range(first, last + 1) if index not in group]
        found += sorted(inner, key=lambda index: min(index - first, last - index))
    return found
