"""Builds one commit from new turns: counts, hashes, cuts and analyses them, grows the tree, summarises. Pure.

An Edge is all of a branch that an append needs to see: its last turn, its open leaf, its spine. It is read from the
store once and passed on from one append to the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

from ctxmem_mcp import tree
from ctxmem_mcp.memory.expiry import extended
from ctxmem_mcp.models import INJECTED, REDACTED, NewTurn, Node, Piece, Summary, Turn, parse_iso, to_new_turns
from ctxmem_mcp.stores.records import Closing, Commit, Run, State, StoredPiece
from ctxmem_mcp.summarizers.base import Summarizer, is_uninformative, names_calls
from ctxmem_mcp.summarizers.conversation_titles import is_provisional, title_after
from ctxmem_mcp.text import analyzer, chunk_flags, chunker, instructions, language, tokenizer
from ctxmem_mcp.text.embeddings import Embedder
from ctxmem_mcp.text.host_text import Span, is_mostly_host, is_plain, split_host_text
from ctxmem_mcp.text.media import shown_text
from ctxmem_mcp.worker_pool import MeasuredSteps, finish

# A step of a large input's computation, between two pauses: some tens of milliseconds.
STEP_CHARS = 32_000
# How many turns before a leaf its summariser sees.
BEFORE_TURNS = 3
# The topic is taken from the beginning of a turn; the rest of a long one adds nothing.
TOPIC_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Edge:
    """The open end of a branch.

    Attributes:
        seq, digest: of its last turn; 0 and empty before the first.
        length: the number of its turns.
        open, before: the turns of the open leaf, and the last ones before it.
        summaries: of the spine's nodes, by digest.
    """

    seq: int = 0
    digest: bytes = b""
    length: int = 0
    frontier: tree.Frontier = field(default_factory=tree.Frontier)
    open: tuple[Turn, ...] = ()
    before: tuple[Turn, ...] = ()
    summaries: Mapping[bytes, Summary] = field(default_factory=dict)


def turn_facts(turn: Turn) -> tree.TurnFacts:
    """Returns what the tree needs to know of a turn."""
    is_speech = turn.role != "tool" and turn.call_id is None
    topic = frozenset(analyzer.analyze(turn.content[:TOPIC_CHARS], turn.language)) if is_speech else frozenset[str]()
    return tree.TurnFacts(turn.digest, turn.index, turn.role, turn.tokens, turn.call_id, parse_iso(turn.said_at), topic)


def language_of(turn: NewTurn) -> str | None:
    """The language of a turn that is prose; calls and output have none."""
    if turn.call_id is not None or not chunk_flags.is_prose(turn.content[: language.SAMPLE_CHARS], turn.role):
        return None
    return language.detect(turn.content)


def _turn_flags(turn: NewTurn, spoken: str | None) -> int:
    if turn.is_redacted:
        return REDACTED
    return instructions.STANDING if instructions.find_in_turn(turn.content, turn.role, spoken) else 0


def chain_digests(turns: Sequence[NewTurn], previous: bytes, salt: bytes) -> list[bytes]:
    """Returns the digests of these turns after the turn with digest `previous` (empty: at the start)."""
    digests = []
    for turn in turns:
        previous = _digest(turn, previous, salt)
        digests.append(previous)
    return digests


def _digest(turn: NewTurn, previous: bytes, salt: bytes) -> bytes:
    content = turn.content
    if turn.redaction is not None:
        if turn.redaction.after == previous:
            return turn.redaction.digest
        # It follows other turns than it did, or is hashed with another salt: its digest there can't be computed.
        content = f"redacted {turn.redaction.digest.hex()}"
    return tree.turn_digest(previous, turn.role, turn.name, turn.call_id, content, salt)


def encode_frontier(frontier: tree.Frontier) -> bytes:
    """Encodes what a store keeps of the head's frontier: its spine. The rest parent from the last turns."""
    spine = [[node.digest.hex() for node in level] for level in frontier.spine]
    return json.dumps({"spine": spine}, separators=(",", ":")).encode()


@dataclass(slots=True)
class Built:
    """A commit to make, the edge after it, and its turns."""

    commit: Commit
    edge: Edge
    turns: list[Turn]


def host_spans(turn: Turn) -> Sequence[Span]:
    """The spans of a turn that holds host text; none if all of it is certainly the speaker's."""
    is_prompt = turn.role == "system" and turn.name is None and turn.index == 0
    if is_prompt or (turn.role == "system" and turn.name == INJECTED):
        return [Span("host", 0, len(turn.content))]
    return () if turn.role != "user" or is_plain(turn.content) else split_host_text(turn.content)


# How much of the time each kind of work takes.
_COUNT_SHARE, _ADD_SHARE, _CUT_SHARE = 0.1, 0.5, 0.4


