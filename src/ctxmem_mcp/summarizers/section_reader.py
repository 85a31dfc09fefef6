"""A leaf's turns read once: who said what, which tools were called, what they reported. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ctxmem_mcp.models import Turn
from ctxmem_mcp.summarizers import sentence_scoring
from ctxmem_mcp.summarizers.error_extraction import Report, read_report
from ctxmem_mcp.summarizers.requests import Ask, asked
from ctxmem_mcp.summarizers.sentences import Said, listen
from ctxmem_mcp.summarizers.tool_calls import Call, read_call


@dataclass(frozen=True)
class Section:
    """Everything a summary is made of, in order. sizes: index and tokens of each turn."""

    tokens: int
    said: list[Said] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)

    @cached_property
    def is_work(self) -> bool:
        return bool(self.calls or self.reports)

    @cached_property
    def is_dialogue(self) -> bool:
        """People who talk by name, both sides."""
        return not self.is_work and len({s.speaker for s in self.said if s.speaker}) > 1

    @cached_property
    def asks(self) -> list[Ask]:
        """The user's requests, in order; none where people talk to each other."""
        return [] if self.is_dialogue else [ask for said in self.said if (ask := asked(said))]

    @cached_property
    def facts(self) -> list[tuple[Said, int, str, float]]:
        """Sentences of talk that tell something: who said it, which sentence of the turn, the sentence, how much."""
        if self.is_work:
            return []
        found = []
        speakers = frozenset(said.speaker for said in self.said)
        for said in self.said:
            plain = said.role == "assistant" and not self.is_dialogue
            if said.origin in ("words", "recap"):
                for rank, text in enumerate(said.sentences[: 12 if plain else 40]):
                    found.append(
                        (said, rank, text, sentence_scoring.facts_in(text, speakers) * (0.45 if plain else 1.0))
                    )
        return found

    @cached_property
    def end(self) -> int:
        return self.sizes[-1][0] if self.sizes else 0

    def between(self, first: int, last: int) -> list[Said]:
        """What the assistant said from turn `first` to turn `last`, in order."""
        return [s for s in self.said if s.role == "assistant" and first <= s.index <= last]


def read_section(turns: Sequence[Turn]) -> Section:
    section = Section(sum(turn.tokens for turn in turns))
    by_call_id: dict[str, Call] = {}
    waiting: list[Call] = []
    for turn in turns:
        section.sizes.append((turn.index, turn.tokens))
        if turn.role == "tool":
            answered = by_call_id.get(turn.call_id) if turn.call_id else (waiting.pop(0) if waiting else None)
            section.reports.append(read_report(turn.index, turn.content, turn.tokens, answered))
        elif call := read_call(turn):
            section.calls.append(call)
            if turn.call_id:
                by_call_id[turn.call_id] = call
            else:
                waiting.append(call)
        else:
            section.said.append(listen(turn))
    return section
