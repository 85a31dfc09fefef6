"""Extractive summaries: no model, deterministic, offline, about a millisecond each.

turns ──section_reader──► messages, calls, results ──┬─statements──► ranked: ─┬─titles──────► title
                                                     │                        └─highlights──► highlights, in proportion
                                                     │                                        to the section's size
                                                     ├─identifiers──► identifiers
                                                     └─open_hints───► open_for
children's summaries ──parents──► the same, one level up
"""

from __future__ import annotations

from collections.abc import Sequence

from ctxmem_mcp.models import EXTRACTIVE, Node, Summary, Turn
from ctxmem_mcp.summarizers import highlights, parents
from ctxmem_mcp.summarizers.base import FALLBACK_TITLE
from ctxmem_mcp.summarizers.error_outcomes import find_error_outcomes
from ctxmem_mcp.summarizers.headlines import without_ellipsis
from ctxmem_mcp.summarizers.host_titles import host_title
from ctxmem_mcp.summarizers.identifiers import find_identifiers
from ctxmem_mcp.summarizers.open_hints import build_open_hint
from ctxmem_mcp.summarizers.section_reader import Section, read_section
from ctxmem_mcp.summarizers.sentences import Message, read_message
from ctxmem_mcp.summarizers.statement_features import is_pointing
from ctxmem_mcp.summarizers.statement_ranker import RatedStatements, rate_statements
from ctxmem_mcp.summarizers.title_options import with_name
from ctxmem_mcp.summarizers.titles import title_of
from ctxmem_mcp.summarizers.tool_calls import read_call


class ExtractiveSummarizer:
    """Summarises a node in its own words: every name and number of a summary occurs in the node."""

    def summarize_leaf(self, turns: Sequence[Turn], before: Sequence[Turn] = ()) -> Summary:
        section = read_section(turns)
        messages = assistant_messages(before)
        preceding = next((m for m in reversed(messages) if m.sentences and not m.is_reasoning), None)
        outcomes = find_error_outcomes(section)
        statements = rate_statements(section, outcomes, messages) if section.is_work else RatedStatements()
        candidates = highlights.find_candidates(section, outcomes, preceding, statements.lines)
        selected = highlights.select_best(candidates, highlights.highlight_budget(section, outcomes))
        title = title_of(section, outcomes, preceding, statements.title)
        if title == FALLBACK_TITLE:
            title = host_title(turns) or title
        identifiers = find_identifiers(section)
        if title == statements.title and not _is_clear_request(title, section):
            title = with_name(title, identifiers)
        open_for = build_open_hint(section, outcomes, selected)
        return Summary(EXTRACTIVE, without_ellipsis(title), selected, identifiers, open_for)

    def summarize_parent(self, children: Sequence[tuple[Node, Summary]]) -> Summary:
        return parents.summarize_parent(children)

    def title_of_parent(self, children: Sequence[tuple[Node, Summary]]) -> str:
        return parents.title_of_parent(children)


def _is_clear_request(title: str, section: Section) -> bool:
    """Whether a title is the user's own words, which need no name beside them unless they point to something."""
    return any(title.startswith(request.core) and not is_pointing(request.core) for request in section.requests)


def assistant_messages(turns: Sequence[Turn]) -> list[Message]:
    """The assistant's messages of some turns, thoughts included."""
    return [read_message(turn) for turn in turns if turn.role == "assistant" and read_call(turn) is None]
