"""Model calls: one at a time per conversation, within limits that hold over all of them, and forgotten with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from ctxmem_mcp.errors import UnknownConversation, UnknownNode
from ctxmem_mcp.models import EXTRACTIVE, Summary, day_of
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import LOST, CallRefusal, ModelCall, SpendLimits
from ctxmem_mcp.stores.testing.builders import DAY, NOW, extend, make_closing, new_state
from ctxmem_mcp.stores.testing.fixtures import StoreTests

LIMITS = SpendLimits(tokens_per_day=1_000, tokens_per_conversation=500, lost_after_seconds=60)
LEAF, OTHER = make_closing(0, 0, 1), make_closing(1, 1, 2)
BETTER = Summary("model:m", "better")


async def create(store: Store, *names: str) -> None:
    """Creates conversations of two turns with the nodes LEAF and OTHER."""
    for name in names:
        commit = extend(new_state(name), ["one", "two"])
        await store.commit(replace(commit, closings=[LEAF, OTHER]), NOW)


def make_call(tokens: int = 100, digest: bytes = LEAF.node.digest, now: float = NOW) -> ModelCall:
    return ModelCall(digest, "model:m", now, tokens - 10, 10)


async def begin(store: Store, name: str = "c", call: ModelCall | None = None, now: float = NOW) -> ModelCall:
    """Begins a call that must not be refused."""
    begun = await store.begin_call(name, call or make_call(now=now), LIMITS, now)
    assert isinstance(begun, ModelCall)
    return begun


async def authors(store: Store, name: str = "c") -> Sequence[str]:
    """The authors of LEAF's summaries."""
    found = await store.summaries(name, [LEAF.node.digest])
    return [summary.author for summary in found[LEAF.node.digest]]


class ModelCallTests(StoreTests):
    async def test_a_call_reserves_its_tokens_and_settles_for_what_it_cost(self, store: Store) -> None:
        await create(store, "c")
        call = await begin(store)
        assert await store.model_calls("c") == [call]
        assert await store.spent(day_of(NOW)) == 100
        ended = replace(call, tokens_in=30, tokens_out=5, outcome="kept")
        await store.end_call("c", ended, BETTER, NOW + 1)
        assert await store.model_calls("c") == [ended]
        assert await store.spent(day_of(NOW)) == 35
        assert await authors(store) == [EXTRACTIVE, "model:m"]

    async def test_a_call_that_cost_nothing_leaves_no_trace(self, store: Store) -> None:
        await create(store, "c")
        await store.end_call("c", await begin(store), None, NOW)
        assert await store.model_calls("c") == []
        assert await store.spent(day_of(NOW)) == 0
        await begin(store)

    async def test_there_is_one_call_at_a_time_until_it_ends_or_is_lost(self, store: Store) -> None:
        await create(store, "c", "d")
        first = await begin(store)
        assert await store.begin_call("c", make_call(digest=OTHER.node.digest), LIMITS, NOW + 59) is CallRefusal.BUSY
        await begin(store, "d")
        second = await begin(store, now=NOW + 60)
        assert [(c.number, c.outcome) for c in await store.model_calls("c")] == [
            (first.number, LOST), (second.number, ""),
        ]  # fmt: skip
        assert await store.spent(day_of(NOW)) == 300
        # The call that was taken for lost ends after all: now its cost is known.
        await store.end_call("c", replace(first, tokens_in=1, tokens_out=1, outcome="late"), None, NOW + 61)
        assert [c.outcome for c in await store.model_calls("c")] == ["late", ""]
        assert await store.spent(day_of(NOW)) == 202

    async def test_a_node_with_a_written_summary_gets_no_call(self, store: Store) -> None:
        await create(store, "c")
        await store.add_summary("c", LEAF.node.digest, Summary("agent", "theirs"), NOW)
        assert await store.begin_call("c", make_call(), LIMITS, NOW) is CallRefusal.ALREADY_WRITTEN
        other = await begin(store, call=make_call(digest=OTHER.node.digest))
        await store.end_call("c", replace(other, outcome="kept"), replace(BETTER, title="of the other"), NOW)
        call = make_call(digest=OTHER.node.digest)
        assert await store.begin_call("c", call, LIMITS, NOW) is CallRefusal.ALREADY_WRITTEN

    async def test_a_summary_that_somebody_wrote_during_the_call_stays_the_newest(self, store: Store) -> None:
        await create(store, "c")
        call = await begin(store)
        await store.add_summary("c", LEAF.node.digest, Summary("agent", "theirs"), NOW)
        await store.end_call("c", replace(call, outcome="kept"), BETTER, NOW)
        assert await authors(store) == [EXTRACTIVE, "agent"]

    async def test_the_limit_of_a_conversation_includes_reserved_tokens(self, store: Store) -> None:
        await create(store, "c", "d")
        for _ in range(4):
            await store.end_call("c", replace(await begin(store), outcome="rejected"), None, NOW)
        assert await store.begin_call("c", make_call(101), LIMITS, NOW) is CallRefusal.CONVERSATION_LIMIT
        await begin(store, call=make_call(100))
        await begin(store, "d")

    async def test_the_limit_of_a_day_holds_over_all_conversations_and_starts_again_each_day(
        self, store: Store
    ) -> None:
        names = [f"c{i}" for i in range(3)]
        await create(store, *names)
        await begin(store, "c0", make_call(450))
        await begin(store, "c1", make_call(450))
        assert await store.begin_call("c2", make_call(101), LIMITS, NOW) is CallRefusal.DAY_LIMIT
        assert await store.model_calls("c2") == []
        await begin(store, "c2", make_call(450, now=NOW + DAY), NOW + DAY)
        assert [await store.spent(day_of(NOW + i * DAY)) for i in range(3)] == [900, 450, 0]

    async def test_spent_tokens_stay_spent_when_their_conversation_is_forgotten(self, store: Store) -> None:
        await create(store, "c")
        await begin(store, call=make_call(400))
        await store.forget("c")
        assert await store.spent(day_of(NOW)) == 400

    async def test_a_call_needs_a_node_of_a_conversation_that_has_not_expired(self, store: Store) -> None:
        await create(store, "c")
        with pytest.raises(UnknownConversation):
            await store.begin_call("nobody", make_call(), LIMITS, NOW)
        with pytest.raises(UnknownConversation):
            await store.begin_call("c", make_call(), LIMITS, NOW + 31 * DAY)
        with pytest.raises(UnknownNode):
            await store.begin_call("c", make_call(digest=bytes(16)), LIMITS, NOW)
        call = await begin(store)
        with pytest.raises(UnknownConversation):
            await store.end_call("c", replace(call, outcome="kept"), BETTER, NOW + 31 * DAY)

    async def test_of_many_calls_that_begin_at_once_one_does(self, store: Store) -> None:
        await create(store, "c")
        results: list[ModelCall | CallRefusal] = []

        async def try_to_begin() -> None:
            results.append(await store.begin_call("c", make_call(), LIMITS, NOW))

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(try_to_begin)
        assert sorted(isinstance(result, ModelCall) for result in results) == [False] * 7 + [True]
