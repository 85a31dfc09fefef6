"""Where evidence that is not in a view was lost: never found, ranked too low to fit, or shown in part only."""

from __future__ import annotations

import time

from bench.data.contract import Conversation, Question
from bench.train.evidence import verbatim
from ctxmem_mcp import tokens
from ctxmem_mcp.memory.asking import Answer, ask
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.grounding import Branch
from ctxmem_mcp.stores.contract import Store


async def branch_of(store: Store, name: str) -> Branch:
    """The branch that a conversation's head ends."""
    state = await store.load(name, time.time())
    assert state is not None
    return Branch(store, state, Lineage.of(state.runs, state.head))


async def lines(store: Store, name: str, conversation: Conversation, question: Question, text: str) -> list[str]:
    """The question, and a line for each piece of its evidence that the text does not hold."""
    answer = await ask(await branch_of(store, name), question.query)
    places = {turn: i for i, turn in enumerate(conversation.turns)}
    told = [f"{question.category}: {question.query}"]
    for evidence in question.evidence:
        turn = conversation.turns[evidence.turn]
        if evidence.text in text if evidence.text else verbatim(turn.content, text):
            continue
        wanted = turn.content.find(evidence.text) if evidence.text else 0
        ranks = _ranks(answer, places[evidence.turn], wanted, len(evidence.text or turn.content))
        begins = " ".join((evidence.text or turn.content).split())[:90]
        told.append(
            f"  {evidence.turn} ({turn.role}, {tokens.count(turn.content):,} tokens): {_lost(ranks, answer)}: {begins}"
        )
    return told


def _ranks(answer: Answer, index: int, start: int, length: int) -> list[int]:
    """The ranks, from 1, of the pieces that hold it."""
    return [
        rank for rank, found in enumerate(answer.found, 1)
        if found.piece.index == index and found.piece.start < start + length and found.piece.stop > start
    ]  # fmt: skip


def _lost(ranks: list[int], answer: Answer) -> str:
    if not ranks:
        return "not found"
    return f"ranked {', '.join(map(str, ranks))} of {len(answer.found)}"
