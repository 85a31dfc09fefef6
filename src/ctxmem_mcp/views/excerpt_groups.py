"""The excerpts that a view may show, and the quotes that they make. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ctxmem_mcp.models import Turn
from ctxmem_mcp.views.layout import CharSpan, Quote, join_spans


class ExcerptRef(NamedTuple):
    """A span of a turn that may be shown. index: the turn's."""

    index: int  # type: ignore[assignment]
    span: CharSpan


class ExcerptGroup(NamedTuple):
    """Excerpts that are shown together or not at all, such as a tool call and its result."""

    excerpts: tuple[ExcerptRef, ...]

    @property
    def tokens(self) -> int:
        if len(self.excerpts) == 1:
            return self.excerpts[0].span.tokens
        return sum(excerpt.span.tokens for excerpt in self.excerpts)


def with_replacements(groups: Iterable[ExcerptGroup], replacements: Mapping[int, ExcerptGroup]) -> list[ExcerptGroup]:
    """Puts behind each group with a replaced turn the turn that replaced it, unless that is before it already.

    Args:
        groups: Groups, best first.
        replacements: The turn that replaced another, by the index of the replaced one.
    """
    ordered: dict[ExcerptGroup, None] = {}
    for group in groups:
        ordered.setdefault(group)
        for excerpt in group.excerpts:
            if (later := replacements.get(excerpt.index)) is not None:
                ordered.setdefault(later)
    return list(ordered)


def clip(group: ExcerptGroup, turns: Mapping[int, Turn]) -> ExcerptGroup:
    """Returns the group with the end of each excerpt within its turn."""
    ends = [min(excerpt.span.stop, len(turns[excerpt.index].content)) for excerpt in group.excerpts]
    if all(excerpt.span.stop == end for excerpt, end in zip(group.excerpts, ends, strict=True)):
        return group
    clipped = (e._replace(span=e.span._replace(stop=end)) for e, end in zip(group.excerpts, ends, strict=True))
    return ExcerptGroup(tuple(clipped))


def quotes_by_turn(groups: Sequence[ExcerptGroup], turns: Mapping[int, Turn]) -> dict[int, Quote]:
    """Joins the excerpts of each turn to a quote, by turn index."""
    spans: dict[int, list[CharSpan]] = {}
    for group in groups:
        for excerpt in group.excerpts:
            spans.setdefault(excerpt.index, []).append(excerpt.span)
    return {index: Quote(turns[index], join_spans(found), len(turns[index].content)) for index, found in spans.items()}
