"""The estimate of how likely a view shows the answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp import NewTurn, Settings, open_memory
from ctxmem_mcp.retrieval.confidence import CONFIDENCE_MAX, confidence
from ctxmem_mcp.retrieval.piece_table import PieceFacts, PieceTable
from ctxmem_mcp.retrieval.ranker import RankResult
from ctxmem_mcp.text import tokenizer
from tests.view_parser import parse_view


def ranked(scores: list[float], coverage: float = 0.5) -> RankResult:
    table = PieceTable([PieceFacts(i, i, 0, 20, 10, 0, 0, 0, "user") for i in range(len(scores))])
    columns = {"window": np.full(len(scores), coverage)}
    return RankResult(table, columns, np.array(scores, dtype=float), {})


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), st.floats(0, 1), st.data())
def test_more_chunks_never_lower_the_confidence(scores: list[float], coverage: float, data: st.DataObject) -> None:
    result = ranked(scores, coverage)
    more = data.draw(st.lists(st.integers(0, len(scores) - 1), unique=True))
    fewer = more[: data.draw(st.integers(0, len(more)))]
    assert 0 <= confidence(result, fewer) <= confidence(result, more) <= CONFIDENCE_MAX


def test_words_that_the_conversation_lacks_lower_the_confidence() -> None:
    known, unknown = ranked([3.0, 1.0], 0.8), ranked([3.0, 1.0], 0.0)
    assert confidence(known, [0]) > confidence(unknown, [0])


def test_an_empty_ranking_has_no_confidence_to_speak_of() -> None:
    assert confidence(ranked([]), []) < 0.5


@pytest.mark.anyio
async def test_the_header_states_the_confidence_of_a_view_for_a_query(tmp_path: Path) -> None:
    talk = [
        text
        for i in range(300)
        for text in (f"What about part {i} of the kiln?", f"Part {i} is a firebrick, glazed in batch {i * 7}. " * 6)
    ]
    async with open_memory(Settings(tmp_path)) as memory:
        await memory.sync(
            [NewTurn("assistant" if i % 2 else "user", text) for i, text in enumerate(talk)], conversation_id="c"
        )
        found = await memory.view("c", query="In which batch was firebrick 31 glazed?", token_budget=1_000)
        other = await memory.view("c", query="Who won the regatta at Cowes?", token_budget=1_000)
        assert found.confidence is not None
        assert "confidence" not in found.header  # no room
        large = await memory.view("c", query="In which batch was firebrick 31 glazed?", token_budget=16_000)
        assert f'"confidence":{large.confidence},' in large.header
        assert (other.confidence or 0) < 0.4 < found.confidence
        for query in (None, "What is left to do?", "What did we do so far?"):
            without = await memory.view("c", query=query, token_budget=16_000)
            assert without.confidence is None
            assert "confidence" not in without.header
        for budget in (300, 500, 5_000, 16_000, 17_000):
            view = await memory.view("c", query="the kiln's firebricks", token_budget=budget)
            assert view.shown_tokens == tokenizer.count(view.render()) <= budget
            assert parse_view(view.text)
