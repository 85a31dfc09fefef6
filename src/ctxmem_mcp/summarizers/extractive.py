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
from ctxmem_mcp.summarizers.error_outcomes import endings_of
from ctxmem_mcp.summarizers.identifiers import identifiers_of
from ctxmem_mcp.summarizers.open_hints import left_out
from ctxmem_mcp.summarizers.section_reader import read_section
from ctxmem_mcp.summarizers.sentences import Said, listen
from ctxmem_mcp.summarizers.titles import title_of


class ExtractiveSummarizer:
    """Says a node shorter in its own words; every name and number in it stands in the node."""

    def leaf(self, turns: Sequence[Turn], before: Sequence[Turn] = ()) -> Summary:
        section = read_section(turns)
        question = _question(before)
        episodes = endings_of(section)
        offers = highlights.offers_of(section, episodes, question)
        kept = highlights.keep_best(offers, highlights.allowance(section, episodes))
        title = title_of(section, episodes, question)
        return Summary(EXTRACTIVE, title, kept, identifiers_of(section), left_out(section, episodes, kept))

    def parent(self, children: Sequence[tuple[Node, Summary]]) -> Summary:
        return parents.summarize(children)

    def title(self, children: Sequence[tuple[Node, Summary]]) -> str:
        return parents.title_of(children)


def _question(before: Sequence[Turn]) -> Said | None:
    """What the assistant said last before the section: what "yes" or "2" answers."""
    for turn in reversed(before):
        if turn.role == "assistant" and turn.call_id is None and (said := listen(turn)).sentences and not said.thought:
            return said
    return None
