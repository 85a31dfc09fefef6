"""Builds a conversation anew from the turns that could be read of a damaged one.

Every turn keeps its id and its place, because nodes, written summaries and later syncs refer to them. A turn that can't
be read is replaced by a note; it keeps its id too if that can still be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ctxmem_mcp import tree
from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.memory.commit_builder import CommitBuilder, Edge, encode_frontier
from ctxmem_mcp.memory.edge_loader import load_edge
from ctxmem_mcp.memory.expiry import ANY_TIME
from ctxmem_mcp.models import RECAP, Turn, iso, to_new_turns
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import Commit, Salvage, State
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text.embeddings import Embedder

# The extra of a conversation in which a repair lost turns: the day of the last one.
REPAIRED = "repaired"
LOST_TEXT = "[This turn was lost to damage of the file that it was stored in.]"
# Turns per transaction.
_CHUNK_TURNS = 500
_CREATED_LATER_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Repaired:
    """The result of a repair.

    Attributes:
        turns: how many were saved.
        lost: index and id of each turn that could not be read; the id is empty if it is unknown too.
        damaged_file: where the damaged file is kept.
    """

    conversation_id: str
    turns: int
    lost: tuple[tuple[int, str], ...]
    damaged_file: str


@dataclass(frozen=True, slots=True)
class _Placed:
    """A turn and the seq of the turn that it follows. missing: nothing of it was read."""

    turn: Turn
    parent: int
    lost: bool
    missing: bool = False


async def rebuild(
    store: Store, salvage: Salvage, empty: State, summarizer: Summarizer, embedder: Embedder | None
) -> tuple[int, tuple[tuple[int, str], ...]]:
    """Stores what was salvaged; nothing if no turn was.

    Returns how many turns were saved, and index and id of each that was not.

    Args:
        store: An empty store.
        salvage: What could be read.
        empty: The state of a new conversation, for what is lost of the old one's state.
        summarizer: Writes the first summaries.
        embedder: Computes vectors, if ranking uses meaning.
    """
    if salvage.forgotten:
        raise UnknownConversation(empty.conversation_id)
    if not salvage.turns:
        return 0, tuple((turn.index, turn.id) for turn in salvage.lost.values())
    old, state = salvage.state, _first_state(salvage, empty)
    placed = _place(salvage, state.salt)
    edge, now = Edge(), state.updated
    for run in _runs(placed):
        if run[0].parent != edge.seq:
            edge = await load_edge(store, state, run[0].parent)
        builder = CommitBuilder(state, edge, summarizer, embedder, now=now)
        builder.add(to_new_turns(one.turn for one in run), [one.turn.digest for one in run])
        built = builder.build(state.retention_days)
        turns = [replace(new, stored_at=one.turn.stored_at) for new, one in zip(built.turns, run, strict=True)]
        await store.commit(replace(built.commit, turns=turns), now)
        state, edge = built.commit.state, built.edge
    await _restore_state(store, state, old)
    for one in salvage.summaries:
        if await store.nodes(state.conversation_id, [one.digest]):
            await store.add_summary(state.conversation_id, one.digest, one.summary, now)
    lost = [(one.turn.index, "" if one.missing else one.turn.id) for one in placed if one.lost]
    # Turns after the last one that was read, if it is known how many there were.
    lost += [(-1, "")] * max(0, (old["next_seq"] if old else 0) - state.next_seq)
    if lost:
        day = iso(empty.updated)[: len("2026-01-01")]
        await store.set_extra(state.conversation_id, REPAIRED, day.encode(), ANY_TIME)
    return len(salvage.turns), tuple(lost)


def _first_state(salvage: Salvage, empty: State) -> State:
    """The state before the first turn: that of the damaged conversation as far as it is known."""
    if (old := salvage.state) is None:
        # Last updated now: by the retention of new conversations it might have expired.
        return replace(empty, created=min(turn.stored_at for turn in salvage.turns.values()))
    names = ("title", "space", "salt", "encoding", "retention_days", "created", "updated", "expires")
    state = replace(empty, **{name: old[name] for name in names})
    # Processes that have the damaged one's state cached must see another conversation.
    return replace(state, created=state.created + _CREATED_LATER_SECONDS)


async def _restore_state(store: Store, state: State, old: object) -> None:
    """Moves the head to where it was, and restores the title and the expiry."""
    if not isinstance(old, dict):
        return
    head = old["head"] if 0 < old["head"] < state.next_seq else state.head
    edge = await load_edge(store, state, head)
    restored = replace(
        state, version=state.version + 1, head=head, title=old["title"] or state.title, updated=old["updated"],
        expires=old["expires"], frontier=encode_frontier(edge.frontier),
    )  # fmt: skip
    await store.commit(Commit(restored), old["updated"])


def _place(salvage: Salvage, salt: bytes) -> list[_Placed]:
    """Every turn up to the last one known, each with its parent: the turn with which its hash is right."""
    known = {**salvage.lost, **salvage.turns}
    by_index: dict[int, list[int]] = {}
    placed: list[_Placed] = []
    for seq in range(1, max(known) + 1):
        lost = seq not in salvage.turns
        turn = known.get(seq)
        if turn is None:
            before = placed[-1].turn if placed else None
            index = before.index + 1 if before else 0
            digest = tree.turn_digest(before.digest if before else b"", "system", RECAP, None, LOST_TEXT, salt)
            turn = Turn(
                seq, index, digest, "system", LOST_TEXT, RECAP, None, None, 0, before.stored_at if before else 0.0
            )
            parent = seq - 1
        else:
            # A redacted turn's hash can't be computed either.
            parent = _parent(turn, lost or turn.is_redacted, placed, by_index, salvage, salt)
        index = placed[parent - 1].turn.index + 1 if parent else 0
        if lost:
            turn = replace(turn, content=LOST_TEXT)
        placed.append(_Placed(replace(turn, index=index), parent, lost, missing=seq not in known))
        by_index.setdefault(index, []).append(seq)
    return placed


def _note(seq: int, before: Turn | None, salt: bytes) -> Turn:
    """A turn in the place of one of which nothing is known."""
    previous, index, stored_at = (before.digest, before.index + 1, before.stored_at) if before else (b"", 0, 0.0)
    digest = tree.turn_digest(previous, "system", RECAP, None, LOST_TEXT, salt)
    return Turn(seq, index, digest, "system", LOST_TEXT, RECAP, None, None, 0, stored_at)


def _parent(
    turn: Turn,
    lost: bool,
    placed: Sequence[_Placed],
    by_index: Mapping[int, Sequence[int]],
    salvage: Salvage,
    salt: bytes,
) -> int:
    """The seq of the turn before; 0 if there is none."""
    before = turn.seq - 1
    candidates = [before, *(seq for seq in reversed(by_index.get(turn.index - 1, [])) if seq != before)]
    if turn.index == 0:
        candidates.append(0)
    if not lost:
        for seq in candidates:
            previous = placed[seq - 1].turn.digest if seq else b""
            if tree.turn_digest(previous, turn.role, turn.name, turn.call_id, turn.content, salt) == turn.digest:
                return seq
    # The turn before it, or the turn's own content, is lost.
    if turn.seq in salvage.runs and salvage.runs[turn.seq].parent_seq < turn.seq:
        return salvage.runs[turn.seq].parent_seq
    if turn.index == 0 or not before or placed[before - 1].turn.index == turn.index - 1:
        return before if turn.index else 0
    return next((seq for seq in candidates if seq != before), before)


def _runs(placed: Sequence[_Placed]) -> Iterator[list[_Placed]]:
    """The turns in stretches, each turn the child of the one before, of a size for one transaction."""
    run: list[_Placed] = []
    for one in placed:
        if run and (one.parent != run[-1].turn.seq or len(run) == _CHUNK_TURNS):
            yield run
            run = []
        run.append(one)
    if run:
        yield run
