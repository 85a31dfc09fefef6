"""Parsing queries, ranking chunks and ordering them for a view."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.retrieval import query as queries
from ctxmem_mcp.retrieval.features import FEATURE_NAMES, feature_columns
from ctxmem_mcp.retrieval.piece_table import PieceFacts, PieceTable
from ctxmem_mcp.retrieval.query import Intent, Period
from ctxmem_mcp.retrieval.ranker import (
    CANDIDATES,
    WEIGHT_SETS,
    BranchRanker,
    RankResult,
    Weights,
    conversation_kinds,
    load_weights,
)
from ctxmem_mcp.retrieval.selection import (
    RESERVE,
    RESERVE_OF_USER,
    RESERVE_OF_WORK,
    Candidate,
    Reserve,
    reserve_of,
    selection_order,
    with_endings,
)
from ctxmem_mcp.stores.records import TermHits
from ctxmem_mcp.text import analyzer, chunk_flags

HOUR = 3_600.0
Message = tuple[str, str]


def facts_of(turns: Sequence[Message], session_turns: int = 50, names: Sequence[str] = ()) -> list[PieceFacts]:
    return [
        PieceFacts(
            i, i, 0, 10 + len(text) // 4, len(analyzer.analyze(text)), int(chunk_flags.flags(text, role)),
            i - i % 10, i - i % session_turns, role, names[i % len(names)] if names else None, i * HOUR,
        )
        for i, (role, text) in enumerate(turns)
    ]  # fmt: skip


def hits_of(turns: Sequence[Message], terms: Sequence[str]) -> dict[str, TermHits]:
    places: dict[str, list[tuple[int, int]]] = {}
    for i, (role, text) in enumerate(turns):
        found = [*analyzer.analyze(text), *chunk_flags.speaker_terms(chunk_flags.flags(text, role), role)]
        for position, term in enumerate(found):
            places.setdefault(term, []).append((i, position))
    return {
        term: TermHits(len({i for i, _ in at}), [i for i, _ in at], [p for _, p in at])
        for term in terms
        if (at := places.get(term))
    }


def search(turns: Sequence[Message], query: str, names: Sequence[str] = ()) -> tuple[BranchRanker, list[PieceFacts]]:
    parsed = queries.parse(query, names)
    facts = facts_of(turns, names=names)
    mean = sum(f.words for f in facts) / max(1, len(facts))
    return BranchRanker(parsed, hits_of(turns, parsed.terms), len(turns), mean), facts


def ranked(turns: Sequence[Message], query: str, names: Sequence[str] = ()) -> RankResult:
    ranker, facts = search(turns, query, names)
    weights = load_weights().blend(conversation_kinds(facts))
    return ranker.rank([facts[o] for o in ranker.candidates], weights)


TALK: list[Message] = [
    ("user" if i % 2 == 0 else "assistant", f"We talked of matter {i} at length.") for i in range(40)
]


def with_turn(at: int, role: str, text: str, turns: Sequence[Message] = TALK) -> list[Message]:
    changed = list(turns)
    changed[at] = (role, text)
    return changed


def test_the_turn_that_contains_the_answer_ranks_first() -> None:
    turns = with_turn(20, "user", "My sister adopted a beagle named Waffles.")
    assert ranked(turns, "What is the name of the beagle my sister has?").pieces[0].ordinal == 20


def test_the_reply_to_a_matching_turn_ranks_next_without_sharing_a_word() -> None:
    turns = with_turn(20, "user", "Which museum should one see first?")
    turns = with_turn(21, "assistant", "Surely the Uffizi.", turns)
    order = [s.ordinal for s in ranked(turns, "Which museum should one see first?").pieces]
    assert set(order[:3]) & {21}


def test_neighbours_of_another_sitting_do_not_count() -> None:
    turns = [*TALK, *TALK]
    turns = with_turn(49, "user", "quetzalcoatl", turns)
    ranker, facts = search(turns, "quetzalcoatl")
    cols = feature_columns(queries.parse("quetzalcoatl"), ranker.matches, facts, 4.0)
    assert cols["before1"][50] == 0.0
    assert cols["after1"][48] > 0.0


def test_an_exact_identifier_beats_its_words() -> None:
    turns = with_turn(5, "assistant", "the parse config step reads config and can parse config")
    turns = with_turn(30, "assistant", "the step parseConfig reads things", turns)
    ranker, facts = search(turns, "what does parseConfig do")
    cols = feature_columns(queries.parse("what does parseConfig do"), ranker.matches, facts, 5.0)
    assert cols["exact"][30] == 1.0
    assert cols["exact"][5] == 0.0


def test_the_named_speaker_is_preferred() -> None:
    turns = [("user", "I went hiking with the dog."), ("assistant", "I went hiking with the dog.")] * 4
    best = ranked(turns, "Where did Ann go hiking?", names=["Ann", "Bob"]).pieces
    assert [s.ordinal % 2 for s in best[:4]] == [0, 0, 0, 0]


def test_a_question_about_an_error_prefers_tool_output() -> None:
    turns = with_turn(10, "tool", "setup.go:42: undefined: widget")
    turns = with_turn(30, "assistant", "I will look at the widget in setup.go", turns)
    assert ranked(turns, "What error did widget give in setup.go?").pieces[0].ordinal == 10


def test_prose_of_the_user_is_a_candidate_without_a_matching_word() -> None:
    noise: list[Message] = [("tool", f"build output line {i} flag") for i in range(3_000)]
    noise[1_234] = ("user", "Rather drop it altogether.")
    ranker, _ = search(noise, "build output flag")
    assert 1_234 in ranker.candidates
    assert len(ranker.candidates) <= CANDIDATES + 3 * 220


def test_the_contributions_add_up_to_the_score() -> None:
    turns = with_turn(20, "user", "My sister adopted a beagle named Waffles.")
    found = ranked(turns, "What is the name of the beagle my sister has?")
    best = found.pieces[0]
    assert sum(gain for _, gain in found.why(best.ordinal, most=99)) == pytest.approx(best.score, abs=0.05)


def test_a_query_of_stop_words_only_still_ranks() -> None:
    assert len(ranked(TALK, "what about it?").pieces) == len(TALK)


def test_a_capped_term_without_occurrences_is_ranked() -> None:
    parsed = queries.parse("matter of beagles")
    hits = {**hits_of(TALK, parsed.terms), "beagl": TermHits(9_000, (), (), True)}
    ranker = BranchRanker(parsed, hits, len(TALK), 5.0)
    assert ranker.rank(facts_of(TALK), load_weights().blend({"chat": 1.0})).pieces


ROLE_TEXT = st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.text(alphabet="abc ?1.", max_size=30))


@settings(max_examples=60)
@given(st.lists(ROLE_TEXT, min_size=1, max_size=40), st.text(alphabet="abc ?1.", max_size=30))
def test_every_candidate_is_scored_once_and_in_order(turns: list[Message], query: str) -> None:
    found = ranked(turns, query).pieces
    assert sorted(s.ordinal for s in found) == list(range(len(turns)))
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)
    assert found == ranked(turns, query).pieces


def test_the_weights_in_the_package_name_known_features_for_every_kind() -> None:
    weights = load_weights().by_kind
    assert set(weights) == set(WEIGHT_SETS)
    for kind in WEIGHT_SETS:
        assert set(weights[kind]) <= set(FEATURE_NAMES)
        assert weights[kind]["rel"] > 0


def test_a_question_about_coding_work_has_weights_of_its_own() -> None:
    weights = Weights({"coding": {"rel": 1.0}, "work": {"rel": 3.0}, "chat": {"rel": 5.0}})
    assert weights.blend({"coding": 0.5, "chat": 0.5}) == {"rel": 3.0}
    assert weights.blend({"coding": 0.5, "chat": 0.5}, wants_work=True) == {"rel": 4.0}


def test_the_kind_of_a_conversation_is_recognised_from_its_turns() -> None:
    coding: list[Message] = [("tool", "x = {1: 2}")] * 6 + [("assistant", "I ran it.")] * 4
    assert conversation_kinds(facts_of(coding))["coding"] == 1.0
    dialogue = facts_of([("user", "Short words."), ("assistant", "Short too.")] * 9, names=["Ann", "Bob"])
    assert conversation_kinds(dialogue)["dialogue"] == 1.0
    chat = facts_of([("user", "A question of mine?"), ("assistant", "A long answer. " * 150)] * 9)
    assert conversation_kinds(chat)["chat"] > 0.9
    assert sum(conversation_kinds([]).values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("query", "intent"),
    [
        ("When did we ship it?", Intent.WHEN),
        ("For what reason was the queue dropped?", Intent.WHY),
        ("Which problems came up with the parser?", Intent.ERROR),
        ("What did the user ask for?", Intent.USER_SAID),
        ("Remind me what you recommended", Intent.AGENT_SAID),
        ("How much did I spend?", Intent.HOW_MUCH),
        ("How did we restart it?", Intent.COMMAND),
        ("List all the things we changed", Intent.WHOLE),
        ("In what order did it happen?", Intent.WHOLE),
    ],
)
def test_an_intent_is_recognised_in_many_wordings(query: str, intent: Intent) -> None:
    assert intent in queries.parse(query).intents


def test_only_questions_about_everything_want_the_whole_history() -> None:
    assert queries.parse("Summarize everything so far").wants_whole_history
    assert not queries.parse("What is the port of the server?").wants_whole_history


@pytest.mark.parametrize(
    ("query", "period"),
    [
        ("on 7 July, 2023", Period(2023, 7, 7)),
        ("on May 8, 2022", Period(2022, 5, 8)),
        ("in March", Period(None, 3, None)),
        ("2024-02-29", Period(2024, 2, 29)),
        ("back in 2021", Period(2021, None, None)),
    ],
)
def test_dates_in_a_query_are_parsed(query: str, period: Period) -> None:
    assert queries.parse(query).periods == (period,)


def test_may_and_march_as_verbs_are_not_months() -> None:
    assert queries.parse("what may I do when they march on").periods == ()


def test_the_terms_of_pasted_text_are_limited() -> None:
    assert len(queries.parse(" ".join(f"word{i}x" for i in range(5_000))).terms) < 200


def test_several_small_pieces_precede_a_large_one() -> None:
    small = [Candidate(i, 1.0, 40, 0, "tool") for i in range(3)]
    assert selection_order([Candidate(9, 1.3, 900, 0, "tool"), *small], 1_000, coding=1.0)[-1] == 9


def test_part_of_a_coding_view_is_reserved_for_prose_of_the_agent_but_not_for_its_calls() -> None:
    call = int(chunk_flags.Flag.CALL)
    output = [Candidate(i, 5.0, 100, 0, "tool") for i in range(50)]
    # Names in backticks make no prose of it by its symbols, so the flag PROSE is not required.
    said = [Candidate(100 + i, 0.0, 100, 0, "assistant", None if i % 2 else "thinking") for i in range(20)]
    calls = [Candidate(200 + i, 1.0, 100, call, "assistant", "Bash") for i in range(20)]
    order = selection_order([*output, *said, *calls], 2_000, coding=1.0, reserve=Reserve(0.0, 0.4))
    assert sum(1 for o in order[:17] if 100 <= o < 200) == 7
    assert all(o < 200 for o in order[:17])


@pytest.mark.parametrize(
    ("query", "reserve"),
    [
        ("What was the result when we tried to run the tests?", RESERVE_OF_WORK),
        ("Why did the test agent detection fail?", RESERVE_OF_WORK),
        ("What did we change in parseConfig?", RESERVE_OF_WORK),
        ("What did the user say about the folder?", RESERVE_OF_USER),
        ("half the tests suddenly found nothing. what was the actual cause?", RESERVE),
        ("what bothered the linter about it? how did you fix that?", RESERVE),
    ],
)
def test_the_reserve_depends_on_what_the_query_asks_for(query: str, reserve: Reserve) -> None:
    assert reserve_of(queries.parse(query)) == reserve


def test_part_of_a_coding_view_is_reserved_for_prose_of_the_user() -> None:
    prose = int(chunk_flags.Flag.PROSE)
    output = [Candidate(i, 5.0, 100, 0, "tool") for i in range(50)]
    prose_pieces = [Candidate(100 + i, 0.0, 100, prose, "user") for i in range(50)]
    order = selection_order([*output, *prose_pieces], 2_000, coding=1.0, reserve=Reserve(0.3, 0.0))
    assert sum(1 for o in order[:17] if o >= 100) == 5
    assert sorted(order) == sorted(c.ordinal for c in [*output, *prose_pieces])
    assert all(o < 100 for o in selection_order([*output, *prose_pieces], 2_000, coding=0.0)[:50])


def chunk(ordinal: int, turn: int, role: str, tokens: int = 40) -> PieceFacts:
    return PieceFacts(ordinal, turn, 0, tokens, 9, int(chunk_flags.Flag.PROSE), 0, 0, role)


def test_the_agents_last_words_on_a_request_follow_a_hit_in_it() -> None:
    roles = ["user", "assistant", "tool", "assistant", "user", "assistant"]
    table = PieceTable(chunk(i, i, role) for i, role in enumerate(roles))
    scores = np.array([0.0, 5.0, 0.0, 1.0, 0.0, 2.0])
    order = [1, 5, 3, 0, 2, 4]
    assert list(with_endings(order, table, scores, 2_000)) == [1, 3, 5, 0, 2, 4]
    assert list(with_endings(order, table, scores, 1_000)) == order


def test_a_long_ending_does_not_follow_a_hit() -> None:
    table = PieceTable([chunk(0, 0, "assistant"), chunk(1, 1, "assistant", 900), chunk(2, 2, "user")])
    assert list(with_endings([0, 2, 1], table, np.zeros(3), 2_000)) == [0, 2, 1]
    report = PieceTable([chunk(0, 0, "assistant"), chunk(1, 1, "assistant", 280), chunk(2, 2, "user")])
    assert list(with_endings([0, 2, 1], report, np.zeros(3), 2_000)) == [0, 2, 1]
    assert list(with_endings([0, 2, 1], report, np.zeros(3), 4_000)) == [0, 1, 2]


@given(st.lists(st.sampled_from(["user", "assistant", "tool"]), min_size=1, max_size=30), st.randoms())
def test_endings_change_the_order_only(roles: list[str], chance: random.Random) -> None:
    table = PieceTable(chunk(i, i // 2, role) for i, role in enumerate(roles))
    order = list(range(len(roles)))
    chance.shuffle(order)
    scores = np.array([chance.random() for _ in roles])
    assert sorted(with_endings(order, table, scores, 8_000)) == sorted(order)
