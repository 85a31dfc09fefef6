"""A memory over each store: what it writes is read back, found, listed and forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ctxmem_mcp import tree
from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.edge_loader import load_spine
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.testing.builders import NOW
from ctxmem_mcp.stores.testing.commit_tests import ODD_TEXTS
from ctxmem_mcp.stores.testing.fixtures import load
from tests.stores.samples import memory_over, sample_turns

pytestmark = pytest.mark.anyio


async def test_odd_texts_compressed_with_a_dictionary_are_returned_byte_for_byte(memory: Memory, store: Store) -> None:
    await memory.sync(sample_turns(150), conversation_id="c")
    head = (await memory.sync(sample_turns(150), conversation_id="c")).head
    done = await memory.sync([NewTurn("tool", text) for text in ODD_TEXTS], conversation_id="c", after=head)
    for turn_id, text in zip(done.turn_ids, ODD_TEXTS, strict=True):
        assert (await memory.turn("c", turn_id)).content == text
    assert await memory.verify("c") == []


async def test_pieces_by_id_and_by_turn(store: Store, memory: Memory) -> None:
    long = "\n\n".join(f"paragraph {i} " + "some words to fill it " * 20 for i in range(20))
    await memory.sync([NewTurn("user", "short"), NewTurn("tool", long), NewTurn("user", "")], conversation_id="c")
    found = await store.pieces_of("c", [2, 99, 1, 3])
    assert sorted(found) == [1, 2, 3]
    assert len(found[2]) > 3
    assert [len(found[1]), len(found[3])] == [1, 1]
    assert [(a.stop, a.id + 1) for a in found[2][:-1]] == [(b.start, b.id) for b in found[2][1:]]
    ids = [piece.id for piece in found[2]]
    assert await store.pieces("c", [*ids, 0, 999]) == {piece.id: piece for piece in found[2]}


async def test_the_spine_at_every_turn_is_that_of_all_nodes_closed_on_its_branch(store: Store, memory: Memory) -> None:
    ids = (await memory.sync(sample_turns(66, sentences=120), conversation_id="c")).turn_ids
    for at in (20, 41):
        await memory.sync(sample_turns(16, f"turn {at}", sentences=120), conversation_id="c", after=ids[at])
    state = await load(store)
    depth = 0
    for seq in range(1, state.next_seq):
        lineage = Lineage.of(state.runs, seq)
        closings = [await store.closings("c", *turns) for turns in lineage.ranges(0, lineage.length)]
        spine = tree.rebuild_spine(node for closed in closings for _, node in closed)
        assert await load_spine(store, replace(state, head=0), lineage) == spine
        depth = max(depth, len(spine))
    assert depth > 2


async def test_forgetting_returns_a_receipt_once(store: Store, memory: Memory) -> None:
    await memory.sync(sample_turns(60), conversation_id="c")
    await memory.append(NewTurn("user", "stays"), conversation_id="other")
    nodes = len(await store.closings("c", 1, 60))
    receipt = await store.forget("c")
    assert (receipt.conversation_id, receipt.turns, receipt.nodes) == ("c", 60, nodes)
    assert nodes > 0
    assert receipt.bytes > 0
    assert receipt.checked
    with pytest.raises(UnknownConversation):
        await store.forget("c")
    assert await store.load("c", NOW) is None
    assert [info.conversation_id for info in (await store.conversations(NOW)).conversations] == ["other"]
    new = await memory.append(NewTurn("user", "a new start"), conversation_id="c")
    assert (new.index, new.parent_id) == (0, None)


async def test_conversations_are_found_by_any_first_turn_most_recently_active_first(store: Store) -> None:
    clock = [NOW]
    memory = memory_over(store, lambda: clock[0])
    for name in ("one", "two", "three"):
        clock[0] += 0.25
        await memory.sync([NewTurn("user", "hello"), NewTurn("assistant", name)], conversation_id=name)
    clock[0] += 0.25
    await memory.sync([NewTurn("user", "hello"), NewTurn("assistant", "again")], conversation_id="two")
    root = (await store.digests("one", 1, 1))[0]
    assert await store.find(root, clock[0]) == ["two", "three", "one"]
    edited = await memory.sync([NewTurn("user", "hello, edited"), NewTurn("assistant", "x")], conversation_id="one")
    assert edited.forked
    second_root = (await memory.turn("one", edited.turn_ids[0])).digest
    assert await store.find(second_root, clock[0]) == ["one"]
    assert await store.find(root, clock[0]) == ["one", "two", "three"]
    assert await store.find((await store.digests("one", 2, 2))[0], clock[0]) == [], "a later turn is no root"


async def test_a_listing_describes_each_conversation(store: Store, memory: Memory) -> None:
    first = (await memory.sync(sample_turns(5), conversation_id="c", space="s", retention_days=7)).turn_ids
    await memory.append(NewTurn("user", "another way"), conversation_id="c", parent_id=first[2])
    (info,) = (await store.conversations(NOW)).conversations
    state = await load(store)
    assert (info.turns, info.tokens, info.branches, info.space, info.title, info.retention_days) == (
        6, state.tokens, 2, "s", state.title, 7,
    )  # fmt: skip
    assert info.head == (await memory.turn("c", "t3")).id
    assert (info.created_at, info.last_activity, info.expires_at) == (
        "2025-06-15T15:06:40Z", "2025-06-15T15:06:40Z", "2025-06-22T15:06:40Z",
    )  # fmt: skip
    assert info.bytes > 0
