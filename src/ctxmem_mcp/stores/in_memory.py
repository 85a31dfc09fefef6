"""A store in dicts: the whole contract on one page, and the reference that the others are tested against.

Keeps nothing beyond the process. Good for tests and for programs that want a memory for a moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ctxmem_mcp.errors import HeadMoved, UnknownConversation, UnknownNode
from ctxmem_mcp.models import EXTRACTIVE, Node, Piece, Receipt, Summary, Turn
from ctxmem_mcp.stores.base import (
    LOST,
    CallRefusal,
    Commit,
    ModelCall,
    Page,
    SpendLimits,
    State,
    TermHits,
    info_of,
    page_of,
)


@dataclass(slots=True)
class _Kept:
    """One conversation."""

    state: State
    turns: dict[int, Turn] = field(default_factory=dict)
    pieces: dict[int, Piece] = field(default_factory=dict)
    pieces_of: dict[int, list[Piece]] = field(default_factory=dict)
    terms: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    vectors: dict[int, bytes] = field(default_factory=dict)
    nodes: dict[bytes, Node] = field(default_factory=dict)
    closings: list[tuple[int, Node]] = field(default_factory=list)
    summaries: dict[bytes, dict[str, Summary]] = field(default_factory=dict)
    calls: dict[int, ModelCall] = field(default_factory=dict)

    def take(self, commit: Commit) -> None:
        for turn in commit.turns:
            self.turns[turn.seq] = turn
        for stored in commit.pieces:
            piece = stored.piece
            self.pieces[piece.id] = piece
            self.pieces_of.setdefault(piece.seq, []).append(piece)
            if stored.vector:
                self.vectors[piece.id] = stored.vector
            for position, term in enumerate(stored.terms):
                self.terms.setdefault(term, []).append((piece.id, position))
        for closing in commit.closings:
            self.nodes[closing.node.digest] = closing.node
            self.closings.append((closing.closer, closing.node))
            self.summaries.setdefault(closing.node.digest, {}).setdefault(closing.summary.author, closing.summary)
        self.state = commit.state

    def begin(self, call: ModelCall, caps: SpendLimits, now: float) -> ModelCall | CallRefusal:
        if call.digest not in self.nodes:
            raise UnknownNode(call.digest.hex(), self.state.conversation_id)
        for known in self.calls.values():
            if not known.outcome and known.begun + caps.lost_after_seconds <= now:
                self.calls[known.number] = replace(known, outcome=LOST)
        if any(not known.outcome for known in self.calls.values()):
            return CallRefusal.BUSY
        if any(author != EXTRACTIVE for author in self.summaries[call.digest]):
            return CallRefusal.ALREADY_WRITTEN
        if sum(known.tokens for known in self.calls.values()) + call.tokens > caps.tokens_per_conversation:
            return CallRefusal.CONVERSATION_LIMIT
        return replace(call, number=max(self.calls, default=0) + 1)

    def end(self, call: ModelCall, summary: Summary | None) -> None:
        if call.outcome:
            self.calls[call.number] = call
        else:
            del self.calls[call.number]
        kept = self.summaries[call.digest]
        if summary is not None and all(author in (EXTRACTIVE, summary.author) for author in kept):
            kept.pop(summary.author, None)
            kept[summary.author] = summary


def _read_through(commit: Commit) -> Commit:
    """The same commit, all of it in hand: what fails on the way fails before anything is kept."""
    pieces = [replace(stored, terms=tuple(stored.terms)) for stored in commit.pieces]
    return Commit(commit.state, tuple(commit.turns), pieces, tuple(commit.closings), tuple(commit.runs))


class InMemoryStore:
    """Keeps conversations in memory. Implements stores.contract.Store."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._spent: Counter[int] = Counter()

    async def load(self, conversation_id: str, now: float) -> State | None:
        kept = self._kept.get(conversation_id)
        return kept.state if kept and kept.state.expires > now else None

    async def commit(self, commit: Commit, now: float) -> None:
        state = commit.state
        kept = self._kept.get(state.conversation_id)
        if kept is not None and kept.state.expires <= now:
            del self._kept[state.conversation_id]
            kept = None
        if (kept.state.version if kept else 0) != state.version - 1 or (kept and kept.state.created != state.created):
            raise HeadMoved(state.conversation_id)
        commit = _read_through(commit)
        if kept is None:
            kept = self._kept[state.conversation_id] = _Kept(state)
        kept.take(commit)

    async def turns(self, conversation_id: str, seqs: Sequence[int], *, metadata_only: bool = False) -> list[Turn]:
        turns = self._of(conversation_id).turns
        found = [turns[seq] for seq in seqs if seq in turns]
        return [replace(turn, content="") for turn in found] if metadata_only else found

    async def digests(self, conversation_id: str, first_seq: int, last_seq: int) -> list[bytes]:
        turns = self._of(conversation_id).turns
        return [turns[seq].digest for seq in range(first_seq, last_seq + 1) if seq in turns]

    async def nodes(self, conversation_id: str, digests: Sequence[bytes]) -> dict[bytes, Node]:
        nodes = self._of(conversation_id).nodes
        return {digest: nodes[digest] for digest in digests if digest in nodes}

    async def closings(self, conversation_id: str, first_seq: int, last_seq: int) -> list[tuple[int, Node]]:
        found = [(c, n) for c, n in self._of(conversation_id).closings if first_seq <= c <= last_seq]
        return sorted(found, key=lambda pair: (pair[0], pair[1].level))

    async def nodes_over(self, conversation_id: str, first: int, last: int) -> list[tuple[int, Node]]:
        closings = self._of(conversation_id).closings
        return sorted(((c, n) for c, n in closings if (n.first, n.last) == (first, last)), key=lambda pair: pair[0])

    async def summaries(self, conversation_id: str, digests: Sequence[bytes]) -> Mapping[bytes, list[Summary]]:
        kept = self._of(conversation_id).summaries
        return {digest: list(kept[digest].values()) for digest in digests if digest in kept}

    async def add_summary(self, conversation_id: str, digest: bytes, summary: Summary, now: float) -> None:
        kept = self._living(conversation_id, now)
        if digest not in kept.nodes:
            raise UnknownNode(digest.hex(), conversation_id)
        kept.summaries[digest].pop(summary.author, None)
        kept.summaries[digest][summary.author] = summary

    async def begin_call(
        self, conversation_id: str, call: ModelCall, caps: SpendLimits, now: float
    ) -> ModelCall | CallRefusal:
        kept = self._living(conversation_id, now)
        begun = kept.begin(call, caps, now)
        if isinstance(begun, CallRefusal):
            return begun
        if self._spent[begun.day] + begun.tokens > caps.tokens_per_day:
            return CallRefusal.DAY_LIMIT
        self._spent[begun.day] += begun.tokens
        kept.calls[begun.number] = begun
        return begun

    async def end_call(self, conversation_id: str, call: ModelCall, summary: Summary | None, now: float) -> None:
        kept = self._living(conversation_id, now)
        if (had := kept.calls.get(call.number)) is not None:
            self._spent[call.day] += call.cost - had.tokens
            kept.end(call, summary)

    async def model_calls(self, conversation_id: str) -> list[ModelCall]:
        return list(self._of(conversation_id).calls.values())

    async def spent(self, day: int) -> int:
        return self._spent[day]

    async def pieces(self, conversation_id: str, ids: Sequence[int]) -> dict[int, Piece]:
        pieces = self._of(conversation_id).pieces
        return {i: pieces[i] for i in ids if i in pieces}

    async def pieces_of(self, conversation_id: str, seqs: Sequence[int]) -> dict[int, list[Piece]]:
        by_turn = self._of(conversation_id).pieces_of
        return {seq: list(by_turn[seq]) for seq in seqs if seq in by_turn}

    async def vectors(self, conversation_id: str, ids: Sequence[int]) -> dict[int, bytes]:
        vectors = self._of(conversation_id).vectors
        return {i: vectors[i] for i in ids if i in vectors}

    async def term_hits(self, conversation_id: str, terms: Sequence[str], cap: int) -> Mapping[str, TermHits]:
        kept, found = self._of(conversation_id).terms, dict[str, TermHits]()
        for term in terms:
            if hits := kept.get(term):
                df = len({piece for piece, _ in hits})
                found[term] = (
                    TermHits(df, capped=True)
                    if df > cap
                    else TermHits(df, [piece for piece, _ in hits], [at for _, at in hits])
                )
        return found

    async def find(self, root: bytes, now: float) -> list[str]:
        living = [k for k in self._kept.values() if k.state.expires > now]
        roots = [
            k for k in living if any(k.turns[r.first_seq].digest == root for r in k.state.runs if not r.parent_seq)
        ]
        roots.sort(key=lambda k: (-k.state.updated, k.state.conversation_id))
        return [k.state.conversation_id for k in roots]

    async def conversations(
        self, now: float, space: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> Page:
        infos = [
            (
                k.state.updated,
                info_of(k.state, k.turns[k.state.head].id, sum(len(t.content.encode()) for t in k.turns.values())),
            )
            for k in self._kept.values()
            if k.state.expires > now and space in (None, k.state.space)
        ]
        return page_of(infos, limit, cursor)

    async def forget(self, conversation_id: str) -> Receipt:
        kept = self._of(conversation_id)
        size = sum(len(turn.content.encode()) for turn in kept.turns.values())
        del self._kept[conversation_id]
        return Receipt(conversation_id, len(kept.turns), len(kept.nodes), size, ["it is in no dict of this process"])

    async def sweep(self, now: float) -> list[str]:
        expired = [name for name, kept in self._kept.items() if kept.state.expires <= now]
        for name in expired:
            del self._kept[name]
        return sorted(expired)

    async def close(self) -> None:
        self._kept.clear()

    def _living(self, conversation_id: str, now: float) -> _Kept:
        kept = self._of(conversation_id)
        if kept.state.expires <= now:
            raise UnknownConversation(conversation_id)
        return kept

    def _of(self, conversation_id: str) -> _Kept:
        kept = self._kept.get(conversation_id)
        if kept is None:
            raise UnknownConversation(conversation_id)
        return kept
