"""Model calls in SQLite files: one account for all stores over a folder, rebuilt with the catalog."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from ctxmem_mcp.models import EXTRACTIVE, day_of
from ctxmem_mcp.stores.records import CallRefusal
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing.builders import DAY, NOW, extend, new_state
from ctxmem_mcp.stores.testing.model_call_tests import BETTER, LEAF, LIMITS, OTHER, authors, begin, create, make_call

pytestmark = pytest.mark.anyio


async def test_two_stores_over_one_folder_share_one_account(tmp_path: Path) -> None:
    one, other = (SqliteStore(tmp_path, durability="normal") for _ in range(2))
    await create(one, "c", "d")
    first = await begin(one, call=make_call(400))
    assert await other.begin_call("c", make_call(), LIMITS, NOW) is CallRefusal.BUSY
    await begin(other, "d", make_call(500))
    assert await one.spent(day_of(NOW)) == await other.spent(day_of(NOW)) == 900
    await other.end_call("c", replace(first, outcome="kept"), BETTER, NOW)
    assert await authors(one) == [EXTRACTIVE, "model:m"]
    await one.close()
    await other.close()


async def test_the_account_of_a_day_is_rebuilt_with_the_catalog(tmp_path: Path) -> None:
    now = time.time()  # files of other days are not opened
    store = SqliteStore(tmp_path, durability="normal")
    for name in "cd":
        state = replace(new_state(name), created=now, expires=now + DAY)
        await store.commit(replace(extend(state, ["one", "two"], now=now), closings=[LEAF, OTHER]), now)
        await begin(store, name, make_call(300, now=now), now)
    await store.close()
    (tmp_path / "catalog.db").unlink()
    store = SqliteStore(tmp_path, durability="normal")
    assert await store.spent(day_of(now)) == 600
    refused = await store.begin_call("d", make_call(300, now=now + 60), LIMITS, now + 60)
    assert refused is CallRefusal.CONVERSATION_LIMIT
    await begin(store, "c", make_call(200, now=now + 60), now + 60)
    assert await store.spent(day_of(now)) == 800
    await store.close()
