"""The bounded cache."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.lru import LRU


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from(["read", "write", "delete"]), st.integers(0, 6))))
def test_the_least_recently_used_entry_is_dropped(size: int, steps: list[tuple[str, int]]) -> None:
    cache: LRU[int, int] = LRU(size)
    model: OrderedDict[int, int] = OrderedDict()
    for value, (step, key) in enumerate(steps):
        if step == "write":
            cache[key] = value
            model[key] = value
        elif step == "delete":
            assert cache.pop(key, None) == model.pop(key, None)
        else:
            assert cache.get(key) == model.get(key)
        if step != "delete" and key in model:
            model.move_to_end(key)
        if len(model) > size:
            model.popitem(last=False)
        assert list(cache) == list(model)
    cache.clear()
    assert len(cache) == 0


def test_the_entries_are_read_in_the_order_of_use() -> None:
    cache: LRU[str, int] = LRU(3)
    cache.update(a=1, b=2, c=3)
    assert cache["a"] == 1
    assert list(cache.items()) == [("b", 2), ("c", 3), ("a", 1)]
    assert list(cache.values()) == [2, 3, 1]
