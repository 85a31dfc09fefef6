"""Law 16 over random histories: with forks, reverts, redactions, and what clients send again."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.results import OutlineNode
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.testing.builders import NOW
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.transfer import transfer_conversation
from tests.histories import turns
from tests.memory.laws import Opener, law
from tests.view_parser import parse_view, turns_in

pytestmark = pytest.mark.anyio

ID, DAY = "c", "2026-11-30"
STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "fork", "revert", "redact", "redact"]), st.integers(0, 10_000)), max_size=12
)


@dataclass
class Model:
    """What was stored: each turn's content, parent and whether it is redacted, by id."""

    contents: dict[str, NewTurn] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    redacted: set[str] = field(default_factory=set)

    def path(self, turn_id: str) -> list[str]:
        parent = self.parents[turn_id]
        return [*(self.path(parent) if parent else []), turn_id]


async def take(memory: Memory, model: Model, step: tuple[str, int], turn: NewTurn) -> None:
    ids = list(model.contents)
    chosen = ids[step[1] % len(ids)]
    if step[0] == "revert":
        await memory.revert(ID, chosen)
    elif step[0] == "redact":
        turn_there = await memory.turn(ID, chosen)
        await memory.redact(ID, [turn_there.digest], DAY)
        model.redacted.add(chosen)
    else:
        parent = chosen if step[0] == "fork" else (await memory.head(ID)).id
        done = await memory.append(turn, conversation_id=ID, parent_id=parent)
        if done.turn_id not in model.contents:
            model.contents[done.turn_id], model.parents[done.turn_id] = turn, parent


@law(max_examples=15, kind="sqlite", history=turns(24), steps=STEPS, more=turns(12))
async def test_redaction_is_the_one_exception_to_lossless_and_closed(
    new_memory: Opener, history: list[NewTurn], steps: list[tuple[str, int]], more: list[NewTurn]
) -> None:
    memory = new_memory()
    model = await carry_out(memory, history, steps, more)
    await check(memory, model)


async def carry_out(memory: Memory, history: list[NewTurn], steps: list[tuple[str, int]], more: list[NewTurn]) -> Model:
    model = Model()
    done = await memory.sync(history, conversation_id=ID)
    for i, turn_id in enumerate(done.turn_ids):
        model.contents[turn_id], model.parents[turn_id] = history[i], done.turn_ids[i - 1] if i else None
    for i, step in enumerate(steps):
        await take(memory, model, step, more[i % len(more)])
    return model


async def check(memory: Memory, model: Model) -> None:
    assert await memory.verify(ID) == []
    info, tips = await memory.info(ID), await memory.branches(ID)
    assert info.turns == len(model.contents)
    for tip in tips:
        path = model.path(tip.id)
        branch = await memory.history(ID, turn_id=tip.id)
        assert [turn.id for turn in branch] == path, "every turn keeps its id"
        for turn in branch:
            is_redacted = turn.id in model.redacted
            assert turn.is_redacted == is_redacted
            assert turn.content == (f"[redacted {DAY}]" if is_redacted else model.contents[turn.id].content)
        # The client sends the whole branch again, as it was.
        again = await memory.sync([model.contents[turn_id] for turn_id in path], conversation_id=ID)
        assert (again.turn_ids, again.appended) == (path, 0)
    view = await memory.view(ID, token_budget=3_000)
    assert turns_in(parse_view(view.text)) == list(range(view.turns)), "the view tiles the branch"
    stored = {turn.id: turn.tokens for tip in tips for turn in await memory.history(ID, turn_id=tip.id)}
    assert sum(stored.values()) == info.tokens
    copy = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: NOW)
    await transfer_conversation(memory, ID, copy)
    for tip in tips:
        here, there = await memory.outline(ID, turn_id=tip.id), await copy.outline(ID, turn_id=tip.id)
        assert list(map(shape, here)) == list(map(shape, there)), "the tree follows from what is stored"
    assert await copy.verify(ID) == []


def shape(node: OutlineNode) -> object:
    return node.id, node.first, node.last, node.tokens, node.summary, [shape(child) for child in node.children]
