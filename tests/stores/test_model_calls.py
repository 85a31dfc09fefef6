"""Calls of a model: one at a time about a conversation, within caps that hold over all of them, and gone with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from ctxmem_mcp.errors import UnknownConversation, UnknownNode
from ctxmem_mcp.models import EXTRACTIVE, Summary, day_of
from ctxmem_mcp.stores.base import LOST, CallRefusal, ModelCall, SpendLimits, Store
from ctxmem_mcp.stores.sqlite import SqliteStore
from tests.stores.commits import DAY, NOW, closing, extended, fresh

pytestmark = pytest.mark.anyio
CAPS = SpendLimits(tokens_per_day=1_000, tokens_per_conversation=500, lost_after_seconds=60)
LEAF, OTHER = closing(0, 0, 1), closing(1, 1, 2)
BETTER = Summary("model:m", "better")


async def begun(store: Store, *names: str) -> None:
    for name in names:
        commit = extended(fresh(name), ["one", "two"])
        await store.commit(replace(commit, closings=[LEAF, OTHER]), NOW)


def call(tokens: int = 100, digest: bytes = LEAF.node.digest, now: float = NOW) -> ModelCall:
    return ModelCall(digest, "model:m", now, tokens - 10, 10)


async def set_aside(store: Store, name: str = "c", wanted: ModelCall | None = None, now: float = NOW) -> ModelCall:
    got = await store.begin_call(name, wanted or call(now=now), CAPS, now)
    assert isinstance(got, ModelCall)
    return got


async def authors(store: Store, name: str = "c") -> Sequence[str]:
    found = await store.summaries(name, [LEAF.node.digest])
    return [summary.author for summary in found[LEAF.node.digest]]


async def test_a_call_sets_its_tokens_aside_and_settles_for_what_it_cost(store: Store) -> None:
    await begun(store, "c")
    one = await set_aside(store)
    assert await store.model_calls("c") == [one]
    assert await store.spent(day_of(NOW)) == 100
    ended = replace(one, tokens_in=30, tokens_out=5, outcome="kept")
    await store.end_call("c", ended, BETTER, NOW + 1)
    assert await store.model_calls("c") == [ended]
    assert await store.spent(day_of(NOW)) == 35
    assert await authors(store) == [EXTRACTIVE, "model:m"]


async def test_a_call_that_cost_nothing_leaves_no_trace(store: Store) -> None:
    await begun(store, "c")
    await store.end_call("c", await set_aside(store), None, NOW)
    assert await store.model_calls("c") == []
    assert await store.spent(day_of(NOW)) == 0
    await set_aside(store)


async def test_there_is_one_call_at_a_time_until_it_ends_or_is_lost(store: Store) -> None:
    await begun(store, "c", "d")
    first = await set_aside(store)
    assert await store.begin_call("c", call(digest=OTHER.node.digest), CAPS, NOW + 59) is CallRefusal.BUSY
    await set_aside(store, "d")
    second = await set_aside(store, now=NOW + 60)
    assert [(c.number, c.outcome) for c in await store.model_calls("c")] == [(first.number, LOST), (second.number, "")]
    assert await store.spent(day_of(NOW)) == 300
    # The one that was taken for lost comes after all: what it cost is known now.
    await store.end_call("c", replace(first, tokens_in=1, tokens_out=1, outcome="late"), None, NOW + 61)
    assert [c.outcome for c in await store.model_calls("c")] == ["late", ""]
    assert await store.spent(day_of(NOW)) == 202


async def test_a_node_that_somebody_wrote_about_is_left_alone(store: Store) -> None:
    await begun(store, "c")
    await store.add_summary("c", LEAF.node.digest, Summary("agent", "theirs"), NOW)
    assert await store.begin_call("c", call(), CAPS, NOW) is CallRefusal.ALREADY_WRITTEN
    other = await set_aside(store, wanted=call(digest=OTHER.node.digest))
    await store.end_call("c", replace(other, outcome="kept"), replace(BETTER, title="of the other"), NOW)
    assert await store.begin_call("c", call(digest=OTHER.node.digest), CAPS, NOW) is CallRefusal.ALREADY_WRITTEN


async def test_a_summary_that_somebody_wrote_meanwhile_stays_the_newest(store: Store) -> None:
    await begun(store, "c")
    one = await set_aside(store)
    await store.add_summary("c", LEAF.node.digest, Summary("agent", "theirs"), NOW)
    await store.end_call("c", replace(one, outcome="kept"), BETTER, NOW)
    assert await authors(store) == [EXTRACTIVE, "agent"]


async def test_a_conversations_cap_counts_what_is_set_aside(store: Store) -> None:
    await begun(store, "c", "d")
    for _ in range(4):
        await store.end_call("c", replace(await set_aside(store), outcome="rejected"), None, NOW)
    assert await store.begin_call("c", call(101), CAPS, NOW) is CallRefusal.CONVERSATION_LIMIT
    await set_aside(store, wanted=call(100))
    await set_aside(store, "d")


async def test_the_days_cap_holds_over_all_conversations_and_begins_anew_each_day(store: Store) -> None:
    names = [f"c{i}" for i in range(3)]
    await begun(store, *names)
    await set_aside(store, "c0", call(450))
    await set_aside(store, "c1", call(450))
    assert await store.begin_call("c2", call(101), CAPS, NOW) is CallRefusal.DAY_LIMIT
    assert await store.model_calls("c2") == []
    await set_aside(store, "c2", call(450, now=NOW + DAY), NOW + DAY)
    assert [await store.spent(day_of(NOW + i * DAY)) for i in range(3)] == [900, 450, 0]


async def test_what_was_spent_stays_spent_when_its_conversation_is_forgotten(store: Store) -> None:
    await begun(store, "c")
    await set_aside(store, wanted=call(400))
    await store.forget("c")
    assert await store.spent(day_of(NOW)) == 400


async def test_calls_are_about_nodes_that_are_there(store: Store) -> None:
    await begun(store, "c")
    with pytest.raises(UnknownConversation):
        await store.begin_call("nobody", call(), CAPS, NOW)
    with pytest.raises(UnknownConversation):
        await store.begin_call("c", call(), CAPS, NOW + 31 * DAY)
    with pytest.raises(UnknownNode):
        await store.begin_call("c", call(digest=bytes(16)), CAPS, NOW)
    one = await set_aside(store)
    with pytest.raises(UnknownConversation):
        await store.end_call("c", replace(one, outcome="kept"), BETTER, NOW + 31 * DAY)


async def test_of_many_that_begin_at_once_one_does(store: Store) -> None:
    await begun(store, "c")
    got: list[ModelCall | CallRefusal] = []

    async def begin() -> None:
        got.append(await store.begin_call("c", call(), CAPS, NOW))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(begin)
    assert sorted(isinstance(one, ModelCall) for one in got) == [False] * 7 + [True]


async def test_two_stores_over_one_folder_keep_one_account(tmp_path: Path) -> None:
    one, other = (SqliteStore(tmp_path, durability="normal") for _ in range(2))
    await begun(one, "c", "d")
    first = await set_aside(one, wanted=call(400))
    assert await other.begin_call("c", call(), CAPS, NOW) is CallRefusal.BUSY
    await set_aside(other, "d", call(500))
    assert await one.spent(day_of(NOW)) == await other.spent(day_of(NOW)) == 900
    await other.end_call("c", replace(first, outcome="kept"), BETTER, NOW)
    assert await authors(one) == [EXTRACTIVE, "model:m"]
    await one.close()
    await other.close()


async def test_a_days_account_is_made_anew_with_the_catalog(tmp_path: Path) -> None:
    import time

    now = time.time()  # files of other days are not looked at
    store = SqliteStore(tmp_path, durability="normal")
    for name in "cd":
        state = replace(fresh(name), created=now, expires=now + DAY)
        await store.commit(replace(extended(state, ["one", "two"], now=now), closings=[LEAF, OTHER]), now)
        await set_aside(store, name, call(300, now=now), now)
    await store.close()
    (tmp_path / "catalog.db").unlink()
    store = SqliteStore(tmp_path, durability="normal")
    assert await store.spent(day_of(now)) == 600
    assert await store.begin_call("d", call(300, now=now + 60), CAPS, now + 60) is CallRefusal.CONVERSATION_LIMIT
    await set_aside(store, "c", call(200, now=now + 60), now + 60)
    assert await store.spent(day_of(now)) == 800
    await store.close()
