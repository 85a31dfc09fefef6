"""A leaf's turns read once: who said what, which tools were called, what they reported. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ctxmem_mcp.models import Turn
from ctxmem_mcp.summarizers import sentence_scoring
from ctxmem_mcp.summarizers.error_extraction import ToolResult, read_result
from ctxmem_mcp.summarizers.requests import Request, find_request
from ctxmem_mcp.summarizers.sentences import Message, read_message
from ctxmem_mcp.summarizers.tool_calls import ToolCall, read_call


@dataclass(frozen=True)
class Section:
    """Everything a summary is made of, in order. sizes: index and tokens of each turn."""

    tokens: int
    messages: list[Message] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    results: list[ToolResult] = field(default_factory=list)
    turn_sizes: list[tuple[int, int]] = field(default_factory=list)

    @cached_property
    def is_work(self) -> bool:
        return bool(self.calls or self.results)

    @cached_property
    def is_dialogue(self) -> bool:
        """People who talk by name, both sides."""
        return not self.is_work and len({message.speaker for message in self.messages if message.speaker}) > 1

    @cached_property
    def requests(self) -> list[Request]:
        """The user's requests, in order; none where people talk to each other."""
        return [] if self.is_dialogue else [request for message in self.messages if (request := find_request(message))]

    @cached_property
    def scored_sentences(self) -> list[tuple[Message, int, str, float]]:
        """Sentences of talk that tell something: who said it, which sentence of the turn, the sentence, how much."""
        if self.is_work:
            return []
        found = []
        speakers = frozenset(message.speaker for message in self.messages)
        for message in self.messages:
            plain = message.role == "assistant" and not self.is_dialogue
            if message.origin in ("text", "recap"):
                for rank, text in enumerate(message.sentences[: 12 if plain else 40]):
                    found.append(
                        (message, rank, text, sentence_scoring.score_fact(text, speakers) * (0.45 if plain else 1.0))
                    )
        return found

    @cached_property
    def last_index(self) -> int:
        return self.turn_sizes[-1][0] if self.turn_sizes else 0

    def assistant_messages(self, first: int, last: int) -> list[Message]:
        """What the assistant said from turn `first` to turn `last`, in order."""
        return [m for m in self.messages if m.role == "assistant" and first <= m.index <= last]


def read_section(turns: Sequence[Turn]) -> Section:
    section = Section(sum(turn.tokens for turn in turns))
    by_call_id: dict[str, ToolCall] = {}
    unanswered: list[ToolCall] = []
    for turn in turns:
        section.turn_sizes.append((turn.index, turn.tokens))
        if turn.role == "tool":
            call = by_call_id.get(turn.call_id) if turn.call_id else (unanswered.pop(0) if unanswered else None)
            section.results.append(read_result(turn.index, turn.content, turn.tokens, call))
        elif call := read_call(turn):
            section.calls.append(call)
            if turn.call_id:
                by_call_id[turn.call_id] = call
            else:
                unanswered.append(call)
        else:
            section.messages.append(read_message(turn))
    return section