class _Pause:
    """Tells when a step is long enough.

    Attributes:
        share: how much of the work is done, 0..1.
    """

    def __init__(self, total_chars: int) -> None:
        self._total, self._chars, self.share = max(1, total_chars), 0, 0.0

    def is_due(self, chars: int, share: float) -> bool:
        """Adds work on some characters; share: how much of the time this kind of work takes."""
        self._chars += chars
        self.share += share * chars / self._total
        if self._chars < STEP_CHARS:
            return False
        self._chars = 0
        return True


def count_in_steps(turns: Sequence[NewTurn], encoding: str) -> MeasuredSteps[list[int]]:
    """Returns the tokens of each turn, counted in steps, for a worker process."""
    return (yield from _count_in_steps(turns, encoding, _Pause(sum(len(turn.content) for turn in turns)), 1.0))


def _count_in_steps(turns: Sequence[NewTurn], encoding: str, pause: _Pause, share: float) -> MeasuredSteps[list[int]]:
    sizes = list[int]()
    for new in turns:
        size = 0
        for chars, tokens in tokenizer.counts_of_slices(shown_text(new.content), encoding):
            size += tokens
            if pause.is_due(chars, share):
                yield pause.share
        sizes.append(size)
    return sizes


class JoinedTerms(Sequence[str]):
    """Terms as one text, which is sent to another process in a hundredth of the time."""

    __slots__ = ("_text",)

    def __init__(self, terms: Iterable[str]) -> None:
        self._text = " ".join(terms)

    def __len__(self) -> int:
        return len(self._split())

    def __iter__(self) -> Iterator[str]:
        return iter(self._split())

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        return self._split()[at]

    def _split(self) -> list[str]:
        return self._text.split(" ") if self._text else []


def build_in_steps(
    state: State,
    edge: Edge,
    turns: Sequence[NewTurn],
    digests: Sequence[bytes],
    summarizer: Summarizer,
    embedder: Embedder | None,
    *,
    now: float,
    retention_days: int | None,
) -> MeasuredSteps[Built]:
    """Builds the commit that adds these turns, in steps, for a worker process."""
    builder = CommitBuilder(state, edge, summarizer, embedder, now=now)
    yield from builder.add_in_steps(turns, digests)
    return _for_other_process(builder.build(retention_days))


def index_in_steps(
    state: State, edge: Edge, turns: Sequence[Turn], summarizer: Summarizer, embedder: Embedder | None
) -> MeasuredSteps[Built]:
    """Builds what an append of these stored turns would have stored, in steps, for a worker process.

    Args:
        state: The state before the append.
        edge: The edge of the turn that they follow.
        turns: The turns of one append, each of which follows the one before.
        summarizer: Summarises the nodes that close.
        embedder: See CommitBuilder.
    """
    builder = CommitBuilder(state, edge, summarizer, embedder, now=turns[0].stored_at)
    yield from builder.add_in_steps(
        to_new_turns(turns), [turn.digest for turn in turns], [turn.tokens for turn in turns]
    )
    return _for_other_process(builder.build(None))


def _for_other_process(built: Built) -> Built:
    pieces = [replace(stored, terms=JoinedTerms(stored.terms)) for stored in built.commit.pieces]
    return replace(built, commit=replace(built.commit, pieces=pieces))


