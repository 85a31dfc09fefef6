"""Extractive summaries: no model, deterministic, offline, about a millisecond each.

turns ──section_reader──► messages, calls, results ──┬─titles───────► title
                                                     ├─highlights───► highlights, in proportion to the section's size
                                                     ├─identifiers──► identifiers
                                                     └─open_hints───► open_for
children's summaries ──parents──► the same, one level up
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
    """Summarises a node in its own words: every name and number of a summary occurs in the node."""

    def summarize_leaf(self, turns: Sequence[Turn], before: Sequence[Turn] = ()) -> Summary:
        section = read_section(turns)
        preceding = _last_assistant_message(before)
        outcomes = find_error_outcomes(section)
        candidates = highlights.find_candidates(section, outcomes, preceding)
        selected = highlights.select_best(candidates, highlights.highlight_budget(section, outcomes))
        title = title_of(section, outcomes, preceding)
        open_for = build_open_hint(section, outcomes, selected)
        return Summary(EXTRACTIVE, title, selected, find_identifiers(section), open_for)

    def summarize_parent(self, children: Sequence[tuple[Node, Summary]]) -> Summary:
        return parents.summarize_parent(children)

    def title_of_parent(self, children: Sequence[tuple[Node, Summary]]) -> str:
        return parents.title_of_parent(children)


def _last_assistant_message(turns: Sequence[Turn]) -> Message | None:
    """The assistant's last message of some turns: what a "yes" or "2" in the next turn answers."""
    for turn in reversed(turns):
        if turn.role != "assistant" or turn.call_id is not None:
            continue
        message = read_message(turn)
        if message.sentences and not message.is_reasoning:
            return message
    return None
