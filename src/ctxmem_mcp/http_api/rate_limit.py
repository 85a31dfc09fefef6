"""How often a principal may ask: a bucket that fills again as time goes by."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

# So many principals' buckets are remembered; a full one need not be.
BUCKETS_MAX = 10_000
# What sums of fractions may come out short of, so that who waits as told gets in.
ROUNDING = 1e-9


class Rates:
    """per_minute None: no limit. A minute's worth may come at once."""

    def __init__(self, per_minute: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, principal: str) -> int:
        """Takes one request; gives 0, or the whole seconds to wait where it is one too many (then none is taken)."""
        if self._most is None:
            return 0
        now = self._clock()
        left, at = self._buckets.get(principal, (float(self._most), now))
        left = min(float(self._most), left + (now - at) * self._most / 60)
        allowed = left >= 1 - ROUNDING
        self._buckets[principal] = (left - allowed, now)
        if len(self._buckets) > BUCKETS_MAX:
            self._drop_full(now)
        return 0 if allowed else max(1, math.ceil((1 - left) * 60 / self._most))

    def _drop_full(self, now: float) -> None:
        assert self._most is not None
        most = self._most
        self._buckets = {
            principal: (left, at) for principal, (left, at) in self._buckets.items()
            if left + (now - at) * most / 60 < most
        }  # fmt: skip
