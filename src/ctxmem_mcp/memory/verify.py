"""Recomputes every hash of a conversation and reports what differs. Reads everything once, in batches."""

from __future__ import annotations

from collections.abc import Sequence

from ctxmem_mcp import tree
from ctxmem_mcp.errors import BrokenHistory
from ctxmem_mcp.memory.branches import Lineage, run_end
from ctxmem_mcp.memory.repair import LOST_TEXT, REPAIRED
from ctxmem_mcp.models import Turn, id_digits, is_redacted_text
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import Run, State
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.media import shown_text

_TURNS_AT_ONCE = 500
# What reading damaged rows may raise.
_DAMAGE = (BrokenHistory, LookupError, TypeError, ValueError, OverflowError)


async def verify(store: Store, state: State) -> list[str]:
    """Returns a sentence for each fault; empty if all can be read and every turn and node hashes to its id.

    Turns that a repair could not save are no fault: see `lost_turns`.
    """
    faults = [_as_clause(fault) for fault in await store.check(state.conversation_id)]
    known = tuple(faults)
    repaired = await _when_repaired(store, state)
    for run in state.runs:
        try:
            faults += await _run_faults(store, state, run, known, repaired)
        except _DAMAGE as error:
            faults += [] if known else [f"the branch from turn number {run.first_seq} on can't be read: {error}"]
    try:
        faults += await _node_faults(store, state)
    except _DAMAGE as error:
        faults += [] if known else [f"the tree can't be read: {error}"]
    stored = state.next_seq - 1
    if state.turns != stored:
        faults.append(f"the conversation counts {state.turns} turns but has {stored}")
    return faults


def _as_clause(sentence: str) -> str:
    return (sentence[0].lower() + sentence[1:] if sentence[1:2].islower() else sentence).rstrip(".")


async def lost_turns(store: Store, state: State) -> list[str]:
    """Returns a sentence for each turn that a repair could not save."""
    repaired = await _when_repaired(store, state)
    if repaired is None:
        return []
    found: list[str] = []
    for start in range(1, state.next_seq, _TURNS_AT_ONCE):
        turns, _ = await _read(store, state.conversation_id, list(range(start, start + _TURNS_AT_ONCE)))
        found += [f"{turn.id}: lost, repaired on {repaired}" for turn in turns.values() if _is_lost(turn, repaired)]
    return found


async def _when_repaired(store: Store, state: State) -> str | None:
    """The day of the last repair that lost a turn; None if there was none."""
    try:
        day = await store.extra(state.conversation_id, REPAIRED)
    except BrokenHistory:  # `store.check` reports it
        return None
    return None if day is None else day.decode("utf-8", "replace")


def _is_lost(turn: Turn, repaired: str | None) -> bool:
    return repaired is not None and turn.content == LOST_TEXT


async def _run_faults(store: Store, state: State, run: Run, known: Sequence[str], repaired: str | None) -> list[str]:
    """known: faults that are reported already."""
    faults: list[str] = []
    conversation = state.conversation_id
    previous = await _digest(store, conversation, run.parent_seq) if run.parent_seq else b""
    end = run_end(state.runs, state.next_seq, run.first_seq)
    for start in range(run.first_seq, end + 1, _TURNS_AT_ONCE):
        seqs = list(range(start, min(end, start + _TURNS_AT_ONCE - 1) + 1))
        turns, unreadable = await _read(store, conversation, seqs)
        for seq in seqs:
            turn = turns.get(seq)
            if turn is None:
                if not any(f"turn number {seq} " in fault for fault in known):
                    faults.append(f"turn number {seq} {unreadable.get(seq, 'is missing')}")
                # The turns after it are checked against its stored digest.
                previous = await _digest(store, conversation, seq)
                continue
            if not _is_lost(turn, repaired):
                faults += _content_faults(turn, previous, state.salt)
            if turn.index != run.first_index + seq - run.first_seq:
                faults.append(f"{turn.id}: has the wrong index on its branch")
            # Turns stored by earlier versions count for all characters of their pictures.
            counted = (turn.content, shown_text(turn.content))
            if not any(tokenizer.is_count_of(turn.tokens, text, state.encoding) for text in counted):
                faults.append(f"{turn.id}: its token count is not that of its content")
            previous = turn.digest
    return faults


def _content_faults(turn: Turn, previous: bytes | None, salt: bytes) -> list[str]:
    """previous: the digest of the turn before; None if it can't be read."""
    if turn.is_redacted:  # its digest is that of what it was; the turns after it are checked against that
        return [] if is_redacted_text(turn.content) else [f"{turn.id}: is marked as redacted but has other content"]
    if previous is None:
        return []
    digest = tree.turn_digest(previous, turn.role, turn.name, turn.call_id, turn.content, salt)
    return [] if digest == turn.digest else [f"{turn.id}: its content hashes to t{turn.index}-{id_digits(digest)}"]


async def _digest(store: Store, conversation: str, seq: int) -> bytes | None:
    """A turn's stored digest; None if it can't be read."""
    try:
        return next(iter(await store.digests(conversation, seq, seq)), None)
    except BrokenHistory:
        return None


async def _read(store: Store, conversation: str, seqs: list[int]) -> tuple[dict[int, Turn], dict[int, str]]:
    """Reads turns; returns those that can be read, and for the others why not."""
    try:
        return {turn.seq: turn for turn in await store.turns(conversation, seqs)}, {}
    except BrokenHistory as error:
        if len(seqs) == 1:
            return {}, {seqs[0]: f"can't be read: {error.message}"}
    found: dict[int, Turn] = {}
    unreadable: dict[int, str] = {}
    for half in (seqs[: len(seqs) // 2], seqs[len(seqs) // 2 :]):
        more, why = await _read(store, conversation, half)
        found |= more
        unreadable |= why
    return found, unreadable


async def _node_faults(store: Store, state: State) -> list[str]:
    conversation = state.conversation_id
    closings = await store.closings(conversation, 1, state.next_seq - 1)
    nodes = {node.digest: node for _, node in closings}
    faults: list[str] = []
    for closer, node in closings:
        children = [nodes[digest] for digest in node.children if digest in nodes]
        digests: list[bytes] = []
        if node.level == 0:
            lineage = Lineage.of(state.runs, closer)
            for first_seq, last_seq in lineage.ranges(node.first, node.last):
                digests += await store.digests(conversation, first_seq, last_seq)
        faults += tree.find_faults(node, children, digests, state.salt)
    unsummarized = set(nodes) - set(await store.summaries(conversation, list(nodes)))
    return faults + [f"{nodes[digest].id}: has no summary" for digest in sorted(unsummarized)]
