"""Removes a branch of a conversation: rebuilds its file without the turns that only this branch has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ctxmem_mcp.errors import DamagedConversation, InvalidArgument
from ctxmem_mcp.memory import repair
from ctxmem_mcp.memory.branches import Lineage, branch_tips
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import Run, Salvage, State
from ctxmem_mcp.stores.tombstones import RemovedBranch, counts
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text.embeddings import Embedder

_TURNS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Removal:
    """What the removal of a branch takes.

    Attributes:
        lineage: the branch.
        seqs: the turns that no other branch has, in order.
        head: the seq of the head after it: the present head, or the newest other branch's last turn.
        had_head: whether the present head is removed.
    """

    lineage: Lineage
    seqs: Sequence[int]
    head: int
    had_head: bool


def find_tip(state: State, seq: int, turn_id: str) -> int:
    """Returns the last turn of the branch that runs through a turn.

    Raises:
        InvalidArgument: Several do.
    """
    tips = [tip for tip in branch_tips(state) if seq in Lineage.of(state.runs, tip)]
    if len(tips) > 1:
        raise InvalidArgument(
            "turn_id",
            f"must be on one branch only; {turn_id} is on {len(tips)}",
            "Name a turn that no other branch has, such as the branch's last one.",
        )
    return tips[0]


def plan_removal(state: State, tip: int) -> Removal | None:
    """Returns what is removed with the branch that ends at a turn; None if there is no other branch."""
    others = [Lineage.of(state.runs, other) for other in branch_tips(state) if other != tip]
    if not others:
        return None
    lineage = Lineage.of(state.runs, tip)
    removed = [seq for seq in lineage.seqs(0, lineage.length) if not any(seq in other for other in others)]
    had_head = state.head in removed
    head = max(other.last_seq for other in others) if had_head else state.head
    return Removal(lineage, removed, head, had_head)


def plan_subtree_removal(state: State, seq: int) -> Removal | None:
    """Returns what is removed with a turn: it and all that follows it; None if there is nothing else."""
    removed: set[int] = set()
    parents = {run.first_seq: run.parent_seq for run in state.runs}
    for at in range(seq, state.next_seq):
        if at == seq or parents.get(at, at - 1) in removed:
            removed.add(at)
    others = [tip for tip in branch_tips(state) if tip not in removed]
    parent = parents.get(seq, seq - 1)
    if not others and not parent:
        return None
    had_head = state.head in removed
    head = (parent or max(others)) if had_head else state.head
    return Removal(Lineage.of(state.runs, seq), sorted(removed), head, had_head)


async def identify(store: Store, state: State, removal: Removal) -> RemovedBranch:
    """Returns what the branch's tombstone is made of."""
    conversation = state.conversation_id
    first = (await store.turns(conversation, removal.seqs[:1], metadata_only=True))[0]
    path = await store.turns(conversation, removal.lineage.seqs(0, first.index - 1))
    for start in range(0, len(removal.seqs), _TURNS_AT_ONCE):
        turns = await store.turns(conversation, removal.seqs[start : start + _TURNS_AT_ONCE])
        for i, turn in enumerate(turns):
            if counts(turn):
                return RemovedBranch([*path, *turns[: i + 1]], first.digest, removal.had_head)
        path += turns
    return RemovedBranch([], first.digest, removal.had_head)


async def rebuild_without(
    store: Store, salvage: Salvage, removal: Removal, empty: State, summarizer: Summarizer, embedder: Embedder | None
) -> None:
    """Stores a conversation without a branch in an empty store.

    The title is made anew, because it may be that of the branch.

    Raises:
        DamagedConversation: Some of its turns can't be read.
    """
    if salvage.lost or salvage.state is None or not salvage.turns:
        raise DamagedConversation(empty.conversation_id, "Some of its turns can't be read.")
    new_seqs = {seq: i for i, seq in enumerate(sorted(salvage.turns.keys() - set(removal.seqs)), 1)}
    turns = {new: replace(salvage.turns[old], seq=new) for old, new in new_seqs.items()}
    state = {**salvage.state, "title": "", "head": new_seqs[removal.head], "next_seq": len(turns) + 1}
    rest = replace(salvage, state=state, turns=turns, runs=_runs_of_redacted(salvage, new_seqs))
    await repair.rebuild(store, rest, empty, summarizer, embedder)


def _runs_of_redacted(salvage: Salvage, new_seqs: Mapping[int, int]) -> dict[int, Run]:
    """Returns the turn that each redacted turn follows, as the run that it begins: its hash does not say so."""
    runs = {}
    for seq, turn in salvage.turns.items():
        if turn.is_redacted and seq in new_seqs:
            parent = salvage.runs[seq].parent_seq if seq in salvage.runs else seq - 1
            runs[new_seqs[seq]] = Run(new_seqs[seq], new_seqs.get(parent, 0), turn.index, 0)
    return runs
