"""On every real transcript in CTXMEM_EVAL_DIR: nothing is lost, views tile the turns and keep their budget, trees are
balanced."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ctxmem_mcp import tree
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.results import OutlineNode
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.transcripts import registry
from tests.memory.test_laws import every_turn_by_expanding
from tests.view_parser import parse_view, turns_in

pytestmark = pytest.mark.anyio
QUESTIONS = (None, "What errors did we encounter?", "why did the test fail in state.go", "what did the user decide")


def real_transcripts(folder: Path) -> list[tuple[str, list[NewTurn]]]:
    found = []
    for file in sorted((folder / "transcripts").rglob("*")):
        if not file.is_file():
            continue
        try:
            transcript = registry.parse(file.read_text("utf-8"), file.name)
        except InvalidArgument:
            continue
        found += [(file.name, list(one.turns)) for one in (transcript, *transcript.threads) if one.turns]
    assert len(found) > 40
    return found


def depth_and_fan_outs(roots: list[OutlineNode]) -> tuple[int, list[int]]:
    fan_outs, level, depth = [], [root for root in roots if root.id], 0
    while level:
        depth += 1
        fan_outs += [len(node.children) for node in level if node.children]
        level = [child for node in level for child in node.children]
    return depth, fan_outs


async def test_every_real_transcript_is_stored_and_covered_completely_by_a_balanced_tree(eval_dir: Path) -> None:
    """One test, because storing takes as long as all checks together."""
    for name, turns in real_transcripts(eval_dir):
        memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_790_000_000.0)
        await memory.sync(turns, conversation_id="c")
        assert await memory.verify("c") == []
        assert await every_turn_by_expanding(memory, "c") == {i: turn.content for i, turn in enumerate(turns)}, name
        for budget, question in zip((700, 2_000, 8_000, 20_000), QUESTIONS, strict=True):
            view = await memory.view("c", query=question, token_budget=budget)
            assert view.shown_tokens <= budget
            assert turns_in(parse_view(view.text)) == list(range(len(turns))), (name, question)
        depth, fan_outs = depth_and_fan_outs(await memory.outline("c"))
        assert all(tree.FANOUT_MIN <= fan_out <= tree.FANOUT_MAX for fan_out in fan_outs), name
        assert depth <= 2 + math.log(max(2, len(turns)), tree.FANOUT_MIN)
