"""Explains evidence that is missing from a view: not found, ranked too low to fit, or shown only in part."""

from __future__ import annotations

import time

from bench.data.models import Conversation, Question
from bench.train.evidence import verbatim
from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.retrieve import Ranking, rank_branch
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.text import chunker, tokenizer


async def read_branch(store: Store, name: str) -> BranchReader:
    """Returns a reader of the branch of a conversation's head."""
    state = await store.load(name, time.time())
    assert state is not None
    return BranchReader(store, state, Lineage.of(state.runs, state.head))


async def miss_lines(store: Store, name: str, conversation: Conversation, question: Question, text: str) -> list[str]:
    """Returns the question and a line per piece of its evidence that the text does not contain."""
    ranking = await rank_branch(await read_branch(store, name), question.query)
    places = {turn: i for i, turn in enumerate(conversation.turns)}
    lines = [f"{question.category}: {question.query}"]
    for evidence in question.evidence:
        turn = conversation.turns[evidence.turn]
        places_of_it = (evidence, *evidence.alternatives)
        if any(e.text in text if e.text else verbatim(conversation.turns[e.turn].content, text) for e in places_of_it):
            continue
        containing = _pieces_with(turn, evidence.text)
        begins = " ".join((evidence.text or turn.content).split())[:90]
        lines.append(
            f"  {evidence.turn} ({turn.role}, {tokenizer.count(turn.content):,} tokens): "
            f"{_rank_of(ranking, places[evidence.turn], containing)}: {begins}"
        )
    return lines


def _pieces_with(turn: NewTurn, text: str | None) -> list[int]:
    """The start of each chunk of a turn that contains some of the text."""
    start = turn.content.find(text) if text else 0
    stop = start + len(text or turn.content)
    return [first for first, end in chunker.split(turn.content, turn.role) if first < stop and end > start]


def _rank_of(ranking: Ranking, index: int, containing: list[int]) -> str:
    """The ranks, from 1, of the chunks that contain it; a chunk that was not a candidate has none."""
    pieces = ranking.pieces
    ranks = [
        str(rank) for rank, found in enumerate(pieces, 1)
        if found.piece.index == index and found.piece.start in containing
    ]  # fmt: skip
    shown = f"ranked {', '.join(ranks)} of {len(pieces)}" if ranks else "not found"
    return f"{shown}, in {len(containing)} pieces" if len(containing) > 1 else shown
