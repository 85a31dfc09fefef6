"""What two lists or texts begin with in common, and results that are remembered for it. Pure.

A request's messages are the objects of the request before, as far as it repeats them (`incremental_json`). So they are
compared by identity, at the speed of C.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, Generic, TypeVar

R = TypeVar("R")

# Lists that are remembered.
LISTS_MAX = 16
# How much of two texts is compared at a time.
_BLOCK_CHARS = 1 << 16


def shared_prefix(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Returns how many objects two lists have in common at their beginning."""
    same = list(map(is_, a, b))
    try:
        return same.index(False)
    except ValueError:
        return len(same)


def shared_text(a: str, b: str, a_start: int = 0, b_start: int = 0) -> int:
    """Returns how many characters two texts have in common from these places on."""
    length = min(len(a) - a_start, len(b) - b_start)
    at = 0
    while at < length and a.startswith(b[b_start + at : b_start + at + _BLOCK_CHARS], a_start + at):
        at += _BLOCK_CHARS
    low, high = min(at, length), min(at + _BLOCK_CHARS, length)
    while low < high:
        middle = (low + high + 1) // 2
        if a.startswith(b[b_start + low : b_start + middle], a_start + low):
            low = middle
        else:
            high = middle - 1
    return low


class PrefixCache(Generic[R]):
    """The results for the items of recent lists, each computed once while the list grows."""

    def __init__(self, size: int = LISTS_MAX) -> None:
        """size: lists that are remembered."""
        self._known: deque[tuple[list[Any], list[R]]] = deque(maxlen=size)

    def map(self, items: Sequence[Any], compute: Callable[[int], R]) -> list[R]:
        """Returns the result for each item.

        Args:
            items: the items, which are recognised by identity.
            compute: returns the result for the item at an index; it depends on this item alone.
        """
        known, results = self.longest(items)
        return self.keep(items, [*results, *map(compute, range(known, len(items)))])

    def longest(self, items: Sequence[Any]) -> tuple[int, list[R]]:
        """Returns how many of the items are known, and their results."""
        best, results = 0, list[R]()
        for known, found in self._known:
            if items and known and known[0] is items[0] and (shared := shared_prefix(known, items)) > best:
                best, results = shared, found
        return best, results[:best]

    def keep(self, items: Sequence[Any], results: list[R]) -> list[R]:
        """Remembers the results for these items, in place of those for a part of them. Returns the results."""
        for at, (known, _) in enumerate(self._known):
            if items and known and known[0] is items[0] and shared_prefix(known, items) * 2 > len(known):
                del self._known[at]
                break
        self._known.append((list(items), results))
        return results


class GroupCache(Generic[R]):
    """Lists of items as groups, and a result for each group; computed once while a list grows."""

    def __init__(self) -> None:
        self._groups: PrefixCache[list[Any]] = PrefixCache()
        self._results: PrefixCache[R] = PrefixCache()

    def split(self, items: Sequence[Any], joins: Callable[[Any, Any], bool]) -> list[list[Any]]:
        """Returns the groups of neighbours. joins: whether an item belongs to the group of the item before it."""
        # By item: the group that it is the last of so far. The group of the last known item may go on.
        known, of_items = self._groups.longest(items)
        groups: list[list[Any]] = []
        for at in range(known, len(items)):
            item = items[at]
            before = of_items[at - 1] if at else None
            joined = before is not None and joins(before[-1], item)
            of_items.append([*before, item] if joined and before is not None else [item])
        self._groups.keep(items, of_items)
        at = len(items)
        while at:
            groups.append(of_items[at - 1])
            at -= len(of_items[at - 1])
        groups.reverse()
        return groups

    def map(self, groups: Sequence[list[Any]], compute: Callable[[list[Any]], R]) -> list[R]:
        """Returns the result for each group."""
        return self._results.map(groups, lambda at: compute(groups[at]))
