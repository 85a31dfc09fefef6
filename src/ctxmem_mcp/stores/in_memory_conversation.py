"""One conversation of the store in memory, in dicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ctxmem_mcp.errors import UnknownNode
from ctxmem_mcp.models import EXTRACTIVE, Node, Piece, Summary, Turn
from ctxmem_mcp.results import ConversationInfo
from ctxmem_mcp.stores.listing import TIMED_TURNS_MAX, find_last_words, last_happened, to_info
from ctxmem_mcp.stores.records import (
    AGENT,
    LOST,
    CallRefusal,
    Commit,
    ModelCall,
    Salvage,
    SalvagedSummary,
    SpendLimits,
    State,
)


@dataclass(slots=True)
class Conversation:
    """The rows of one conversation."""

    state: State
    turns: dict[int, Turn] = field(default_factory=dict)
    pieces: dict[int, Piece] = field(default_factory=dict)
    pieces_of: dict[int, list[Piece]] = field(default_factory=dict)
    terms: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    vectors: dict[int, bytes] = field(default_factory=dict)
    nodes: dict[bytes, Node] = field(default_factory=dict)
    closings: list[tuple[int, Node]] = field(default_factory=list)
    closings_from: dict[int, list[tuple[int, Node]]] = field(default_factory=dict)
    summaries: dict[bytes, dict[str, Summary]] = field(default_factory=dict)
    calls: dict[int, ModelCall] = field(default_factory=dict)
    extra: dict[str, bytes] = field(default_factory=dict)

    def apply(self, commit: Commit) -> None:
        for turn in (*commit.turns, *commit.indexed):
            self.turns[turn.seq] = turn
            self.pieces_of[turn.seq] = []
        for stored in commit.pieces:
            piece = stored.piece
            self.pieces[piece.id] = piece
            self.pieces_of[piece.seq].append(piece)
            if stored.vector:
                self.vectors[piece.id] = stored.vector
            for position, term in enumerate(stored.terms):
                self.terms.setdefault(term, []).append((piece.id, position))
        for closing in commit.closings:
            self.nodes[closing.node.digest] = closing.node
            self.closings.append((closing.closer, closing.node))
            self.closings_from.setdefault(closing.node.first, []).append((closing.closer, closing.node))
            self.summaries.setdefault(closing.node.digest, {}).setdefault(closing.summary.author, closing.summary)
        self.state = commit.state

    def branch_roots(self, ranges: Sequence[tuple[int, int]]) -> list[Node]:
        """Returns the nodes closed by turns in these ranges that have no parent among them."""
        roots: list[Node] = []
        first = 0
        while closed := [
            node
            for closer, node in self.closings_from.get(first, ())
            if any(first_seq <= closer <= last_seq for first_seq, last_seq in ranges)
        ]:
            roots.append(max(closed, key=lambda node: node.last))
            first = roots[-1].last + 1
        return roots

    def begin_call(self, call: ModelCall, limits: SpendLimits, now: float) -> ModelCall | CallRefusal:
        if call.digest not in self.nodes:
            raise UnknownNode(call.digest.hex(), self.state.conversation_id)
        for other in self.calls.values():
            if not other.outcome and other.started + limits.lost_after_seconds <= now:
                self.calls[other.number] = replace(other, outcome=LOST)
        if any(not other.outcome for other in self.calls.values()):
            return CallRefusal.BUSY
        if any(author != EXTRACTIVE for author in self.summaries[call.digest]):
            return CallRefusal.ALREADY_WRITTEN
        if sum(other.tokens for other in self.calls.values()) + call.tokens > limits.tokens_per_conversation:
            return CallRefusal.CONVERSATION_LIMIT
        return replace(call, number=max(self.calls, default=0) + 1)

    def end_call(self, call: ModelCall, summary: Summary | None) -> None:
        if call.outcome:
            self.calls[call.number] = call
        else:
            del self.calls[call.number]
        by_author = self.summaries[call.digest]
        if summary is not None and all(author in (EXTRACTIVE, summary.author) for author in by_author):
            by_author.pop(summary.author, None)
            by_author[summary.author] = summary

    def salvage(self) -> Salvage:
        """Returns all of the conversation that a rebuild uses."""
        written = [
            SalvagedSummary(digest, summary)
            for digest, by_author in self.summaries.items()
            for summary in by_author.values()
            if summary.author != EXTRACTIVE
        ]
        return Salvage.of_undamaged(self.state, self.turns.values(), written)

    def last_happened(self) -> float:
        """Returns when the last turn was said or stored, in seconds since 1970."""
        last = self.state.next_seq - 1
        turns = (self.turns[seq] for seq in range(last, max(0, last - TIMED_TURNS_MAX), -1))
        return last_happened(self.state, ((turn.said_at, turn.stored_at) for turn in turns))

    def info(self, happened: float) -> ConversationInfo:
        """Returns the entry of the conversation in a list."""
        head = self.turns[self.state.head].id
        last = sorted(self.turns.values(), key=lambda turn: -turn.seq)[:TIMED_TURNS_MAX]
        words = find_last_words(last)
        ended = words.content if words else None
        return to_info(self.state, head, self.text_bytes(), happened, self.extra.get(AGENT), ended)

    def text_bytes(self) -> int:
        """Returns the bytes of all turns' contents."""
        return sum(len(turn.content.encode()) for turn in self.turns.values())
