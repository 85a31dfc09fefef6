"""Views and searches by meaning: what they find with and without word vectors, also in conversations that lack some."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.retrieval.features import FEATURE_NAMES, SEMANTIC_FEATURES
from ctxmem_mcp.retrieval.ranker import WEIGHT_SETS, load_weights
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.embeddings import Embedder, load_embedder

pytestmark = pytest.mark.anyio
EMBEDDER = load_embedder("auto")
needs_vectors = pytest.mark.skipif(EMBEDDER is None, reason="there is no wheel of wordllama for this platform")
QUERY = "Which vehicle was repaired?"
CAR = "The mechanic got my old truck running again on Tuesday, new brakes and all."


def memory_with(store: Store, embedder: Embedder | None) -> Memory:
    return Memory(store, ExtractiveSummarizer(), clock=lambda: 1.0, embedder=embedder)


def sample_turns() -> list[NewTurn]:
    texts = [f"Matter {i}: we spoke of the weather in town {i} and what was for lunch there." for i in range(60)]
    texts[20] = CAR
    return [NewTurn("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)]


async def selection(memory: Memory, name: str = "c") -> list[tuple[str, str]]:
    """The turns in a view and why they are shown, in the order in which they were selected."""
    view = await memory.view(name, query=QUERY, token_budget=900, explain=True)
    return [(reason.turn_id, ", ".join(reason.why)) for reason in view.reasons]


def test_the_semantic_weights_extend_the_others() -> None:
    lexical, semantic = load_weights().by_kind, load_weights(semantic=True).by_kind
    assert set(semantic) == set(WEIGHT_SETS)
    for kind in WEIGHT_SETS:
        assert not set(SEMANTIC_FEATURES) & set(lexical[kind])
        assert set(semantic[kind]) <= {*FEATURE_NAMES, *SEMANTIC_FEATURES}
        assert semantic[kind]["meaning_leaf"] > 0


@needs_vectors
async def test_a_turn_that_shares_no_word_with_the_query_is_found_by_its_meaning(tmp_path: Path) -> None:
    memory = memory_with(InMemoryStore(), EMBEDDER)
    await memory.sync(sample_turns(), conversation_id="c")
    view = await memory.view("c", query=QUERY, token_budget=900)
    assert CAR in view.render()
    lexical = memory_with(InMemoryStore(), None)
    await lexical.sync(sample_turns(), conversation_id="c")
    assert (await selection(memory))[0][0] != (await selection(lexical))[0][0]
    assert "meaning" in (await selection(memory))[0][1]


@needs_vectors
async def test_both_stores_select_the_same_turns_for_the_same_reasons_also_after_a_restart(tmp_path: Path) -> None:
    in_memory, sqlite = memory_with(InMemoryStore(), EMBEDDER), memory_with(SqliteStore(tmp_path), EMBEDDER)
    for memory in (in_memory, sqlite):
        await memory.sync(sample_turns()[:31], conversation_id="c")
        for turn in sample_turns()[31:]:
            await memory.append(turn, conversation_id="c")
    expected = await selection(in_memory)
    assert await selection(sqlite) == expected
    await sqlite.close()
    reopened = memory_with(SqliteStore(tmp_path), EMBEDDER)
    assert await selection(reopened) == expected
    await reopened.close()


@needs_vectors
async def test_a_conversation_that_lacks_vectors_is_ranked_by_its_words(store: Store) -> None:
    lexical, semantic = memory_with(store, None), memory_with(store, EMBEDDER)
    await lexical.sync(sample_turns(), conversation_id="c")
    expected = await selection(lexical)
    assert await selection(semantic) == expected
    await semantic.append(NewTurn("user", "One more."), conversation_id="c")
    assert len(await store.vectors("c", range(1, 62))) == 1
    assert await selection(semantic) == await selection(lexical)


@needs_vectors
async def test_without_the_embedder_stored_vectors_change_nothing(store: Store) -> None:
    lexical, semantic = memory_with(store, None), memory_with(store, EMBEDDER)
    # Names of one length: a view has its conversation's name.
    await semantic.sync(sample_turns(), conversation_id="c1")
    await lexical.sync(sample_turns(), conversation_id="c2")
    assert len(await store.vectors("c1", range(1, 61))) == 60
    assert await store.vectors("c2", range(1, 61)) == {}
    assert await selection(lexical, "c1") == await selection(lexical, "c2")


@needs_vectors
async def test_other_branches_and_empty_turns_are_ranked_too(store: Store) -> None:
    memory = memory_with(store, EMBEDDER)
    first = await memory.sync([*sample_turns()[:10], NewTurn("tool", "")], conversation_id="c")
    await memory.append(NewTurn("user", "Another way."), conversation_id="c", parent_id=first.turn_ids[4])
    await memory.append(NewTurn("user", CAR), conversation_id="c")
    assert "meaning" in (await selection(memory))[0][1]
    view = await memory.view("c", query=QUERY, token_budget=900, turn_id=first.turn_ids[-1])
    assert CAR not in view.render()
