"""The laws that the tree alone must keep, over histories of every shape."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp import tree
from ctxmem_mcp.models import Node
from ctxmem_mcp.tree import Frontier, TurnFacts


@st.composite
def histories(draw: st.DrawFn, most: int = 400) -> list[TurnFacts]:
    """Turns with calls and results, pauses and topics, tiny and huge, as agents and people make them."""
    stubs: list[TurnFacts] = []
    at, open_calls, previous = 0.0, list[str](), b""
    for index in range(draw(st.integers(0, most))):
        kind = draw(st.sampled_from(["user", "assistant", "assistant", "call", "tool", "tool", "system"]))
        call_id = None
        if kind == "call":
            call_id = f"c{index}"
            open_calls.append(call_id)
        elif kind == "tool" and open_calls and draw(st.booleans()):
            call_id = open_calls.pop(draw(st.integers(0, len(open_calls) - 1)))
        at += draw(st.sampled_from([1.0, 20.0, 300.0, 5_000.0]))
        role = "assistant" if kind == "call" else kind
        tokens = draw(st.sampled_from([0, 3, 40, 200, 900, 2_500, 600_000]))
        topic = frozenset(draw(st.sampled_from(["", "abcdef", "abcxyz", "uvwxyz"])))
        previous = tree.turn_digest(previous, role, None, call_id, str(tokens))
        dated = at if draw(st.integers(0, 9)) else None
        stubs.append(TurnFacts(previous, index, role, tokens, call_id, dated, topic))
    return stubs


def grown(stubs: list[TurnFacts]) -> tuple[Frontier, list[Node]]:
    frontier, closed = Frontier(), list[Node]()
    for stub in stubs:
        growth = tree.grow(frontier, stub)
        frontier = growth.frontier
        closed += growth.closed
    return frontier, closed


@given(histories())
def test_tiling_the_frontier_accounts_for_every_turn_once_in_order(stubs: list[TurnFacts]) -> None:
    frontier, _ = grown(stubs)
    seen = [i for node in frontier.roots for i in range(node.first, node.last + 1)]
    assert seen + [stub.index for stub in frontier.leaf] == list(range(len(stubs)))


@given(histories())
def test_balance_fan_out_is_bounded_and_height_logarithmic(stubs: list[TurnFacts]) -> None:
    frontier, closed = grown(stubs)
    by_digest = {node.digest: node for node in closed}
    for node in closed:
        children = [by_digest[digest] for digest in node.children]
        turns = [stub.digest for stub in stubs[node.first : node.last + 1]] if node.level == 0 else []
        assert tree.faults(node, children, turns) == []
        assert all(child.level == node.level - 1 for child in children), "closed leaves are at one depth"
        if node.level == 0:
            assert 1 <= node.turns <= tree.LEAF_TURNS_MAX
    leaves = sum(node.level == 0 for node in closed)
    assert len(frontier.spine) <= 1 + math.log(max(1, leaves), tree.FANOUT_MIN) + 1
    assert all(len(level) <= tree.FANOUT_MAX for level in frontier.spine)


@given(histories())
def test_balance_an_append_closes_at_most_one_node_per_level(stubs: list[TurnFacts]) -> None:
    frontier = Frontier()
    for stub in stubs:
        growth = tree.grow(frontier, stub)
        assert [node.level for node in growth.closed] == list(range(len(growth.closed)))
        frontier = growth.frontier


@given(histories())
def test_a_leaf_keeps_its_ceiling_except_where_one_unit_alone_passes_it(stubs: list[TurnFacts]) -> None:
    _, closed = grown(stubs)
    for node in closed:
        if node.level or node.tokens <= tree.LEAF_TOKENS_MAX:
            continue
        leaf = stubs[node.first : node.last + 1]
        # Every border inside a leaf that is too big was forbidden: a result follows, or a call waited.
        spent = leaf[0].tokens
        for i in range(1, len(leaf)):
            forbidden = leaf[i].role == "tool" or tree.boundary_before(leaf[:i], leaf[i]) is None
            assert spent + leaf[i].tokens <= tree.LEAF_TOKENS_MAX or forbidden
            spent += leaf[i].tokens


@given(histories())
def test_a_call_and_its_result_are_in_one_leaf(stubs: list[TurnFacts]) -> None:
    _, closed = grown(stubs)
    leaf_of = {i: node for node in closed if node.level == 0 for i in range(node.first, node.last + 1)}
    call_at = {stub.call_id: stub.index for stub in stubs if stub.call_id and stub.role != "tool"}
    for stub in stubs:
        call = call_at.get(stub.call_id) if stub.role == "tool" and stub.call_id else None
        if call is None or call not in leaf_of or stub.index - call > tree.CALL_PATIENCE_TURNS:
            continue
        together = leaf_of[call]
        assert together.last >= stub.index or together.turns == tree.LEAF_TURNS_MAX


@given(histories(200), st.integers(0, 200))
def test_same_prefix_same_nodes(stubs: list[TurnFacts], at: int) -> None:
    """What closed while a prefix grew is what closed first while all of it grew."""
    _, all_closed = grown(stubs)
    _, prefix_closed = grown(stubs[:at])
    assert all_closed[: len(prefix_closed)] == prefix_closed


@given(histories(200), st.integers(0, 200))
def test_same_prefix_same_nodes_also_from_a_frontier_read_back(stubs: list[TurnFacts], at: int) -> None:
    """Growing on from spine and open leaf alone (all that a store keeps) closes the same nodes."""
    at = min(at, len(stubs))
    frontier, before = grown(stubs[:at])
    spine = tree.rebuild_spine(before)
    assert spine == frontier.spine or (not before and not any(frontier.spine))
    first = spine[0][-1].first if spine else 0
    leaf_first = spine[0][-1].last + 1 if spine else 0
    border = tree.boundary_before(stubs[first:leaf_first], stubs[leaf_first]) if leaf_first < at else None
    again = Frontier(tuple(stubs[leaf_first:at]), spine, tree.BREAK if border is None else border, frontier.sitting)
    assert again == frontier
    after = list(before)
    for stub in stubs[at:]:
        growth = tree.grow(again, stub)
        again = growth.frontier
        after += growth.closed
    assert after == grown(stubs)[1]


@given(histories(150), histories(60), st.integers(0, 150))
def test_branches_share_every_node_closed_before_they_part(a: list[TurnFacts], b: list[TurnFacts], at: int) -> None:
    at = min(at, len(a))
    previous = a[at - 1].digest if at else b""
    other = list(a[:at])
    for stub in b:
        previous = tree.turn_digest(previous, stub.role, None, stub.call_id, f"other {stub.tokens}")
        other.append(
            TurnFacts(
                previous, len(other), stub.role, stub.tokens, stub.call_id and f"o{stub.call_id}", stub.at, stub.topic
            )
        )
    ours = {node.digest for node in grown(a)[1]}
    for node in grown(other)[1]:
        assert (node.digest in ours) == (node.last < at) or node.last < at


def test_a_session_begins_at_a_long_pause() -> None:
    stubs = [TurnFacts(bytes([i]), i, "user", 10, None, at) for i, at in enumerate([0.0, 10.0, 9_000.0, 9_001.0])]
    frontier, _ = grown(stubs)
    assert frontier.sitting == 2


def test_a_huge_turn_is_one_turn_in_a_leaf_of_its_own_kind() -> None:
    stubs = [
        TurnFacts(b"a", 0, "user", 50),
        TurnFacts(b"b", 1, "assistant", 30, "c1"),
        TurnFacts(b"c", 2, "tool", 700_000, "c1"),
        TurnFacts(b"d", 3, "assistant", 60),
        TurnFacts(b"e", 4, "user", 60),
    ]
    frontier, closed = grown(stubs)
    assert [(node.first, node.last) for node in closed] == [(0, 2)]
    assert frontier.leaf_first == 3