class CommitBuilder:
    """Adds turns to one edge and builds the commit that stores them."""

    def __init__(
        self, state: State, edge: Edge, summarizer: Summarizer, embedder: Embedder | None = None, *, now: float
    ) -> None:
        """now: when the turns are stored, in seconds since 1970."""
        self._now = now
        self._state, self._edge, self._summarizer, self._embedder = state, edge, summarizer, embedder
        self._parent_seq = edge.seq
        self._turns: list[Turn] = []
        self._pieces: list[StoredPiece] = []
        self._closings: list[Closing] = []
        self._words = 0
        self._next_piece = state.next_piece

    def add(self, turns: Sequence[NewTurn], digests: Sequence[bytes]) -> None:
        """Adds turns with their digests."""
        finish(self.add_in_steps(turns, digests))

    def add_in_steps(
        self, turns: Sequence[NewTurn], digests: Sequence[bytes], sizes: Sequence[int] | None = None
    ) -> MeasuredSteps[None]:
        """Adds turns with their digests and, if they are counted, their tokens; in steps of about STEP_CHARS.

        Each kind of work is done for all turns before the next kind: the tokenizer's tables, for one, stay in the
        processor's cache, and counting takes a quarter of the time.
        """
        starts, pause = [], _Pause(sum(len(new.content) for new in turns))
        if sizes is None:
            sizes = yield from _count_in_steps(turns, self._state.encoding, pause, _COUNT_SHARE)
        for new, digest, size in zip(turns, digests, sizes, strict=True):
            starts.append(self._add(new, digest, size))
            if pause.is_due(len(new.content), _ADD_SHARE):
                yield pause.share
        for turn, (leaf, sitting) in zip(self._turns[-len(turns) :], starts, strict=True):
            yield from self._cut_in_steps(turn, leaf, sitting, pause)

    def _add(self, new: NewTurn, digest: bytes, size: int) -> tuple[int, int]:
        """Adds one turn; returns the index of the first turn of its section, and of its sitting."""
        state, edge = self._state, self._edge
        seq = state.next_seq + len(self._turns)
        spoken = None if new.is_redacted else language_of(new)
        turn = Turn(
            seq, edge.length, digest, new.role, new.content, new.name, new.said_at, new.call_id, size, self._now,
            spoken, _turn_flags(new, spoken),
        )  # fmt: skip
        growth = tree.grow(edge.frontier, turn_facts(turn), state.salt)
        summaries = dict(edge.summaries)
        for node in growth.closed:
            summaries[node.digest] = summary = self._summary(node, edge, summaries)
            self._closings.append(Closing(node, seq, summary))
        open_turns, before = (*edge.open, turn), edge.before
        if growth.closed:
            open_turns, before = (turn,), edge.open[-BEFORE_TURNS:]
            alive = {node.digest for level in growth.frontier.spine for node in level}
            summaries = {digest: s for digest, s in summaries.items() if digest in alive}
        self._turns.append(turn)
        self._edge = Edge(seq, digest, edge.length + 1, growth.frontier, open_turns, before, summaries)
        leaf = growth.frontier.leaf_first
        return turn.index if leaf is None else leaf, growth.frontier.sitting

    def _summary(self, node: Node, edge: Edge, summaries: Mapping[bytes, Summary]) -> Summary:
        if node.level == 0:
            return self._summarizer.summarize_leaf(edge.open, edge.before)
        known = {n.digest: n for level in edge.frontier.spine for n in level}
        return self._summarizer.summarize_parent([(known[digest], summaries[digest]) for digest in node.children])

    def _cut_in_steps(self, turn: Turn, leaf: int, sitting: int, pause: _Pause) -> MeasuredSteps[None]:
        host = host_spans(turn)
        is_standing = turn.flags & instructions.STANDING
        rules = instructions.find_in_turn(turn.content, turn.role, turn.language) if is_standing else []
        for start, stop in chunker.split(turn.content, turn.role) or [(0, 0)]:
            text = shown_text(turn.content, start, stop)
            terms = analyzer.analyze(text, turn.language)
            is_whole = start == 0 and stop == len(turn.content)
            size = turn.tokens if is_whole else tokenizer.count(text, self._state.encoding)
            flags = chunk_flags.flags(text, turn.role, turn.language)
            if is_mostly_host(host, start, stop):
                flags |= chunk_flags.Flag.HOST
            if any(start <= at < stop for at, _ in rules):
                flags |= chunk_flags.Flag.STANDING
            piece = Piece(
                self._next_piece, turn.seq, turn.index, start, stop, size, len(terms),
                flags, leaf, sitting, turn.role, turn.name, turn.said_at,
            )  # fmt: skip
            vector = self._embedder.embed([text])[0] if self._embedder else b""
            marks = chunk_flags.mark_terms(flags, turn.role, turn.language)
            self._pieces.append(StoredPiece(piece, [*terms, *marks], vector))
            self._words += len(terms)
            self._next_piece += 1
            if pause.is_due(len(text), _CUT_SHARE):
                yield pause.share

    def build(self, retention_days: int | None) -> Built:
        """Returns the commit that stores the added turns and makes the last one the head.

        Args:
            retention_days: Days to keep the conversation from now; None: as many as before.
        """
        state, edge, turns = extended(self._state, self._now, retention_days), self._edge, self._turns
        first = turns[0]
        parent = self._parent_seq
        new_runs = (
            [] if parent == first.seq - 1 and parent
            else [Run(first.seq, parent, first.index, state.next_piece)]
        )  # fmt: skip
        state = replace(
            state,
            version=state.version + 1,
            head=edge.seq,
            next_seq=edge.seq + 1,
            next_piece=self._next_piece,
            runs=(*state.runs, *new_runs),
            turns=state.turns + len(self._turns),
            tokens=state.tokens + sum(turn.tokens for turn in self._turns),
            words=state.words + self._words,
            nodes=state.nodes + len(self._closings),
            title=self._title(edge),
            frontier=encode_frontier(edge.frontier),
        )
        commit = Commit(state, turns, self._pieces, self._closings, new_runs)
        return Built(commit, edge, turns)

    def _title(self, edge: Edge) -> str:
        """Returns the conversation's title after the added turns; the topic of its closed sections until a turn
        names it."""
        title = self._state.title
        for turn in self._turns:
            title = title_after(title, turn)
        roots = edge.frontier.roots
        if self._closings and roots and is_provisional(title):
            known = [(node, edge.summaries[node.digest]) for node in roots]
            topic = known[0][1].title if len(known) == 1 else self._summarizer.title_of_parent(known)
            return title if is_uninformative(topic) or names_calls(topic) else topic
        return title
