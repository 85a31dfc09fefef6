"""Summaries without a model: deterministic, offline, in about a millisecond.

turns ──section──► who said, called, reported what ──┬─titles──────► title
                                                     ├─highlights──► lines, sized by what they replace
                                                     ├─identifiers─► names
                                                     └─omissions───► open_for
children's summaries ──parents──► the same, of the next level
"""

from __future__ import annotations

from collections.abc import Sequence

from ctxmem_mcp.models import EXTRACTIVE, Node, Summary, Turn
from ctxmem_mcp.summarizers import highlights, parents
from ctxmem_mcp.summarizers.error_outcomes import find_error_outcomes
from ctxmem_mcp.summarizers.identifiers import find_identifiers
from ctxmem_mcp.summarizers.open_hints import build_open_hint
from ctxmem_mcp.summarizers.section_reader import read_section
from ctxmem_mcp.summarizers.sentences import Message, read_message
from ctxmem_mcp.summarizers.titles import title_of


class ExtractiveSummarizer:
    """Says a node shorter in its own words; every name and number in it stands in the node."""

    def summarize_leaf(self, turns: Sequence[Turn], before: Sequence[Turn] = ()) -> Summary:
        section = read_section(turns)
        preceding = _last_statement(before)
        outcomes = find_error_outcomes(section)
        candidates = highlights.find_candidates(section, outcomes, preceding)
        kept = highlights.select_best(candidates, highlights.highlight_budget(section, outcomes))
        title = title_of(section, outcomes, preceding)
        return Summary(EXTRACTIVE, title, kept, find_identifiers(section), build_open_hint(section, outcomes, kept))

    def summarize_parent(self, children: Sequence[tuple[Node, Summary]]) -> Summary:
        return parents.summarize_parent(children)

    def title_of_parent(self, children: Sequence[tuple[Node, Summary]]) -> str:
        return parents.title_of_parent(children)


def _last_statement(before: Sequence[Turn]) -> Message | None:
    """What the assistant said last before the section: what "yes" or "2" answers."""
    for turn in reversed(before):
        if (
            turn.role == "assistant"
            and turn.call_id is None
            and (message := read_message(turn)).sentences
            and not message.is_reasoning
        ):
            return message
    return None
