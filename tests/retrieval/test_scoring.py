"""Features over arrays equal those of plain loops, and scores the weighted sums of the features."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.retrieval import query as queries
from ctxmem_mcp.retrieval.features import FEATURE_NAMES, SEMANTIC_FEATURES, feature_columns
from ctxmem_mcp.retrieval.piece_table import PieceFacts, PieceTable
from ctxmem_mcp.retrieval.ranker import BranchRanker
from ctxmem_mcp.stores.records import TermHits
from tests.retrieval.plain_features import PlainFeatures

QUERIES = ("When did Ann fix the crash in parseConfig?", "what errors in May 2026?", "which command did I run", "why")


@st.composite
def situations(draw: st.DrawFn) -> tuple[queries.ParsedQuery, dict[str, TermHits], list[PieceFacts], int]:
    n = draw(st.integers(1, 40))
    parsed = queries.parse(draw(st.sampled_from(QUERIES)), ["Ann", "Bob"])
    hits = {}
    for term in parsed.terms:
        at = sorted(draw(st.lists(st.integers(0, n - 1), max_size=12)))
        hits[term] = TermHits(len(set(at)), at, [draw(st.integers(0, 60)) for _ in at], False)
    facts, turn, leaf, sitting = [], 0, 0, 0
    for ordinal in range(n):
        begins = draw(st.booleans())
        turn += begins and ordinal > 0
        leaf = turn if draw(st.integers(0, 4)) == 0 else leaf
        sitting = turn if draw(st.integers(0, 9)) == 0 else sitting
        facts.append(
            PieceFacts(
                ordinal,
                turn,
                0 if begins else 10,
                draw(st.integers(1, 3_000)),
                draw(st.integers(1, 300)),
                draw(st.integers(0, 262_143)),
                leaf,
                sitting,
                draw(st.sampled_from(["user", "assistant", "tool"])),
                draw(st.sampled_from([None, "Ann", "Bash", "thinking"])),
                draw(st.sampled_from([None, 1_780_000_000.0, 1_777_700_000.0])),
            )
        )
    chosen = [fact for fact in facts if draw(st.integers(0, 5))] or facts
    return parsed, hits, chosen, n


@given(situations(), st.randoms(use_true_random=False))
def test_the_fast_score_equals_the_weighted_sum_of_the_columns(situation: tuple, chance) -> None:  # type: ignore[no-untyped-def, type-arg]
    parsed, hits, facts, n = situation
    weights = {name: chance.uniform(-2, 2) for name in (*FEATURE_NAMES, *SEMANTIC_FEATURES)}
    ranker = BranchRanker(parsed, hits, n, 50.0)
    near = {fact.ordinal: chance.uniform(-1, 1) for fact in facts} if chance.random() < 0.7 else {}
    cols = feature_columns(parsed, replace(ranker.matches, similarities=near), facts, 50.0)
    assert (set(SEMANTIC_FEATURES) <= cols.keys()) == bool(near)
    ranked = ranker.rank(facts, weights, near)
    place = {fact.ordinal: i for i, fact in enumerate(facts)}
    for scored in ranked.pieces:
        slow = sum(weights.get(name, 0.0) * column[place[scored.ordinal]] for name, column in cols.items())
        assert scored.score == pytest.approx(slow, abs=1e-9)


@given(situations(), st.randoms(use_true_random=False))
def test_features_over_arrays_equal_those_of_plain_loops(situation: tuple, chance) -> None:  # type: ignore[no-untyped-def, type-arg]
    parsed, hits, facts, n = situation
    near = {fact.ordinal: chance.uniform(-1, 1) for fact in facts} if chance.random() < 0.7 else {}
    ranker = BranchRanker(parsed, hits, n, 50.0)
    columns = feature_columns(parsed, replace(ranker.matches, similarities=near), facts, 50.0)
    columns["closing"] = PieceTable(facts).closing
    for name, values in PlainFeatures(parsed, hits, facts, n, 50.0).columns(near).items():
        assert columns[name].tolist() == pytest.approx(values, abs=1e-9), name
