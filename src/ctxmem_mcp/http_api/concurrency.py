"""Limits how many requests of one principal are in progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class ConcurrencyLimiter:
    """Counts each principal's requests that are in progress. limit: how many there may be; None: any number."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._in_progress: Counter[str] = Counter()

    @contextmanager
    def enter(self, principal: str) -> Iterator[bool]:
        """Counts a request inside the `with` block, unless there are too many. Yields whether it is admitted."""
        admitted = self.limit is None or self._in_progress[principal] < self.limit
        self._in_progress[principal] += admitted
        try:
            yield admitted
        finally:
            self._in_progress[principal] -= admitted
            if not self._in_progress[principal]:
                del self._in_progress[principal]
