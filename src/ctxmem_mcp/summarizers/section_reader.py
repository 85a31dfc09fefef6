"""Parses a leaf's turns once into messages, tool calls and tool results. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from ctxmem_mcp.models import Turn
from ctxmem_mcp.summarizers import sentence_scores
from ctxmem_mcp.summarizers.error_extraction import ToolResult, read_result
from ctxmem_mcp.summarizers.requests import Request, find_request
from ctxmem_mcp.summarizers.sentences import Message, read_message
from ctxmem_mcp.summarizers.tool_calls import ToolCall, read_call
from ctxmem_mcp.text.media import media_spans, shown_text


class ScoredSentence(NamedTuple):
    """A sentence of conversation and how informative it is. position: which sentence of its message it is, from 0."""

    message: Message
    position: int
    text: str
    score: float


@dataclass(frozen=True)
class Section:
    """Everything a leaf's summary is made of, in order.

    Attributes:
        tokens: Tokens of all turns.
        messages: Turns that are neither a tool call nor a tool result.
        turn_sizes: Index and tokens of each turn.
    """

    tokens: int
    messages: list[Message] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    results: list[ToolResult] = field(default_factory=list)
    turn_sizes: list[tuple[int, int]] = field(default_factory=list)

    @cached_property
    def is_work(self) -> bool:
        """Whether the section contains tool calls or results."""
        return bool(self.calls or self.results)

    @cached_property
    def is_dialogue(self) -> bool:
        """Whether named people talk to each other."""
        return not self.is_work and len({message.speaker for message in self.messages if message.speaker}) > 1

    @cached_property
    def requests(self) -> list[Request]:
        """The user's requests, in order; none in a dialogue between people."""
        if self.is_dialogue:
            return []
        return [request for message in self.messages if (request := find_request(message))]

    @cached_property
    def scored_sentences(self) -> list[ScoredSentence]:
        """The sentences of a section without tool calls; an assistant's count less than a person's."""
        if self.is_work:
            return []
        found = []
        speakers = frozenset(message.speaker for message in self.messages)
        for message in self.messages:
            if message.origin not in ("text", "recap"):
                continue
            is_model = message.role == "assistant" and not self.is_dialogue
            for position, text in enumerate(message.sentences[: 12 if is_model else 40]):
                score = sentence_scores.score_fact(text, speakers) * (0.45 if is_model else 1.0)
                found.append(ScoredSentence(message, position, text, score))
        return found

    @cached_property
    def closing_turns(self) -> frozenset[int]:
        """Turns that end a reply: the assistant's last message before each of the user's, and the section's last."""
        found: set[int] = set()
        last: Message | None = None
        for message in self.messages:
            if message.role == "user" and last is not None:
                found.add(last.index)
            if message.role == "assistant" and not message.is_reasoning:
                last = message
        if last is not None and last.index >= self.last_index - 1:
            found.add(last.index)
        return frozenset(found)

    @cached_property
    def last_index(self) -> int:
        """Index of the last turn; 0 if there is none."""
        return self.turn_sizes[-1][0] if self.turn_sizes else 0

    def assistant_messages(self, first: int, last: int) -> list[Message]:
        """The assistant's messages from turn `first` to turn `last` (inclusive), in order."""
        return [m for m in self.messages if m.role == "assistant" and first <= m.index <= last]


def _without_media(turn: Turn) -> Turn:
    """A line in place of a picture or other data; none if it would stand alone in a user's text, as if requested."""
    spans = media_spans(turn.content)
    if not spans:
        return turn
    text = shown_text(turn.content)
    if turn.role == "user":
        media_lines = {span.line for span in spans}
        text = "\n".join(line for line in text.split("\n") if line.strip() not in media_lines)
    return replace(turn, content=text)


def read_section(turns: Sequence[Turn]) -> Section:
    """Parses a leaf's turns; results without a call id are matched to calls without one, in order."""
    section = Section(sum(turn.tokens for turn in turns))
    by_call_id: dict[str, ToolCall] = {}
    unanswered: list[ToolCall] = []
    for turn in map(_without_media, turns):
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
