"""Rate limiting per principal: a token bucket that refills continuously."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

# Above this number of buckets, full ones are dropped: a missing bucket counts as full.
BUCKETS_MAX = 10_000
# Sums of fractions may fall short of one by this much; a client that waits exactly as long as required is admitted.
ROUNDING = 1e-9


class RateLimiter:
    """Limits each principal to `per_minute` requests (None: no limit). A minute's requests may come at once."""

    def __init__(self, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def acquire(self, principal: str) -> int:
        """Counts one request of a principal, unless it exceeds the limit.

        Returns:
            0 if the request is admitted, else the whole seconds to wait; a rejected request is not counted.
        """
        if self._capacity is None:
            return 0
        now = self._clock()
        left, updated = self._buckets.get(principal, (float(self._capacity), now))
        left = min(float(self._capacity), left + (now - updated) * self._capacity / 60)
        allowed = left >= 1 - ROUNDING
        self._buckets[principal] = (left - allowed, now)
        if len(self._buckets) > BUCKETS_MAX:
            self._drop_full(now)
        return 0 if allowed else max(1, math.ceil((1 - left) * 60 / self._capacity))

    def _drop_full(self, now: float) -> None:
        assert self._capacity is not None
        capacity = self._capacity
        self._buckets = {
            principal: (left, updated) for principal, (left, updated) in self._buckets.items()
            if left + (now - updated) * capacity / 60 < capacity
        }  # fmt: skip
