"""Bounded caches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from typing import TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class LRU(MutableMapping[K, V]):
    """A mapping that holds at most `size` entries: one more drops the least recently used.

    Reading an entry counts as using it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # Not a dict: finding its oldest key gets slow once many before it were deleted.
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __getitem__(self, key: K) -> V:
        value = self._entries[key]
        self._entries.move_to_end(key)
        return value

    @overload
    def get(self, key: K, /) -> V | None: ...

    @overload
    def get(self, key: K, /, default: V) -> V: ...

    @overload
    def get(self, key: K, /, default: T) -> V | T: ...

    def get(self, key: K, /, default: object = None) -> object:
        """Returns an entry, or the default; in a third of the time that catching the inherited method's error takes."""
        return self[key] if key in self._entries else default

    def __setitem__(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def __delitem__(self, key: K) -> None:
        del self._entries[key]

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._entries))  # reading an entry reorders them

    def __len__(self) -> int:
        return len(self._entries)


class WordCache(dict[str, V]):
    """A value for each word, computed on first use. Two generations, so that common words stay.

    Reading a known word is a plain dict's read, which an LRU's is not.
    """

    def __init__(self, compute: Callable[[str], V], size: int, chars_max: int) -> None:
        """Creates an empty cache.

        Args:
            compute: returns the value of a word.
            size: words in a generation.
            chars_max: longer words are computed each time.
        """
        super().__init__()
        self._compute, self._size, self._chars_max = compute, size, chars_max
        self._older: dict[str, V] = {}

    def __missing__(self, word: str) -> V:
        found = self._older.get(word)
        if found is None:
            found = self._compute(word)
            if len(word) > self._chars_max:
                return found
        if len(self) >= self._size:
            self._older = dict(self)
            self.clear()
        self[word] = found
        return found
