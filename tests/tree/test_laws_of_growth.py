"""The laws of the tree alone, for histories of every shape."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp import tree
from ctxmem_mcp.models import Node
from ctxmem_mcp.tree import Frontier, TurnFacts

# One draw per turn instead of five: each costs more than growing the tree by the turn.
_TURNS = list(
    itertools.product(
        ["user", "assistant", "assistant", "call", "tool", "tool", "system"],
        [1.0, 20.0, 300.0, 5_000.0],
        [0, 3, 40, 200, 900, 2_500, 600_000],
        [frozenset[str](), frozenset("abcdef"), frozenset("abcxyz"), frozenset("uvwxyz")],
        range(10),
    )
)


@st.composite
def histories(draw: st.DrawFn, most: int = 400) -> list[TurnFacts]:
    """Turns with calls and results, pauses and topics, tiny and huge."""
    history: list[TurnFacts] = []
    turns = st.sampled_from(_TURNS)
    at, open_calls, previous = 0.0, list[str](), b""
    for index in range(draw(st.integers(0, most))):
        kind, pause, tokens, topic, dated = draw(turns)
        call_id = None
        if kind == "call":
            call_id = f"c{index}"
            open_calls.append(call_id)
        elif kind == "tool" and open_calls and draw(st.booleans()):
            call_id = open_calls.pop(draw(st.integers(0, len(open_calls) - 1)))
        at += pause
        role = "assistant" if kind == "call" else kind
        previous = tree.turn_digest(previous, role, None, call_id, str(tokens))
        history.append(TurnFacts(previous, index, role, tokens, call_id, at if dated else None, topic))
    return history


def grow_all(history: list[TurnFacts]) -> tuple[Frontier, list[Node]]:
    frontier, closed = Frontier(), list[Node]()
    for turn in history:
        result = tree.grow(frontier, turn)
        frontier = result.frontier
        closed += result.closed
    return frontier, closed


@given(histories())
def test_the_frontier_covers_each_turn_once_in_order(history: list[TurnFacts]) -> None:
    frontier, _ = grow_all(history)
    seen = [i for node in frontier.roots for i in range(node.first, node.last + 1)]
    assert seen + [turn.index for turn in frontier.leaf] == list(range(len(history)))


@given(histories())
def test_the_fan_out_is_bounded_and_the_height_logarithmic(history: list[TurnFacts]) -> None:
    frontier, closed = grow_all(history)
    by_digest = {node.digest: node for node in closed}
    for node in closed:
        children = [by_digest[digest] for digest in node.children]
        turns = [turn.digest for turn in history[node.first : node.last + 1]] if node.level == 0 else []
        assert tree.find_faults(node, children, turns) == []
        assert all(child.level == node.level - 1 for child in children), "closed leaves are at one depth"
        if node.level == 0:
            assert 1 <= node.turns <= tree.LEAF_TURNS_MAX
    leaves = sum(node.level == 0 for node in closed)
    assert len(frontier.spine) <= 1 + math.log(max(1, leaves), tree.FANOUT_MIN) + 1
    assert all(len(level) <= tree.FANOUT_MAX for level in frontier.spine)


@given(histories())
def test_an_append_closes_at_most_one_node_per_level(history: list[TurnFacts]) -> None:
    frontier = Frontier()
    for turn in history:
        result = tree.grow(frontier, turn)
        assert [node.level for node in result.closed] == list(range(len(result.closed)))
        frontier = result.frontier


@given(histories())
def test_a_leaf_exceeds_its_maximum_only_if_no_boundary_was_allowed(history: list[TurnFacts]) -> None:
    _, closed = grow_all(history)
    for node in closed:
        if node.level or node.tokens <= tree.LEAF_TOKENS_MAX:
            continue
        leaf = history[node.first : node.last + 1]
        # No boundary was allowed inside a leaf that is too large: a result follows, or a call has no result yet.
        spent = leaf[0].tokens
        for i in range(1, len(leaf)):
            forbidden = leaf[i].role == "tool" or tree.boundary_before(leaf[:i], leaf[i]) is None
            assert spent + leaf[i].tokens <= tree.LEAF_TOKENS_MAX or forbidden
            spent += leaf[i].tokens


@given(histories())
def test_a_call_and_its_result_are_in_one_leaf(history: list[TurnFacts]) -> None:
    _, closed = grow_all(history)
    leaf_of = {i: node for node in closed if node.level == 0 for i in range(node.first, node.last + 1)}
    call_at = {turn.call_id: turn.index for turn in history if turn.call_id and turn.role != "tool"}
    for turn in history:
        call = call_at.get(turn.call_id) if turn.role == "tool" and turn.call_id else None
        if call is None or call not in leaf_of or turn.index - call > tree.CALL_PATIENCE_TURNS:
            continue
        together = leaf_of[call]
        assert together.last >= turn.index or together.turns == tree.LEAF_TURNS_MAX


@given(histories(200), st.integers(0, 200))
def test_equal_prefixes_close_equal_nodes(history: list[TurnFacts], at: int) -> None:
    """The nodes closed by a prefix are the first ones closed by the whole history."""
    _, all_closed = grow_all(history)
    _, prefix_closed = grow_all(history[:at])
    assert all_closed[: len(prefix_closed)] == prefix_closed


@given(histories(200), st.integers(0, 200))
def test_growing_from_a_rebuilt_frontier_closes_the_same_nodes(history: list[TurnFacts], at: int) -> None:
    """Spine and open leaf, which are all that a store keeps, suffice to close the same nodes."""
    at = min(at, len(history))
    frontier, before = grow_all(history[:at])
    spine = tree.rebuild_spine(before)
    assert spine == frontier.spine or (not before and not any(frontier.spine))
    first = spine[0][-1].first if spine else 0
    leaf_first = spine[0][-1].last + 1 if spine else 0
    boundary = tree.boundary_before(history[first:leaf_first], history[leaf_first]) if leaf_first < at else None
    again = Frontier(
        tuple(history[leaf_first:at]), spine, tree.BREAK if boundary is None else boundary, frontier.sitting
    )
    assert again == frontier
    after = list(before)
    for turn in history[at:]:
        result = tree.grow(again, turn)
        again = result.frontier
        after += result.closed
    assert after == grow_all(history)[1]


@given(histories(150), histories(60), st.integers(0, 150))
def test_branches_share_each_node_closed_before_they_diverge(a: list[TurnFacts], b: list[TurnFacts], at: int) -> None:
    at = min(at, len(a))
    previous = a[at - 1].digest if at else b""
    other = list(a[:at])
    for turn in b:
        previous = tree.turn_digest(previous, turn.role, None, turn.call_id, f"other {turn.tokens}")
        other.append(
            TurnFacts(
                previous, len(other), turn.role, turn.tokens, turn.call_id and f"o{turn.call_id}", turn.at, turn.topic
            )
        )
    ours = {node.digest for node in grow_all(a)[1]}
    for node in grow_all(other)[1]:
        assert (node.digest in ours) == (node.last < at) or node.last < at


def test_a_sitting_begins_after_a_long_pause() -> None:
    history = [TurnFacts(bytes([i]), i, "user", 10, None, at) for i, at in enumerate([0.0, 10.0, 9_000.0, 9_001.0])]
    frontier, _ = grow_all(history)
    assert frontier.sitting == 2


def test_a_huge_result_stays_in_the_leaf_of_its_call() -> None:
    history = [
        TurnFacts(b"a", 0, "user", 50),
        TurnFacts(b"b", 1, "assistant", 30, "c1"),
        TurnFacts(b"c", 2, "tool", 700_000, "c1"),
        TurnFacts(b"d", 3, "assistant", 60),
        TurnFacts(b"e", 4, "user", 60),
    ]
    frontier, closed = grow_all(history)
    assert [(node.first, node.last) for node in closed] == [(0, 2)]
    assert frontier.leaf_first == 3
