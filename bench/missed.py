"""Where evidence that is not in a view was lost: never found, ranked too low to fit, or shown in part only."""

from __future__ import annotations

import time

from bench.data.contract import Conversation, Question
from bench.train.evidence import verbatim
from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.retrieve import Ranking, rank_branch
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.text import chunking, tokenizer


async def branch_of(store: Store, name: str) -> BranchReader:
    """The branch that a conversation's head ends."""
    state = await store.load(name, time.time())
    assert state is not None
    return BranchReader(store, state, Lineage.of(state.runs, state.head))


async def lines(store: Store, name: str, conversation: Conversation, question: Question, text: str) -> list[str]:
    """The question, and a line for each piece of its evidence that the text does not hold."""
    ranking = await rank_branch(await branch_of(store, name), question.query)
    places = {turn: i for i, turn in enumerate(conversation.turns)}
    told = [f"{question.category}: {question.query}"]
    for evidence in question.evidence:
        turn = conversation.turns[evidence.turn]
        if evidence.text in text if evidence.text else verbatim(turn.content, text):
            continue
        holding = _holding(turn, evidence.text)
        begins = " ".join((evidence.text or turn.content).split())[:90]
        told.append(
            f"  {evidence.turn} ({turn.role}, {tokenizer.count(turn.content):,} tokens): "
            f"{_lost(ranking, places[evidence.turn], holding)}: {begins}"
        )
    return told


def _holding(turn: NewTurn, text: str | None) -> list[int]:
    """Where the pieces of a turn begin that hold some of the text."""
    start = turn.content.find(text) if text else 0
    stop = start + len(text or turn.content)
    return [first for first, end in chunking.split(turn.content, turn.role) if first < stop and end > start]


def _lost(ranking: Ranking, index: int, holding: list[int]) -> str:
    """The ranks, from 1, of the pieces that hold it; a piece that nothing pointed at has none."""
    ranks = [
        str(rank) for rank, found in enumerate(ranking.pieces, 1)
        if found.piece.index == index and found.piece.start in holding
    ]  # fmt: skip
    shown = f"ranked {', '.join(ranks)} of {len(ranking.pieces)}" if ranks else "not found"
    return f"{shown}, in {len(holding)} pieces" if len(holding) > 1 else shown
