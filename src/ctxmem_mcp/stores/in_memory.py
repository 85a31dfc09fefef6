"""A store in dicts: the whole contract, and the reference that other stores are tested against.

Nothing outlives the process. Use it in tests and in programs that need a memory for a moment.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ctxmem_mcp.errors import HeadMoved, StoreUnavailable, UnknownConversation, UnknownNode
from ctxmem_mcp.models import NewTurn, Node, Piece, Summary, Turn
from ctxmem_mcp.projects import Project, parse_record
from ctxmem_mcp.results import ConversationPage, Receipt
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory_conversation import Conversation
from ctxmem_mcp.stores.listing import paginate
from ctxmem_mcp.stores.records import (
    BLOCK_BITS,
    DENSE_GENERATION,
    DENSE_PREFIX,
    GENERATION_BYTES,
    PROJECT,
    REDACTED_MARKS,
    BlockHits,
    CallRefusal,
    Commit,
    ModelCall,
    Salvage,
    SpendLimits,
    State,
    TermHits,
    block_of,
    children_of,
    dense_key,
)
from ctxmem_mcp.stores.tombstone_reads import TombstoneReads
from ctxmem_mcp.stores.tombstones import (
    KEY_BYTES,
    RedactedTurn,
    RemovedBranch,
    Tombstones,
    decode_marks,
    first_turns,
)

T = TypeVar("T")


def _materialize(commit: Commit) -> Commit:
    """Reads the commit's sequences to the end, so that one that fails does so before anything is stored."""
    pieces = [replace(stored, terms=tuple(stored.terms)) for stored in commit.pieces]
    return Commit(
        commit.state, tuple(commit.turns), pieces, tuple(commit.closings), tuple(commit.runs),
        indexed=tuple(commit.indexed),
    )  # fmt: skip


