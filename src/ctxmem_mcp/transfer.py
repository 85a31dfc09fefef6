"""Copies a conversation from one memory to another, with its branches and written summaries.

Ids name content, so turns keep their ids in the target, unless another principal's salt keys them there. Copying twice
changes nothing; if the target's conversation went on, the copy becomes a branch of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ctxmem_mcp.errors import Forgotten, ForgottenBranch, NotFound, UnknownNode
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import EXTRACTIVE, Source, Turn, to_new_turns
from ctxmem_mcp.results import OutlineNode

# Turns per transaction.
CHUNK_TURNS = 1_000


@dataclass(frozen=True, slots=True)
class TransferResult:
    """What was copied. turns: on all branches. new: turns that the target did not have. summaries: written ones."""

    conversation_id: str
    head: str
    turns: int
    new: int
    summaries: int


async def transfer_conversation(
    source: Memory, conversation_id: str, target: Memory, *, again: bool = False, until: str | None = None
) -> TransferResult:
    """Copies a conversation with all its branches.

    The source's head becomes the target's too, unless nothing was new or the target's own head follows it.

    Args:
        source: Where it is.
        conversation_id: The conversation.
        target: Where to copy it.
        again: Copy it even if it was forgotten in the target.
        until: Copy only the branch that ends at this turn. By default, all branches are copied.

    Raises:
        Forgotten: The target has forgotten it.
        UnknownConversation: The source has no such conversation.
        Unavailable: A store can't be used, or others keep changing the conversation.
        Corrupt: The source is damaged.
    """
    before = await _head(target, conversation_id)
    state, tips = await source.info(conversation_id), await _tips(source, conversation_id, until)
    if again:
        branches = [await source.history(conversation_id, turn_id=tip.id) for tip in tips]
        await target.allow_again(conversation_id, list(map(to_new_turns, branches)))
    new = summaries = 0
    head = ""
    for tip in tips:
        turns = await source.history(conversation_id, turn_id=tip.id)
        head, added = await _sync_branch(target, conversation_id, turns, state.retention_days, state.space)
        new += added
        summaries += await _add_written_summaries(source, conversation_id, tip, target)
    stays = before and (not new or head in {turn.id for turn in await target.history(conversation_id, turn_id=before)})
    head = before if before and stays else head
    if await _head(target, conversation_id) != head:
        await target.revert(conversation_id, head)
    return TransferResult(conversation_id, head, state.turns, new, summaries)


async def merge_conversation(source: Memory, conversation_id: str, target: Memory) -> tuple[int, list[str]]:
    """Adds the turns of a copy of a conversation that was continued elsewhere.

    The target's head stays, unless it is the end of a branch that the copy's head continues. The conversation is kept
    for as long as either copy is.

    Returns:
        How many turns were new, and the ids of the first turns of what the target has forgotten.
    """
    state, before = await source.info(conversation_id), await _head(target, conversation_id)
    ends = {turn.id for turn in await target.branches(conversation_id)} if before else set()
    new, forgotten, tips = 0, dict[str, None](), await _tips(source, conversation_id, None)
    days = None if before else state.retention_days
    for tip in tips:
        turns = await source.history(conversation_id, turn_id=tip.id)
        try:
            _, added = await _sync_branch(
                target, conversation_id, turns, days, state.space,
                source=Source.MESSAGES, moves_head=before is None, stored_at=state.updated,
            )  # fmt: skip
        except Forgotten as error:
            known = await _digests(target, conversation_id) if isinstance(error, ForgottenBranch) else ()
            if known or await target.is_forgotten(conversation_id):  # else it only begins like one that was forgotten
                forgotten[next(turn.id for turn in turns if turn.digest not in known)] = None
            continue
        new += added
        await _add_written_summaries(source, conversation_id, tip, target)
        if tip is tips[-1] and before in ends and before in {turn.id for turn in turns} and before != tip.id:
            await target.advance_head(conversation_id, before, tip.id)
    if await _head(target, conversation_id):
        await target.extend_retention(state)
        if before is None:
            await _copy_names(source, conversation_id, target)
    return new, list(forgotten)


async def _copy_names(source: Memory, conversation_id: str, target: Memory) -> None:
    """Gives a new conversation the title and the agent that the copy has."""
    (there,) = [one for one in await source.all_conversations() if one.conversation_id == conversation_id]
    await target.set_title(conversation_id, there.title)
    if there.agent:
        await target.set_agent(conversation_id, there.agent)


async def _tips(source: Memory, conversation_id: str, until: str | None) -> list[Turn]:
    """Returns the last turns of the branches to copy, the head last."""
    if until is not None:
        return [await source.turn(conversation_id, until)]
    last, tips = await source.head(conversation_id), await source.branches(conversation_id)
    tips.sort(key=lambda tip: tip.seq == last.seq)
    return tips if any(tip.seq == last.seq for tip in tips) else [*tips, last]


async def _digests(memory: Memory, conversation_id: str) -> set[bytes]:
    try:
        return {digest for digest, _ in await memory.turn_digests(conversation_id)}
    except NotFound:
        return set()


async def _head(memory: Memory, conversation_id: str) -> str | None:
    try:
        return (await memory.head(conversation_id)).id
    except NotFound:
        return None


async def _sync_branch(
    target: Memory,
    conversation_id: str,
    turns: Sequence[Turn],
    days: int | None,
    space: str | None,
    *,
    source: Source = Source.TRANSCRIPT,
    moves_head: bool = True,
    stored_at: float | None = None,
) -> tuple[str, int]:
    head, new, new_turns = None, 0, to_new_turns(turns)
    for start in range(0, len(turns), CHUNK_TURNS):
        done = await target.sync(
            new_turns[start : start + CHUNK_TURNS],
            conversation_id=conversation_id,
            after=head,
            retention_days=days,
            space=space,
            source=source,
            moves_head=moves_head,
            stored_at=stored_at,
        )
        head, new = done.head, new + done.appended
    return head or "", new


async def _add_written_summaries(source: Memory, conversation_id: str, tip: Turn, target: Memory) -> int:
    """Adds the written summaries of the branch to the nodes that the target has too; returns their number."""
    count = 0
    for root in await source.outline(conversation_id, turn_id=tip.id):
        for node in _nodes_under(root):
            if node.id is None or node.summary.author == EXTRACTIVE:
                continue
            try:
                await target.add_summary(conversation_id, f"n{node.first}-{node.last}", node.summary)
                count += 1
            except UnknownNode:
                continue
    return count


def _nodes_under(node: OutlineNode) -> Iterator[OutlineNode]:
    yield node
    for child in node.children:
        yield from _nodes_under(child)
