"""Closed nodes and their summaries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ctxmem_mcp.errors import UnknownConversation, UnknownNode
from ctxmem_mcp.models import EXTRACTIVE, Highlight, Summary
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.testing.builders import DAY, NOW, extend, make_closing, make_digest, new_state
from ctxmem_mcp.stores.testing.fixtures import StoreTests


class NodeTests(StoreTests):
    async def test_closings_are_ordered_by_closer_and_level(self, store: Store) -> None:
        commit = extend(new_state(), list("abcdefgh"))
        closings = [
            make_closing(0, 1, 3), make_closing(2, 3, 5), make_closing(0, 3, 5, level=1), make_closing(4, 5, 7)
        ]  # fmt: skip
        await store.commit(replace(commit, closings=closings), NOW)
        pairs = [(c.closer, c.node) for c in closings]
        assert await store.closings("c", 1, 8) == pairs
        assert await store.closings("c", 4, 6) == pairs[1:3]
        assert await store.closings("c", 6, 6) == []
        assert await store.nodes_over("c", 0, 3) == [pairs[2]]
        assert await store.nodes_over("c", 0, 2) == []

    async def test_a_node_closed_on_two_branches_is_one_node_with_two_closers(self, store: Store) -> None:
        commit = extend(new_state(), list("abcdefgh"))
        closings = [make_closing(0, 1, 3, title="first"), make_closing(0, 1, 6, title="second")]
        await store.commit(replace(commit, closings=closings), NOW)
        assert [closer for closer, _ in await store.nodes_over("c", 0, 1)] == [3, 6]
        node = closings[0].node
        assert await store.nodes("c", [node.digest]) == {node.digest: node}
        (summary,) = (await store.summaries("c", [node.digest]))[node.digest]
        assert summary.title == "first"

    async def test_the_roots_of_a_branch_are_its_longest_nodes(self, store: Store) -> None:
        trunk = extend(new_state(), list("abcdefgh"))
        pair, next_pair, parent = make_closing(0, 1, 3), make_closing(2, 3, 5), make_closing(0, 3, 7, level=1)
        closed = [pair, next_pair, make_closing(4, 5, 7), parent]
        await store.commit(replace(trunk, closings=closed), NOW)
        # Turns 9..13 follow turn 6: the last node of the trunk, and its parent, are not of their branch.
        branch = extend(trunk.state, list("ghijk"), parent=6)
        leaf, others = make_closing(4, 6, 10), make_closing(2, 6, 12, level=1)
        await store.commit(replace(branch, closings=[leaf, others]), NOW)
        assert await store.branch_roots("c", [(1, 8)]) == [parent.node, closed[2].node]
        assert await store.branch_roots("c", [(1, 6)]) == [pair.node, next_pair.node]
        assert await store.branch_roots("c", [(1, 4)]) == [pair.node]
        assert await store.branch_roots("c", [(1, 6), (9, 11)]) == [pair.node, next_pair.node, leaf.node]
        assert await store.branch_roots("c", [(1, 6), (9, 13)]) == [pair.node, others.node]
        assert await store.branch_roots("c", [(1, 2)]) == []
        assert await store.branch_roots("c", []) == []

    async def test_nodes_are_returned_with_their_children_and_without_unknown_ones(self, store: Store) -> None:
        commit = extend(new_state(), list("abcd"))
        leaf = make_closing(0, 1, 3)
        parent = make_closing(0, 3, 4, level=1)
        parent = replace(parent, node=replace(parent.node, children=(leaf.node.digest, make_digest("x"))))
        await store.commit(replace(commit, closings=[leaf, parent]), NOW)
        digests = [make_digest("nobody"), parent.node.digest, leaf.node.digest]
        assert await store.nodes("c", digests) == {n.digest: n for n in (parent.node, leaf.node)}

    async def test_a_node_has_one_summary_per_author_oldest_first(self, store: Store) -> None:
        leaf = make_closing(0, 1, 3)
        await store.commit(replace(extend(new_state(), list("abcd")), closings=[leaf]), NOW)
        node = leaf.node.digest
        agent = Summary(
            "agent", "better", (Highlight("error", 1, "tool", "it\x00 failed\r"),), ("a/b.py", "🙂"), "more"
        )
        await store.add_summary("c", node, agent, NOW)
        await store.add_summary("c", node, Summary("some model", "other"), NOW)
        assert (await store.summaries("c", [node]))[node] == [leaf.summary, agent, Summary("some model", "other")]
        await store.add_summary("c", node, Summary("agent", "best"), NOW)
        found = (await store.summaries("c", [node, make_digest("nobody")]))[node]
        assert [(s.author, s.title) for s in found] == [
            (EXTRACTIVE, "a title"), ("some model", "other"), ("agent", "best"),
        ]  # fmt: skip

    async def test_a_summary_of_an_unknown_node_or_conversation_is_refused(self, store: Store) -> None:
        leaf = make_closing(0, 1, 3)
        await store.commit(replace(extend(new_state(), list("abcd")), closings=[leaf]), NOW)
        with pytest.raises(UnknownNode):
            await store.add_summary("c", make_digest("nobody"), Summary("agent", "t"), NOW)
        with pytest.raises(UnknownConversation):
            await store.add_summary("nobody", leaf.node.digest, Summary("agent", "t"), NOW)
        with pytest.raises(UnknownConversation):
            await store.add_summary("c", leaf.node.digest, Summary("agent", "t"), NOW + 31 * DAY)