class InMemoryStore(TombstoneReads):
    """Holds conversations in memory. Implements `ctxmem_mcp.stores.base.Store`."""

    def __init__(self) -> None:
        self._conversations: dict[str, Conversation] = {}
        self._spent: Counter[int] = Counter()
        self._tombstones = Tombstones(secrets.token_bytes(KEY_BYTES))

    async def load(self, conversation_id: str, now: float) -> State | None:
        conversation = self._conversations.get(conversation_id)
        return conversation.state if conversation and conversation.state.expires > now else None

    async def commit(self, commit: Commit, now: float) -> None:
        state = commit.state
        conversation = self._conversations.get(state.conversation_id)
        if conversation is None:
            self._tombstones.check(state.conversation_id, commit.guard)
        version = conversation.state.version if conversation else 0
        if version != state.version - 1 or (conversation and conversation.state.created != state.created):
            raise HeadMoved(state.conversation_id)
        commit = _materialize(commit)
        if conversation is None:
            conversation = self._conversations[state.conversation_id] = Conversation(state)
        conversation.apply(commit)

    async def turns(self, conversation_id: str, seqs: Sequence[int], *, metadata_only: bool = False) -> list[Turn]:
        turns = self._get(conversation_id).turns
        found = [turns[seq] for seq in seqs if seq in turns]
        return [replace(turn, content="") for turn in found] if metadata_only else found

    async def digests(self, conversation_id: str, first_seq: int, last_seq: int) -> list[bytes]:
        turns = self._get(conversation_id).turns
        return [turns[seq].digest for seq in range(first_seq, last_seq + 1) if seq in turns]

    async def nodes(self, conversation_id: str, digests: Sequence[bytes]) -> dict[bytes, Node]:
        nodes = self._get(conversation_id).nodes
        return {digest: nodes[digest] for digest in digests if digest in nodes}

    async def closings(self, conversation_id: str, first_seq: int, last_seq: int) -> list[tuple[int, Node]]:
        found = [(c, n) for c, n in self._get(conversation_id).closings if first_seq <= c <= last_seq]
        return sorted(found, key=lambda pair: (pair[0], pair[1].level))

    async def nodes_over(self, conversation_id: str, first: int, last: int) -> list[tuple[int, Node]]:
        closings = self._get(conversation_id).closings
        return sorted(((c, n) for c, n in closings if (n.first, n.last) == (first, last)), key=lambda pair: pair[0])

    async def branch_roots(self, conversation_id: str, ranges: Sequence[tuple[int, int]]) -> list[Node]:
        return self._get(conversation_id).branch_roots(ranges)

    async def summaries(self, conversation_id: str, digests: Sequence[bytes]) -> Mapping[bytes, list[Summary]]:
        summaries = self._get(conversation_id).summaries
        return {digest: list(summaries[digest].values()) for digest in digests if digest in summaries}

    async def add_summary(self, conversation_id: str, digest: bytes, summary: Summary, now: float) -> None:
        conversation = self._get_live(conversation_id, now)
        if digest not in conversation.nodes:
            raise UnknownNode(digest.hex(), conversation_id)
        conversation.summaries[digest].pop(summary.author, None)
        conversation.summaries[digest][summary.author] = summary

    async def begin_call(
        self, conversation_id: str, call: ModelCall, limits: SpendLimits, now: float
    ) -> ModelCall | CallRefusal:
        conversation = self._get_live(conversation_id, now)
        numbered = conversation.begin_call(call, limits, now)
        if isinstance(numbered, CallRefusal):
            return numbered
        if self._spent[numbered.day] + numbered.tokens > limits.tokens_per_day:
            return CallRefusal.DAY_LIMIT
        self._spent[numbered.day] += numbered.tokens
        conversation.calls[numbered.number] = numbered
        return numbered

    async def end_call(self, conversation_id: str, call: ModelCall, summary: Summary | None, now: float) -> None:
        conversation = self._get_live(conversation_id, now)
        if (before := conversation.calls.get(call.number)) is not None:
            self._spent[call.day] += call.cost - before.tokens
            conversation.end_call(call, summary)

    async def model_calls(self, conversation_id: str) -> list[ModelCall]:
        return list(self._get(conversation_id).calls.values())

    async def spent(self, day: int) -> int:
        return self._spent[day]

    async def pieces(self, conversation_id: str, ids: Sequence[int]) -> dict[int, Piece]:
        pieces = self._get(conversation_id).pieces
        return {i: pieces[i] for i in ids if i in pieces}

    async def pieces_of(self, conversation_id: str, seqs: Sequence[int]) -> dict[int, list[Piece]]:
        by_turn = self._get(conversation_id).pieces_of
        return {seq: list(by_turn[seq]) for seq in seqs if seq in by_turn}

    async def vectors(self, conversation_id: str, ids: Sequence[int]) -> dict[int, bytes]:
        vectors = self._get(conversation_id).vectors
        return {i: vectors[i] for i in ids if i in vectors}

    async def replace_vectors(
        self, conversation_id: str, created: float, old: bytes, vectors: Mapping[int, bytes]
    ) -> None:
        found = self._get(conversation_id)
        if found.state is not None and found.state.created == created:
            found.vectors.update({i: vector for i, vector in vectors.items() if found.vectors.get(i) == old})

    async def extra(self, conversation_id: str, key: str) -> bytes | None:
        return self._get(conversation_id).extra.get(key)

    async def set_extra(self, conversation_id: str, key: str, value: bytes | None, now: float) -> None:
        extra = self._get_live(conversation_id, now).extra
        extra.pop(key, None)
        if value is not None:
            extra[key] = value

    async def dense_generation(self, conversation_id: str) -> bytes:
        return self._get(conversation_id).extra.setdefault(DENSE_GENERATION, secrets.token_bytes(GENERATION_BYTES))

    async def dense_vectors(self, conversation_id: str, tag: bytes, ids: Sequence[int]) -> dict[int, bytes]:
        extra = self._get(conversation_id).extra
        return {i: found for i in ids if (found := extra.get(dense_key(i), b"")).startswith(tag)}

    async def add_dense_vectors(self, conversation_id: str, generation: bytes, vectors: Mapping[int, bytes]) -> None:
        extra = self._get(conversation_id).extra
        if extra.get(DENSE_GENERATION) == generation:
            extra.update({dense_key(i): vector for i, vector in vectors.items()})

    async def term_hits(self, conversation_id: str, terms: Sequence[str], cap: int) -> Mapping[str, TermHits]:
        index, found = self._get(conversation_id).terms, dict[str, TermHits]()
        for term in terms:
            if occurrences := index.get(term):
                df = len({piece for piece, _ in occurrences})
                found[term] = (
                    TermHits(df, capped=True)
                    if df > cap
                    else TermHits(df, [piece for piece, _ in occurrences], [position for _, position in occurrences])
                )
        return found

    async def term_counts(
        self, conversation_ids: Sequence[str], terms: Sequence[str]
    ) -> Mapping[str, Mapping[str, int] | None]:
        found: dict[str, dict[str, int] | None] = {}
        for conversation_id in conversation_ids:
            conversation = self._conversations.get(conversation_id)
            index = conversation.terms if conversation else {}
            if counts := {term: len({piece for piece, _ in index[term]}) for term in terms if term in index}:
                found[conversation_id] = counts
        return found

    async def vocabulary(self, conversation_id: str) -> list[str]:
        return [term for term in self._get(conversation_id).terms if term.isalpha()]

    async def check(self, conversation_id: str) -> list[str]:
        self._get(conversation_id)
        return []

    async def find_blocks(self, terms: Sequence[str], now: float, seconds: float, *, listed: bool = False) -> BlockHits:
        places: dict[str, list[int]] = {}
        blocks = 0
        for number, conversation in enumerate(self._conversations.values()):
            chunks = {block_of(piece) for piece in conversation.pieces}
            blocks += len(chunks)
            for term in dict.fromkeys(terms):
                found = {block_of(piece) for piece, _ in conversation.terms.get(term, ())}
                places.setdefault(term, []).extend(number << BLOCK_BITS | first for first in sorted(found))
        active = {
            name: conversation.last_happened()
            for name, conversation in self._conversations.items()
            if conversation.state.expires > now
        }
        order = sorted(active, key=lambda name: (-active[name], name))
        numbers = {name: number for number, name in enumerate(self._conversations)}
        found_terms = {term: those for term, those in places.items() if those}
        return BlockHits(found_terms, {numbers[name]: name for name in order}, blocks, [], len(order))

    async def find(self, root: bytes, now: float) -> list[str]:
        live = [c for c in self._conversations.values() if c.state.expires > now]
        matches = [
            c for c in live if any(c.turns[r.first_seq].digest == root for r in c.state.runs if not r.parent_seq)
        ]
        matches.sort(key=lambda c: (-c.state.updated, c.state.conversation_id))
        return [c.state.conversation_id for c in matches]

    async def conversations(
        self,
        now: float,
        space: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
        project: Project | None = None,
        *,
        listed: bool = False,
    ) -> ConversationPage:
        infos = [
            (at := c.last_happened(), c.info(at))
            for c in self._conversations.values()
            if c.state.expires > now and space in (None, c.state.space)
            if project is None or project.contains(c.state.space, *parse_record(c.extra.get(PROJECT)))
        ]
        return paginate(infos, limit, cursor)

    async def forget(self, conversation_id: str) -> Receipt:
        conversation = self._get(conversation_id)
        turns, nodes, size = len(conversation.turns), len(conversation.nodes), conversation.text_bytes()
        state, by_seq = conversation.state, conversation.turns
        branches = list(first_turns(partial(children_of, state.runs, state.next_seq), by_seq.__getitem__))
        self._tombstones.add(self._tombstones.records_to_set(conversation_id, branches))
        del self._conversations[conversation_id]
        return Receipt(conversation_id, turns, nodes, size, ["no dict of this process contains it"])

    async def remove_branch(
        self, conversation_id: str, branch: RemovedBranch, build: Callable[[Store, Salvage], Awaitable[T]]
    ) -> tuple[T, list[str]]:
        done = await self._rebuild(conversation_id, build)
        self._tombstones.add(self._tombstones.records_of_branch(conversation_id, branch))
        return done, []

    async def redact(
        self,
        conversation_id: str,
        turns: Sequence[RedactedTurn],
        build: Callable[[Store, Salvage], Awaitable[T]],
        titles: Sequence[str] = (),
    ) -> tuple[T, list[str]]:
        marks = decode_marks(self._get(conversation_id).extra.get(REDACTED_MARKS))
        done = await self._rebuild(conversation_id, build)
        self._get(conversation_id).extra[REDACTED_MARKS] = self._tombstones.encode_marks(marks, turns)
        self._tombstones.add(self._tombstones.records_of_redaction(turns, marks, titles))
        return done, []

    async def _rebuild(self, conversation_id: str, build: Callable[[Store, Salvage], Awaitable[T]]) -> T:
        replaced = self._get(conversation_id)
        before, empty = replaced.state, InMemoryStore()
        done = await build(empty, replaced.salvage())
        if self._conversations.get(conversation_id) is not replaced or replaced.state is not before:
            raise StoreUnavailable(f"Conversation {conversation_id!r} was changed during this call.", "Try again.")
        rebuilt = empty._get(conversation_id)
        outlasting = {key: value for key, value in replaced.extra.items() if not key.startswith(DENSE_PREFIX)}
        rebuilt.extra = {**outlasting, **rebuilt.extra}
        rebuilt.calls = {
            number: call if call.digest in rebuilt.nodes else replace(call, digest=b"")
            for number, call in replaced.calls.items()
        }
        self._conversations[conversation_id] = rebuilt
        return done

    async def _known_tombstones(self) -> Tombstones:
        return self._tombstones

    async def bury(self, conversation_id: str, turns: Sequence[NewTurn]) -> None:
        self._tombstones.add(self._tombstones.records_to_set(conversation_id, [turns]))

    async def lift(
        self, conversation_id: str | None, branches: Sequence[Sequence[NewTurn]], digests: Sequence[bytes] = ()
    ) -> None:
        self._tombstones.add(self._tombstones.records_to_lift(conversation_id, branches, digests))

    async def unindexed(self) -> list[str]:
        return sorted(name for name, c in self._conversations.items() if c.state.unindexed)

    async def expired(self, now: float) -> dict[str, float]:
        return {name: c.state.expires for name, c in self._conversations.items() if c.state.expires <= now}

    async def sweep(self, expired: Mapping[str, float]) -> list[str]:
        live = self._conversations
        swept = sorted(name for name in expired if name in live and live[name].state.expires == expired[name])
        for name in swept:
            del live[name]
        return swept

    async def close(self) -> None:
        self._conversations.clear()

    def _get_live(self, conversation_id: str, now: float) -> Conversation:
        conversation = self._get(conversation_id)
        if conversation.state.expires <= now:
            raise UnknownConversation(conversation_id)
        return conversation

    def _get(self, conversation_id: str) -> Conversation:
        conversation = self._conversations.get(conversation_id)
        if conversation is None:
            raise UnknownConversation(conversation_id)
        return conversation
