"""Caches what never changes of recently read conversations: turns without their content, chunks and their vectors,
nodes, and where turns contain standing instructions.

An agent asks about one conversation again and again, and each view reads much the same chunks. No content of a turn and
no summary is cached, only terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ctxmem_mcp.lru import LRU
from ctxmem_mcp.memory.branch_table import BranchTable
from ctxmem_mcp.models import Node, Piece, Turn
from ctxmem_mcp.retrieval.compounds import Vocabulary
from ctxmem_mcp.stores.records import State
from ctxmem_mcp.views.excerpt_groups import ExcerptRef

# Each takes up to 10 MB.
CONVERSATIONS_CACHED = 4
# Of conversations that a search or the view of a project reads beside others; they take the place of each other only.
# Together they have about so many entries: 30 MB. A question about a project reads 8 to 15 conversations, the next one
# half of these again; with 24 of them cached, reading chunks was a quarter of a search.
CONVERSATIONS_CACHED_OF_MANY, ENTRIES_CACHED_OF_MANY = 128, 60_000
ENTRIES_CACHED = 10_000


class InstructionPlace(NamedTuple):
    """Where a turn of so many characters contains a standing instruction, and the terms that tell what it is about."""

    start: int
    stop: int
    chars: int
    kind: frozenset[str]


@dataclass(frozen=True, slots=True)
class ReadCache:
    """The parts of one conversation that have been read.

    Attributes:
        created: When it began, which distinguishes it from a later one of its id.
        vectors: Those of chunks, as far as they were computed.
        vocabulary: Its terms, by the number of its next chunk; at most one entry.
        tables: The chunks of a branch, by the chunks' ranges of ids; at most one entry.
        languages: The languages that its words are stemmed in, each with its share of the chunks, by the version of its
            state; at most one entry.
        pieces_of: The chunks of a turn, by the turn's seq.
        standing: Where the standing instructions are, by the version of its state and the seq of a branch's last turn;
            at most one entry.
        instructions: Those in a turn, by its digest, flags (a redacted turn keeps its digest) and language.
    """

    created: float = 0.0
    turns: dict[int, Turn] = field(default_factory=dict)
    pieces: dict[int, Piece] = field(default_factory=dict)
    vectors: dict[int, bytes] = field(default_factory=dict)
    nodes: dict[bytes, Node] = field(default_factory=dict)
    vocabulary: dict[int, Vocabulary] = field(default_factory=dict)
    tables: dict[tuple[tuple[int, int, int], ...], BranchTable] = field(default_factory=dict)
    languages: dict[int, dict[str, float]] = field(default_factory=dict)
    pieces_of: dict[int, list[Piece]] = field(default_factory=dict)
    standing: dict[tuple[int, int], list[ExcerptRef]] = field(default_factory=dict)
    instructions: dict[tuple[bytes, int, str | None], Sequence[InstructionPlace]] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[dict[Any, Any], ...]:
        """Returns the parts that each read adds to."""
        return self.turns, self.pieces, self.vectors, self.nodes, self.pieces_of, self.instructions

    def bound(self) -> None:
        """Clears each part that has grown too large."""
        for entries in self.parts:
            if len(entries) > ENTRIES_CACHED:
                entries.clear()


class ReadCaches:
    """The caches of the most recently read conversations."""

    def __init__(self) -> None:
        self._caches: LRU[str, ReadCache] = LRU(CONVERSATIONS_CACHED)
        self._of_many: LRU[str, ReadCache] = LRU(CONVERSATIONS_CACHED_OF_MANY)

    def at(self, state: State, *, of_many: bool = False) -> ReadCache:
        """Returns the conversation's cache, which readers add to. of_many: it is read beside others."""
        caches = self._of_many if of_many and state.conversation_id not in self._caches else self._caches
        cache = caches.get(state.conversation_id)
        if cache is None or cache.created != state.created:
            if caches is self._of_many:
                self._make_room()
            cache = caches[state.conversation_id] = ReadCache(state.created)
        cache.bound()
        return cache

    def _make_room(self) -> None:
        """Drops the least recently read of these conversations until together they have at most ENTRIES_CACHED_OF_MANY
        entries."""
        sizes = {one: sum(map(len, self._of_many[one].parts)) for one in list(self._of_many)}
        total = sum(sizes.values())
        for one, size in sizes.items():
            if total <= ENTRIES_CACHED_OF_MANY:
                return
            del self._of_many[one]
            total -= size

    def drop(self, conversation_id: str) -> None:
        for caches in (self._caches, self._of_many):
            caches.pop(conversation_id, None)

    def clear(self) -> None:
        for caches in (self._caches, self._of_many):
            caches.clear()
